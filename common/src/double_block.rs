//! Evidence that a producer of stake made two blocks for one slot, in a file that anybody can judge.
//!
//! ```text
//! block-chain-double/<chain id, 64 hex digits>
//! producer <public key, 64 hex digits>
//! slot <number>
//! <a header, in hex>
//! <another header, in hex>
//! ```

use crate::codec::{decode, encode};
use crate::hash::{BlockHash, ChainId};
use crate::header::{Header, Proof};
use crate::keys::PublicKey;
use crate::limits::MAX_HEADER_BYTES;

const PREFIX: &str = "block-chain-double/";
/// The largest file: two headers in hex, and the lines before them.
pub const MAX_DOUBLE_BYTES: usize = 4 * MAX_HEADER_BYTES + 512;

/// Two blocks of one producer for one slot. Only the check makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleBlock {
    chain: ChainId,
    producer: PublicKey,
    slot: u64,
    first: Header,
    second: Header,
}

/// Two headers that prove nothing against a producer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoubleBlockError {
    /// Not in its form.
    #[error("it is not evidence of two blocks in its one form: {0}")]
    Malformed(&'static str),
    /// They are one block, or of different chains, producers or slots.
    #[error("its blocks are not two of one producer for one slot: {0}")]
    NotDouble(&'static str),
    /// A signature is not the producer's.
    #[error("its {0} block is not signed by the producer")]
    Signature(&'static str),
}

/// Who made a block of stake, for which slot.
#[must_use]
pub const fn made_for(header: &Header) -> Option<(PublicKey, u64)> {
    match &header.proof {
        Proof::Stake { key, slot, .. } => Some((*key, *slot)),
        Proof::Genesis | Proof::Work { .. } | Proof::Authority { .. } => None,
    }
}

impl DoubleBlock {
    /// Judges two headers.
    ///
    /// # Errors
    /// Where they prove nothing.
    pub fn check(first: Header, second: Header) -> Result<Self, DoubleBlockError> {
        use DoubleBlockError::NotDouble;
        let none = NotDouble("one is no block of stake");
        let (one, other) = made_for(&first).zip(made_for(&second)).ok_or(none)?;
        if one != other {
            return Err(NotDouble("another producer, or another slot"));
        }
        if first.chain != second.chain {
            return Err(NotDouble("another chain"));
        }
        if first.hash() == second.hash() {
            return Err(NotDouble("it is one block"));
        }
        let (producer, slot) = one;
        for (which, header) in [("first", &first), ("second", &second)] {
            let Proof::Stake { signature, .. } = &header.proof else {
                return Err(DoubleBlockError::Signature(which));
            };
            let signed = producer.verify(&header.signing_bytes(), signature);
            signed.or(Err(DoubleBlockError::Signature(which)))?;
        }
        Ok(Self {
            chain: first.chain,
            producer,
            slot,
            first,
            second,
        })
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Who made both.
    #[must_use]
    pub const fn producer(&self) -> PublicKey {
        self.producer
    }

    /// The slot that both are for.
    #[must_use]
    pub const fn slot(&self) -> u64 {
        self.slot
    }

    /// The hashes of both.
    #[must_use]
    pub fn blocks(&self) -> [BlockHash; 2] {
        [self.first.hash(), self.second.hash()]
    }

    /// Whether a text begins like this.
    #[must_use]
    pub fn is_begun_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{PREFIX}{}\nproducer {}\nslot {}\n{}\n{}\n",
            self.chain,
            self.producer,
            self.slot,
            hex::encode(encode(&self.first)),
            hex::encode(encode(&self.second))
        )
    }

    /// Reads a file, and judges it.
    ///
    /// # Errors
    /// Where it is not in its form, or proves nothing.
    pub fn parse(text: &str) -> Result<Self, DoubleBlockError> {
        use DoubleBlockError::Malformed;
        if text.len() > MAX_DOUBLE_BYTES {
            return Err(Malformed("it is too long"));
        }
        let lines: Vec<&str> = text.lines().collect();
        let [_, _, _, first, second] = *lines.as_slice() else {
            return Err(Malformed("it has not five lines"));
        };
        let header = |line: &str| decode::<Header>(&hex::decode(line).ok()?).ok();
        let (first, second) = header(first)
            .zip(header(second))
            .ok_or(Malformed("its headers cannot be read"))?;
        let read = Self::check(first, second)?;
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(Malformed("it is spelled in another way"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that meets what it does not expect has failed"
    )]

    use super::*;
    use crate::hash::Digest;
    use crate::keys::{SecretKey, Signature};
    use crate::merkle::empty_root;
    use crate::quantity::{Height, Timestamp};

    fn header(seed: u8, slot: u64, time: u64) -> Header {
        let key = SecretKey::from_seed(&[seed; 32]);
        let mut header = Header {
            chain: ChainId::from_bytes([1; 32]),
            height: Height::new(3),
            timestamp: Timestamp::new(time),
            previous: BlockHash::from_bytes([2; 32]),
            transactions_root: empty_root(),
            transaction_count: 0,
            state_digest: Digest::from_bytes([4; 32]),
            history_root: empty_root(),
            producer: key.public_key().address(),
            proof: Proof::Stake {
                key: key.public_key(),
                slot,
                vrf_proof: [0; 80],
                signature: Signature::from_bytes([0; 64]),
            },
        };
        let signing = header.signing_bytes();
        if let Proof::Stake { signature, .. } = &mut header.proof {
            *signature = key.sign(&signing);
        }
        header
    }

    #[test]
    fn two_blocks_for_one_slot_are_evidence() {
        let double = DoubleBlock::check(header(1, 7, 100), header(1, 7, 101)).unwrap();
        assert_eq!(double.slot(), 7);
        assert_eq!(DoubleBlock::parse(&double.to_text()), Ok(double));
    }

    #[test]
    fn what_can_be_honest_is_none() {
        let others = [
            (header(1, 7, 100), "one block"),
            (header(1, 8, 101), "another slot"),
            (header(2, 7, 101), "another producer"),
        ];
        for (other, reason) in others {
            let error = DoubleBlock::check(header(1, 7, 100), other)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
        let mut forged = header(1, 7, 101);
        forged.timestamp = Timestamp::new(102);
        let judged = DoubleBlock::check(header(1, 7, 100), forged);
        assert_eq!(judged, Err(DoubleBlockError::Signature("second")));
        let text = DoubleBlock::check(header(1, 7, 100), header(1, 7, 101))
            .unwrap()
            .to_text();
        for bad in [
            String::new(),
            text.replace("slot 7", "slot 8"),
            format!("{text}\n"),
            text.to_uppercase(),
            "x".repeat(MAX_DOUBLE_BYTES + 1),
        ] {
            assert!(matches!(
                DoubleBlock::parse(&bad),
                Err(DoubleBlockError::Malformed(_))
            ));
        }
    }
}
