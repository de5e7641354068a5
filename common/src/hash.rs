//! 32-byte identifiers, a type for each kind, and the SHA-256 they come from.
//!
//! Written as 64 lower-case hex digits everywhere a person or JSON sees them; the byte order is never turned round.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// SHA-256 (FIPS 180-4) over the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Text that is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not 64 hex digits")]
pub struct ParseHashError {
    what: &'static str,
    text: String,
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Default, ToSchema,
        )]
        #[schema(value_type = String, pattern = "^[0-9a-fA-F]{64}$", example = json!("ab".repeat(32)))]
        pub struct $name([u8; 32]);

        impl $name {
            /// All bytes zero: stands where there is none (the parent of a genesis block).
            pub const ZERO: Self = Self([0; 32]);

            /// The bytes as they are hashed, stored and sent.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes as they are hashed, stored and sent.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;
            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                let mut bytes = [0; 32];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(_) => Err(ParseHashError { what: $what, text: text.chars().take(80).collect() }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as Deserialize<'de>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type!(
    /// A block's hash: `SHA-256(SHA-256(header without proof) ‖ proof)`.
    BlockHash, "block hash"
);
hash_type!(
    /// A chain's id: the hash of its genesis block.
    ChainId, "chain id"
);
hash_type!(
    /// A transaction's id: SHA-256 of its encoded bytes, signature included.
    TxId, "transaction id"
);
hash_type!(
    /// The root of a Merkle tree (RFC 6962).
    Root, "root"
);
hash_type!(
    /// A SHA-256 digest of something that has no id type of its own (a state, a value, a chain spec).
    Digest, "digest"
);
