//! Ed25519 keys and signatures by the rules of ZIP 215, and addresses.
//!
//! ZIP 215 says which signatures are valid so exactly that verifying one by one and in batches always agree, on every
//! machine: a plain RFC 8032 verifier leaves that open. A batch's coefficients come from a hash of the batch, because
//! this crate has no randomness; they are as unpredictable to a forger as the signatures themselves (as in BIP 340's
//! batch verification).

use crate::hash::sha256;
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{SigningKey, VerificationKey, VerificationKeyBytes, batch};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// The readable prefix of every address.
pub const ADDRESS_PREFIX: &str = "bcw";

/// Signatures in one batch: beyond this a larger batch gains little, and the cores have something to share.
const BATCH_SIGNATURES: usize = 256;

/// What is wrong with a key, a signature or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes or text are not a public key.
    #[error("{text:?} is not a public key of 64 hex digits")]
    PublicKey {
        /// The text given.
        text: String,
    },
    /// The signature does not belong to the key and message, by ZIP 215.
    #[error("the signature is not valid for this key and message")]
    Signature,
    /// The text is not a bech32m address with the prefix `bcw`.
    #[error("address {text:?} is not valid: {reason}")]
    Address {
        /// The text given.
        text: String,
        /// What the decoder met.
        reason: String,
    },
}

/// A secret key. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// From the 32-byte seed of RFC 8032.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from(*seed))
    }

    /// The 32-byte seed, to be stored with mode 0600 or encrypted.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        let mut seed = [0; 32];
        seed.copy_from_slice(self.0.as_ref());
        zeroize::Zeroizing::new(seed)
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(VerificationKeyBytes::from(VerificationKey::from(&self.0)).into())
    }

    /// Signs a message (RFC 8032, deterministic).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// The 32 bytes of an Ed25519 public key; whether they are a point is judged when a signature is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-fA-F]{64}$", example = json!("ab".repeat(32)))]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From the bytes of RFC 8032.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of RFC 8032.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The address: SHA-256 of the key.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(sha256(&[&self.0]))
    }

    /// Verifies one signature by ZIP 215.
    ///
    /// # Errors
    /// [`KeyError::Signature`] where it is not valid.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let key = VerificationKey::try_from(self.0).or(Err(KeyError::Signature))?;
        key.verify(&signature.0.into(), message)
            .or(Err(KeyError::Signature))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(KeyError::PublicKey {
                text: text.chars().take(80).collect(),
            }),
        }
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize<'de>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-fA-F]{128}$", example = json!("ab".repeat(64)))]
pub struct Signature([u8; 64]);

impl Signature {
    /// From the bytes of RFC 8032.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes of RFC 8032.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize<'de>>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// One signature to verify, with what it signs.
#[derive(Debug, Clone)]
pub struct SignedMessage {
    /// The signer.
    pub key: PublicKey,
    /// The signed bytes.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

/// Verifies many signatures, in batches on all cores; gives the positions of those that are not valid, in order.
///
/// Agrees with [`PublicKey::verify`] on every one (ZIP 215). A batch that fails is judged one by one.
#[must_use]
pub fn find_invalid_signatures(signed: &[SignedMessage]) -> Vec<usize> {
    signed
        .par_chunks(BATCH_SIGNATURES)
        .enumerate()
        .flat_map_iter(|(chunk_index, chunk)| {
            let first = chunk_index.saturating_mul(BATCH_SIGNATURES);
            let bad = if verify_batch(chunk) {
                Vec::new()
            } else {
                verify_singly(chunk)
            };
            bad.into_iter().map(move |place| first.saturating_add(place))
        })
        .collect()
}

fn verify_batch(chunk: &[SignedMessage]) -> bool {
    let mut verifier = batch::Verifier::new();
    let mut transcript = blake3::Hasher::new_derive_key("block-chain batch verification v1");
    for item in chunk {
        transcript.update(&item.key.0);
        transcript.update(&item.signature.0);
        transcript.update(&item.message.len().to_le_bytes());
        transcript.update(&item.message);
        let key = VerificationKeyBytes::from(item.key.0);
        verifier.queue((
            key,
            ed25519_zebra::Signature::from(item.signature.0),
            &item.message,
        ));
    }
    verifier.verify(TranscriptRng(transcript.finalize_xof())).is_ok()
}

fn verify_singly(chunk: &[SignedMessage]) -> Vec<usize> {
    let places = chunk.iter().enumerate();
    places
        .filter(|(_, item)| item.key.verify(&item.message, &item.signature).is_err())
        .map(|(place, _)| place)
        .collect()
}

/// The batch's coefficients, drawn from its own hash.
struct TranscriptRng(blake3::OutputReader);

impl rand_core::TryRng for TranscriptRng {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for TranscriptRng {}

/// Who sends, receives or produces: SHA-256 of a public key, written as bech32m (BIP 350) with the prefix `bcw`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Default, ToSchema,
)]
#[schema(value_type = String, pattern = "^bcw1[02-9ac-hj-np-z]{58}$", example = json!(Address::ZERO.to_string()))]
pub struct Address([u8; 32]);

impl Address {
    /// Nobody: the producer of a genesis block.
    pub const ZERO: Self = Self([0; 32]);

    /// From the SHA-256 of a public key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The SHA-256 of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = bech32::Hrp::parse(ADDRESS_PREFIX).or(Err(fmt::Error))?;
        let text = bech32::encode::<bech32::Bech32m>(prefix, &self.0).or(Err(fmt::Error))?;
        f.write_str(&text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refuse = |reason: String| KeyError::Address {
            text: text.chars().take(100).collect(),
            reason,
        };
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32m>(text)
            .map_err(|error| refuse(format!("{error} (mistyped?)")))?;
        if checked.hrp().to_lowercase() != ADDRESS_PREFIX {
            return Err(refuse(format!("it does not begin with {ADDRESS_PREFIX}1")));
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let array = <[u8; 32]>::try_from(bytes)
            .map_err(|bytes| refuse(format!("it holds {} bytes, not 32", bytes.len())))?;
        Ok(Self(array))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize<'de>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
