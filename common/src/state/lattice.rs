//! LtHash: a hash of a set that is updated element by element.
//!
//! Each element is stretched to 1,024 numbers of 16 bits; the hash is their sum modulo 2¹⁶, number by number, so
//! elements are added and taken away in any order. After Bellare and Micciancio's AdHash family with the parameters of
//! "Securing Update Propagation with Homomorphic Hashing" (Lewi et al., 2019); the stretching is BLAKE3's XOF in
//! key-derivation mode. The short digest that headers carry is SHA-256 of the 2,048 bytes.

use crate::hash::{Digest, sha256};
use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use borsh::{BorshDeserialize, BorshSerialize};
use std::sync::LazyLock;

const LANES: usize = 1_024;
const CONTEXT: &str = "block-chain state element v1";

/// The running hash of a state: 2,048 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct LatticeHash(Box<[u16; LANES]>);

impl Default for LatticeHash {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl LatticeHash {
    /// Counts an element in.
    pub fn add(&mut self, element: &[u8]) {
        for (lane, word) in self.0.iter_mut().zip(stretch(element).as_chunks::<2>().0) {
            *lane = lane.wrapping_add(u16::from_le_bytes(*word));
        }
    }

    /// Takes an element out again.
    pub fn remove(&mut self, element: &[u8]) {
        for (lane, word) in self.0.iter_mut().zip(stretch(element).as_chunks::<2>().0) {
            *lane = lane.wrapping_sub(u16::from_le_bytes(*word));
        }
    }

    /// Adds all that another has counted: hashes of parts may be made side by side.
    pub fn merge(&mut self, other: &Self) {
        for (lane, word) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*word);
        }
    }

    /// The digest that a header carries.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(sha256(&[&self.to_bytes()]))
    }

    /// The lanes in little-endian order, 2,048 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect()
    }

    /// From the bytes of [`Self::to_bytes`]; `None` for another length than 2,048.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<2>();
        if words.len() != LANES || !rest.is_empty() {
            return None;
        }
        let mut hash = Self::default();
        for (lane, word) in hash.0.iter_mut().zip(words) {
            *lane = u16::from_le_bytes(*word);
        }
        Some(hash)
    }
}

impl std::fmt::Debug for LatticeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LatticeHash({})", self.digest())
    }
}

impl BorshSerialize for LatticeHash {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        writer.write_all(&self.to_bytes())
    }
}

impl BorshDeserialize for LatticeHash {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let mut bytes = [0_u8; LANES * 2];
        reader.read_exact(&mut bytes)?;
        Ok(Self::from_bytes(&bytes).unwrap_or_default())
    }
}

/// The context's key, hashed once: it would cost as much as a short element again.
static CONTEXT_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT));

fn stretch(element: &[u8]) -> [u8; LANES * 2] {
    let mut out = [0; LANES * 2];
    blake3::Hasher::new_from_context_key(&CONTEXT_KEY)
        .update(element)
        .finalize_xof()
        .fill(&mut out);
    out
}
