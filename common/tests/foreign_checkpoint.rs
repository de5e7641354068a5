//! Our checkpoints and proofs judged by implementations that are not ours: Cloudflare's `signed_note` and `tlog_tiles`
//! for C2SP `signed-note` and `tlog-checkpoint`, Go's tile logs for RFC 6962's proofs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::hash::{BlockHash, ChainId};
use block_chain_common::history::{Frontier, prove_consistency, prove_inclusion};
use block_chain_common::keys::PublicKey;
use block_chain_common::quantity::Term;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use support::{Nodes, key};
use tlog_tiles::tlog::{Hash, check_record, check_tree, record_hash};

/// The key as `signed-note` writes it: name, the id of the key, algorithm and key.
fn vkey(name: &str, algorithm: u8, public: &PublicKey) -> String {
    let mut bytes = vec![algorithm];
    bytes.extend(public.as_bytes());
    let id = signed_note::key_id(name, &bytes);
    format!("{name}+{id:08x}+{}", STANDARD.encode(bytes))
}

/// C2SP `tlog-cosignature`: eight bytes of time and the signature, over the time and the note's text. The note's format
/// and key ids are `signed_note`'s, the signature is judged by its Ed25519 (dalek's, not ours).
struct Cosigner {
    name: String,
    id: u32,
    key: StandardVerifier,
}

impl Cosigner {
    fn new(public: &PublicKey) -> Self {
        let name = witness_name(public);
        let mut bytes = vec![4];
        bytes.extend(public.as_bytes());
        Self {
            id: signed_note::key_id(&name, &bytes),
            key: StandardVerifier::new(&vkey(&name, 1, public)).unwrap(),
            name,
        }
    }
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let (time, signature) = signature.split_at(8);
        let time = u64::from_be_bytes(time.try_into().unwrap());
        let mut message = format!("cosignature/v1\ntime {time}\n").into_bytes();
        message.extend(text);
        self.key.verify(&message, signature)
    }
}

/// A checkpoint of twenty headers, signed by key 9 and cosigned by keys 10 and 11.
fn checkpoint() -> (Checkpoint, String) {
    let mut frontier = Frontier::default();
    for number in 0..20_u8 {
        frontier.append(&[number; 33]);
    }
    let checkpoint = Checkpoint {
        chain: ChainId::from_bytes([1; 32]),
        size: 20,
        root: frontier.root(),
        term: Term::new(3),
        block: BlockHash::from_bytes([2; 32]),
    };
    let mut note = checkpoint.sign(&key(9)).unwrap();
    for seed in [10, 11] {
        note.cosign(&witness_name(&key(seed).public_key()), &key(seed), 1_700_000_000);
    }
    (checkpoint, note.to_string())
}

/// Everybody whose word is asked for.
fn verifiers(text: &str) -> VerifierList {
    let origin = text.lines().next().unwrap();
    let coordinator = StandardVerifier::new(&vkey(origin, 1, &key(9).public_key())).unwrap();
    let mut all: Vec<Box<dyn Verifier>> = vec![Box::new(coordinator)];
    for seed in [10, 11, 12] {
        all.push(Box::new(Cosigner::new(&key(seed).public_key())));
    }
    VerifierList::new(all)
}

#[test]
fn a_cosigned_checkpoint_is_a_signed_note_to_others() {
    let (checkpoint, text) = checkpoint();
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    let (signed, unknown) = note.verify(&verifiers(&text)).unwrap();
    assert_eq!(
        (signed.len(), unknown.len()),
        (3, 0),
        "the coordinator and two workers"
    );

    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(read.origin(), format!("block-chain/{}", checkpoint.chain));
    assert_eq!((read.size(), read.hash().0), (20, *checkpoint.root.as_bytes()));
    assert_eq!(read.extension(), format!("term 3\nblock {}\n", checkpoint.block));
    assert_eq!(
        read.to_bytes(),
        note.text(),
        "written by others, it is the same text"
    );
}

#[test]
fn others_refuse_a_checkpoint_that_was_changed() {
    let (_, text) = checkpoint();
    for (one, other) in [
        ("\n20\n", "\n21\n"),
        ("term 3", "term 4"),
        ("block 02", "block 03"),
    ] {
        let forged = text.replacen(one, other, 1);
        assert_ne!(forged, text);
        let note = Note::from_bytes(forged.as_bytes()).unwrap();
        assert!(note.verify(&verifiers(&forged)).is_err(), "{other:?}");
    }
}

#[test]
fn others_accept_our_proofs_and_refuse_them_elsewhere() {
    let (mut frontier, mut nodes) = (Frontier::default(), Nodes::default());
    let mut roots = vec![Hash([0; 32])];
    let leaves: Vec<_> = (0..40_u8).map(|number| vec![number; 33]).collect();
    for leaf in &leaves {
        nodes.0.extend(frontier.append(leaf));
        roots.push(Hash(*frontier.root().as_bytes()));
    }
    let hashes = |path: Vec<[u8; 32]>| path.into_iter().map(Hash).collect::<Vec<_>>();
    for size in 1..=40_u64 {
        let root = roots[usize::try_from(size).unwrap()];
        for index in 0..size {
            let path = hashes(prove_inclusion(index, size, &nodes).unwrap());
            let leaf = record_hash(&leaves[usize::try_from(index).unwrap()]);
            assert!(check_record(&path, size, root, index, leaf).is_ok());
            let other = record_hash(b"another");
            assert!(check_record(&path, size, root, index, other).is_err());
        }
        for old in 1..=size {
            let path = hashes(prove_consistency(old, size, &nodes).unwrap());
            let before = roots[usize::try_from(old).unwrap()];
            assert!(check_tree(&path, size, root, old, before).is_ok());
            assert!(old == size || check_tree(&path, size, root, old, root).is_err());
        }
    }
}
