//! The bodies of the fuzz targets, one for each decoder: libFuzzer drives them here, `common/tests/decoders.rs` on every
//! `make test`. Each holds a decoder to two promises: it never panics, and what it takes has one form only.

use block_chain_common::agreement::Acknowledgement;
use block_chain_common::block::Block;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::ChainSpec;
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::codec::{Format, decode, encode};
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::Evidence;
use block_chain_common::hash::ChainId;
use block_chain_common::header::Header;
use block_chain_common::keys::{Address, SecretKey};
use block_chain_common::note::SignedNote;
use block_chain_common::peer_message::Message;
use block_chain_common::receipt::Receipt;
use block_chain_common::recovery::Recovery;
use block_chain_common::transaction::Transaction;

/// A target's name and body.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target; `fuzz/fuzz_targets/` has one file for each name.
pub(crate) const TARGETS: [Target; 13] = [
    ("transaction", format::<Transaction>),
    ("header", format::<Header>),
    ("block", format::<Block>),
    ("chain_spec", chain_spec),
    ("acknowledgement", format::<Acknowledgement>),
    ("peer_message", format::<Message>),
    ("checkpoint", checkpoint),
    ("receipt", receipt),
    ("chain_keys", chain_keys),
    ("address", address),
    ("double_block", double_block),
    ("evidence", evidence),
    ("recovery", recovery),
];

/// What decodes is the only encoding of its value.
pub(crate) fn format<T: Format>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(encode(&value), bytes, "{} has two encodings", T::NAME);
    }
}

/// A spec that decodes is judged without a panic, too.
pub(crate) fn chain_spec(bytes: &[u8]) {
    format::<ChainSpec>(bytes);
    if let Ok(spec) = decode::<ChainSpec>(bytes) {
        drop(spec.check());
    }
}

/// A checkpoint's text has one form; a note's signatures may come in several.
pub(crate) fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(note) = SignedNote::parse(text) {
        assert_eq!(SignedNote::parse(&note.to_string()), Ok(note.clone()));
        if let Ok(checkpoint) = Checkpoint::from_note(&note) {
            assert_eq!(checkpoint.text(), note.text());
        }
    }
}

/// A receipt that is read is written the same, and judged without a panic.
pub(crate) fn receipt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(receipt) = Receipt::parse(text) {
        assert_eq!(receipt.to_text(), text);
        drop(receipt.verify(None));
    }
}

/// Keys that are read are written the same.
pub(crate) fn chain_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(keys) = ChainKeys::parse(text) {
        assert_eq!(keys.to_text(), text);
    }
}

/// An address has one form in lower case (BIP 350 allows the same in upper case).
pub(crate) fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string(), text.to_lowercase());
    }
}

/// Two blocks for one slot that are read are written the same.
pub(crate) fn double_block(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(double) = DoubleBlock::parse(text)
    {
        assert_eq!(double.to_text(), text);
    }
}

/// Evidence that is read is written the same, and judged without a panic.
pub(crate) fn evidence(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(evidence) = Evidence::parse(text) {
        assert_eq!(evidence.to_text(), text);
        drop(evidence.judge());
    }
}

/// A statement of a recovery that is believed has one text.
pub(crate) fn recovery(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let key = SecretKey::from_seed(&[1; 32]);
    if let Ok(recovery) = Recovery::verify(text, &ChainId::from_bytes([6; 32]), &key.public_key()) {
        assert!(text.starts_with(&recovery.text()));
    }
}
