//! Wallets of the node, and signing in, as JSON.

use block_chain_common::keys::{Address, PublicKey};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// The node's word, to sign in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// What `api.cookie` in the data directory holds.
    #[schema(value_type = String)]
    pub word: Zeroizing<String>,
}

/// Whether the browser is signed in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// Whether it is.
    pub signed_in: bool,
}

/// A wallet in the node's data directory. Its key never leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletView {
    /// Its address.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Its name, which stays here.
    pub label: Option<String>,
    /// The telephone number that it is for, which stays here.
    pub number: Option<String>,
    /// Whether its key rests encrypted, so that a passphrase is needed to sign.
    pub locked: bool,
    /// Whether it is the one that is taken where none is named.
    pub default: bool,
}

/// All wallets of the node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WalletList {
    /// The worker's own first.
    pub wallets: Vec<WalletView>,
}

/// A wallet to make, or to take from a file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWallet {
    /// Its name, 1 to 64 characters; it stays here.
    #[serde(default)]
    pub label: Option<String>,
    /// The telephone number that it is for; it stays here.
    #[serde(default)]
    pub number: Option<String>,
    /// The passphrase under which the key rests; without one it rests as it is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub passphrase: Option<Zeroizing<String>>,
    /// In place of the others: the text of a file that `wallet export` wrote with a passphrase.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub file: Option<Zeroizing<String>>,
}

/// What to sign with a wallet's key, and the passphrase where that rests encrypted.
#[derive(Deserialize)]
#[serde(try_from = "TaggedByName<Signable>")]
pub struct SignRequest(pub Signable);

/// serde takes a number for the name of a variant, too: its place in the source.
#[derive(Deserialize)]
struct TaggedByName<T> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    of: PhantomData<T>,
}

impl TryFrom<TaggedByName<Signable>> for SignRequest {
    type Error = serde_json::Error;

    fn try_from(tagged: TaggedByName<Signable>) -> Result<Self, Self::Error> {
        let mut all = tagged.rest;
        all.insert("type".to_owned(), tagged.kind.into());
        serde_json::from_value(all.into()).map(Self)
    }
}

/// What a wallet may sign by the node.
// Each has the passphrase as a field of its own, and a title: makers of clients know no choice within a whole, and name a type
// without a title by its place.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Signable {
    /// A record.
    #[schema(title = "SignPut")]
    Put {
        /// Its key, 1 to 1,024 bytes.
        #[schema(example = "invoice/2026/17")]
        key: String,
        /// Its value, at most 1 MiB.
        #[schema(example = "{\"paid\":true}")]
        value: String,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
    /// A message.
    #[schema(title = "SignMessage")]
    Message {
        /// Its text, at most 1 MiB.
        message: String,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
    /// Units to somebody.
    #[schema(title = "SignTransfer")]
    Transfer {
        /// To whom.
        to: Address,
        /// How many base units.
        amount: u64,
        /// A note of at most 256 bytes, which everybody can read.
        #[serde(default)]
        memo: String,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
    /// New units for somebody; the wallet needs the role `issue`.
    #[schema(title = "SignDeposit")]
    Deposit {
        /// For whom.
        to: Address,
        /// How many base units.
        amount: u64,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
    /// Units to lock as stake.
    #[schema(title = "SignStake")]
    Stake {
        /// How many base units.
        amount: u64,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
    /// Units of a stake to release.
    #[schema(title = "SignUnstake")]
    Unstake {
        /// How many base units.
        amount: u64,
        /// The passphrase, where the key rests encrypted.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        passphrase: Option<Zeroizing<String>>,
    },
}

impl Signable {
    /// Takes the passphrase out.
    pub fn take_passphrase(&mut self) -> Option<Zeroizing<String>> {
        match self {
            Self::Put { passphrase, .. }
            | Self::Message { passphrase, .. }
            | Self::Transfer { passphrase, .. }
            | Self::Deposit { passphrase, .. }
            | Self::Stake { passphrase, .. }
            | Self::Unstake { passphrase, .. } => passphrase.take(),
        }
    }
}

/// A receipt that this node has verified.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// `final`, `committed` or `claimed`: what it proves to who trusts the keys that this node knows.
    #[schema(example = "final")]
    pub standing: String,
    /// The same in words.
    pub meaning: String,
    /// The block's height.
    pub block: u64,
    /// Blocks that the checkpoint covers.
    pub checkpoint_size: u64,
    /// Members that have cosigned it.
    pub cosignatures: usize,
    /// Members that count.
    pub members: usize,
    /// Cosignatures that make a majority.
    pub needed: usize,
    /// How long the verification took, in microseconds.
    pub microseconds: u64,
}
