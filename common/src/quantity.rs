//! Quantities that cannot be mixed up or overflow unseen.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Nought.
            pub const ZERO: Self = Self(0);

            /// From a plain number, in this quantity's unit.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number, in this quantity's unit.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The sum, or `None` where it does not fit in 64 bits.
            #[must_use]
            pub const fn checked_add(self, other: u64) -> Option<Self> {
                match self.0.checked_add(other) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, or `None` below nought.
            #[must_use]
            pub const fn checked_sub(self, other: u64) -> Option<Self> {
                match self.0.checked_sub(other) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }

            /// The next value; stays at the largest there is.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The value before; stays at nought.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// Eight big-endian bytes: sorts as the number does, so it serves as a store's key.
            #[must_use]
            pub const fn to_key(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity!(
    /// A block's place in its chain; the genesis block has 0. Shown to users as `index`.
    Height
);
quantity!(
    /// Whole base units of a chain's currency.
    Amount
);
quantity!(
    /// How many transactions of a sender came before this one: the first has 0.
    Nonce
);
quantity!(
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp
);
quantity!(
    /// A leader's term of office; only ever grows.
    Term
);
