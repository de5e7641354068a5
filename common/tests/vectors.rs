//! Fixed bytes of every format: a change here is a change of the protocol, and of every chain there is.
//!
//! `vectors/formats` says what each value is, so that a second implementation can make the same.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::agreement::Acknowledgement;
use block_chain_common::block::Block;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::{Allocation, ChainSpec, Grant, Parent, ProofSpec};
use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::codec::{BoundedBytes, BoundedVec, Format, decode, encode};
use block_chain_common::coordinator_api::registration_bytes;
use block_chain_common::evidence::{Evidence, Statement, Verdict};
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root, TxId};
use block_chain_common::header::{Header, Proof};
use block_chain_common::history::{Frontier, prove_consistency, prove_inclusion};
use block_chain_common::keys::Signature;
use block_chain_common::merkle::prove_transaction;
use block_chain_common::peer_message::{Message, Status};
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use block_chain_common::receipt::Receipt;
use block_chain_common::recovery::Recovery;
use block_chain_common::state::{Account, RecordState, Release, StateKey, StateValue};
use block_chain_common::transaction::{Memo, Payload, RecordValue, Role, Transaction};
use block_chain_common::work::Target;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use support::{Nodes, State, block_of, easy, key, put, signed};

/// What is built, by name.
#[derive(Default)]
struct Built(BTreeMap<String, String>);

impl Built {
    fn add(&mut self, name: &str, value: impl ToString) {
        assert!(
            self.0.insert(name.to_owned(), value.to_string()).is_none(),
            "{name} twice"
        );
    }

    fn bytes(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.add(name, hex::encode(value));
    }

    fn format<T: Format>(&mut self, name: &str, value: &T) {
        self.bytes(name, encode(value));
    }
}

fn keys_and_transactions(built: &mut Built) {
    built.add("key.public", key(1).public_key());
    built.add("key.address", key(1).public_key().address());
    let to = key(2).public_key().address();
    let amount = Amount::new(5);
    let payloads = [
        ("put", put(3)),
        (
            "message",
            Payload::Message {
                bytes: RecordValue::new(b"message".to_vec()).unwrap(),
            },
        ),
        (
            "transfer",
            Payload::Transfer {
                to,
                amount,
                memo: Memo::new(b"memo".to_vec()).unwrap(),
            },
        ),
        ("deposit", Payload::Deposit { to, amount }),
        ("stake", Payload::Stake { amount }),
        ("unstake", Payload::Unstake { amount }),
        (
            "grant",
            Payload::Grant {
                address: to,
                role: Role::Mine,
            },
        ),
        (
            "revoke",
            Payload::Revoke {
                address: to,
                role: Role::Admin,
            },
        ),
    ];
    for (name, payload) in payloads {
        let transaction = Transaction::sign(ChainId::ZERO, Nonce::new(3), payload, &key(1));
        built.format(&format!("transaction.{name}"), &transaction);
        if name == "put" {
            built.add("transaction.put.id", transaction.id());
        }
    }
}

fn header(proof: Proof) -> Header {
    Header {
        chain: ChainId::from_bytes([1; 32]),
        height: Height::new(2),
        timestamp: Timestamp::new(3),
        previous: BlockHash::from_bytes([4; 32]),
        transactions_root: Root::from_bytes([5; 32]),
        transaction_count: 6,
        state_digest: Digest::from_bytes([7; 32]),
        history_root: Root::from_bytes([8; 32]),
        producer: key(1).public_key().address(),
        proof,
    }
}

const WORK: Proof = Proof::Work {
    bits: 0x1d00_ffff,
    nonce: 9,
};

fn headers(built: &mut Built) {
    let signature = Signature::from_bytes([7; 64]);
    let public = key(1).public_key();
    let proofs = [
        ("genesis", Proof::Genesis),
        ("work", WORK),
        (
            "stake",
            Proof::Stake {
                key: public,
                slot: 10,
                vrf_proof: [11; 80],
                signature,
            },
        ),
        (
            "authority",
            Proof::Authority {
                key: public,
                term: Term::new(12),
                signature,
            },
        ),
    ];
    for (name, proof) in proofs {
        let header = header(proof);
        built.format(&format!("header.{name}"), &header);
        built.add(&format!("header.{name}.hash"), header.hash());
        if matches!(name, "stake" | "authority") {
            built.bytes(&format!("header.{name}.signed"), header.signing_bytes());
        }
    }
}

fn messages(built: &mut Built) {
    fn some<T, const MAX: usize>(items: Vec<T>) -> BoundedVec<T, MAX> {
        BoundedVec::new(items).ok().unwrap()
    }
    let (one, ids) = (
        BlockHash::from_bytes([1; 32]),
        [1, 2].map(|byte| TxId::from_bytes([byte; 32])).to_vec(),
    );
    let transaction = Transaction::sign(ChainId::ZERO, Nonce::new(3), put(3), &key(1));
    let held = (
        Height::new(3),
        BlockHash::from_bytes([4; 32]),
        Root::from_bytes([5; 32]),
    );
    let status = Status {
        height: Height::new(1),
        head: BlockHash::from_bytes([2; 32]),
        committed_size: 3,
        final_size: 4,
        mempool_mark: 5,
    };
    let propose = Message::Propose {
        term: Term::new(1),
        height: Height::new(2),
        block: BlockHash::from_bytes([3; 32]),
    };
    let block = Block {
        header: header(WORK),
        transactions: some(vec![transaction.clone()]),
    };
    let hashes = vec![(Height::new(7), Some(one)), (Height::new(8), None)];
    let acknowledgement = Acknowledgement::sign(ChainId::from_bytes([1; 32]), Term::new(2), held, &key(1));
    let compact = Message::Compact {
        header: header(WORK),
        ids: some(ids.clone()),
    };
    let all = [
        ("status", Message::Status(status)),
        ("compact", compact),
        ("transactions", Message::Transactions(some(vec![transaction]))),
        ("propose", propose),
        ("acknowledge", Message::Acknowledge(acknowledgement)),
        (
            "checkpoint",
            Message::Checkpoint(BoundedBytes::new(b"note".to_vec()).unwrap()),
        ),
        ("get_headers", Message::GetHeaders(some(vec![one]))),
        ("headers", Message::Headers(some(vec![header(WORK)]))),
        ("get_blocks", Message::GetBlocks(some(vec![one]))),
        ("block", Message::Block(Box::new(block))),
        ("not_found", Message::NotFound(some(vec![one]))),
        ("get_mempool", Message::GetMempool),
        ("mempool_ids", Message::MempoolIds(some(ids.clone()))),
        ("get_transactions", Message::GetTransactions(some(ids))),
        ("get_hashes", Message::GetHashes(some(vec![Height::new(7)]))),
        ("hashes", Message::Hashes(some(hashes))),
        (
            "evidence",
            Message::Evidence(BoundedBytes::new(b"file".to_vec()).unwrap()),
        ),
    ];
    for (name, message) in all {
        let bytes = encode(&message);
        assert_eq!(decode::<Message>(&bytes), Ok(message));
        built.bytes(&format!("message.{name}"), bytes);
    }
}

/// A spec in which nothing is empty.
fn full_spec() -> ChainSpec {
    let mut entries: Vec<_> = [1, 2].map(|seed| key(seed).public_key().address()).to_vec();
    entries.sort();
    let list = |amount: u64| {
        let entries = entries.iter().map(|address| Allocation {
            address: *address,
            amount: Amount::new(amount),
        });
        BoundedVec::new(entries.collect()).unwrap()
    };
    let grants = entries.iter().map(|address| Grant {
        address: *address,
        role: Role::Issue,
    });
    ChainSpec {
        name: "full-1".to_owned(),
        proof: ProofSpec::Authority,
        block_interval_ms: 1_000,
        reward: Amount::new(50),
        reward_halving_blocks: 100,
        decimals: 2,
        unstake_blocks: 10,
        open_roles: BoundedVec::new(vec![Role::Write]).unwrap(),
        grants: BoundedVec::new(grants.collect()).unwrap(),
        balances: list(1_000),
        stakes: list(20),
        parent: None,
    }
}

fn specs(built: &mut Built) {
    let spec = ChainSpec::default_for("main", key(1).public_key().address());
    built.format("spec.default", &spec);
    built.add("spec.default.id", spec.check().unwrap().id());
    let checked = full_spec().check().unwrap();
    built.format("spec.full", checked.spec());
    built.add("spec.full.id", checked.id());
    built.format("spec.full.genesis", checked.genesis());
    let fork = ChainSpec {
        proof: ProofSpec::Stake,
        parent: Some(Parent {
            chain: ChainId::from_bytes([1; 32]),
            height: Height::new(2),
            block: BlockHash::from_bytes([3; 32]),
            state_digest: Digest::from_bytes([4; 32]),
        }),
        ..full_spec()
    };
    built.format("spec.fork", &fork);
}

fn state(built: &mut Built) {
    let address = key(1).public_key().address();
    let account = Account {
        nonce: Nonce::new(1),
        balance: Amount::new(2),
        stake: Amount::new(3),
        releases: BoundedVec::new(vec![Release {
            from: Height::new(4),
            amount: Amount::new(5),
        }])
        .unwrap(),
    };
    let record = RecordState {
        value_digest: Digest::from_bytes([6; 32]),
        height: Height::new(7),
        index: 8,
    };
    let Payload::Put { key: name, .. } = put(3) else {
        return;
    };
    let entries = [
        (
            "account",
            StateKey::Account(address),
            StateValue::Account(account),
        ),
        ("record", StateKey::Record(name), StateValue::Record(record)),
        ("grant", StateKey::Grant(address, Role::Mine), StateValue::Granted),
        ("holders", StateKey::Holders(Role::Admin), StateValue::Count(9)),
        ("supply", StateKey::Supply, StateValue::Amount(Amount::new(10))),
    ];
    let mut all = State::default();
    built.add("state.empty.digest", all.hash().digest());
    for (kind, key, value) in entries {
        built.bytes(&format!("state.{kind}.key"), borsh::to_vec(&key).unwrap());
        built.bytes(&format!("state.{kind}.value"), borsh::to_vec(&value).unwrap());
        all.0.insert(key, value);
    }
    built.add("state.digest", all.hash().digest());
}

fn work(built: &mut Built) {
    for bits in [0x1d00_ffff_u32, 0x2000_ffff, 0x207f_ffff] {
        let work = Target::from_bits(bits).unwrap().work();
        built.add(&format!("work.{bits:08x}"), work.to_u128());
    }
}

/// The first block of the easy chain, its checkpoint, and a receipt from it.
fn block_and_receipt(built: &mut Built) {
    let spec = easy().check().unwrap();
    let transactions = (0..3).map(|nonce| signed(&spec, 2, nonce, put(nonce)));
    let block: Block = block_of(&spec, transactions, 3);
    built.format("block", &block);
    built.add("block.hash", block.header.hash());

    let (mut frontier, mut nodes) = (Frontier::default(), Nodes::default());
    let mut roots = vec![frontier.root()];
    for header in [&spec.genesis().header, &block.header] {
        nodes.0.extend(frontier.append(&header.leaf_bytes()));
        roots.push(frontier.root());
    }
    built.add("history.1", roots[1]);
    built.add("history.2", roots[2]);
    built.bytes(
        "history.consistency.1.2",
        prove_consistency(1, 2, &nodes).unwrap().concat(),
    );

    let held = (block.header.height, block.header.hash(), roots[2]);
    built.format(
        "acknowledgement",
        &Acknowledgement::sign(spec.id(), Term::new(4), held, &key(1)),
    );

    let checkpoint = Checkpoint {
        chain: spec.id(),
        size: 2,
        root: roots[2],
        term: Term::new(4),
        block: block.header.hash(),
    };
    let mut note = checkpoint.sign(&key(9)).unwrap();
    for seed in [10, 11] {
        let key = key(seed);
        note.cosign(&witness_name(&key.public_key()), &key, 1_700_000_000);
    }
    let ids: Vec<_> = block
        .transactions
        .as_slice()
        .iter()
        .map(Transaction::id)
        .collect();
    let members = vec![key(10).public_key(), key(11).public_key(), key(12).public_key()];
    let receipt = Receipt {
        chain: spec.id(),
        chain_name: "main".to_owned(),
        coordinator: key(9).public_key(),
        members: members.clone(),
        transaction: block.transactions.as_slice()[1].clone(),
        proof: prove_transaction(&ids, 1).unwrap(),
        history: prove_inclusion(1, 2, &nodes).unwrap(),
        checkpoint: note.to_string(),
        header: block.header,
    };
    assert!(receipt.verify(None).is_ok());
    assert_eq!(note.to_string(), include_str!("vectors/checkpoint"));
    assert_eq!(receipt.to_text(), include_str!("vectors/receipt"));
    let keys = ChainKeys::new((spec.id(), "main".to_owned()), key(9).public_key(), members).unwrap();
    assert_eq!(keys.to_text(), include_str!("vectors/chain_keys"));
}

/// A coordinator that contradicts itself, and one that was recovered.
#[test]
fn evidence_and_recovery_do_not_change() {
    let chain = easy().check().unwrap().id();
    let note = |root: u8| {
        let checkpoint = Checkpoint {
            chain,
            size: 5,
            root: Root::from_bytes([root; 32]),
            term: Term::new(4),
            block: BlockHash::from_bytes([7; 32]),
        };
        checkpoint.sign(&key(9)).unwrap().to_string()
    };
    let evidence = Evidence {
        chain,
        coordinator: key(9).public_key(),
        reason: "two checkpoints of 5 blocks differ".to_owned(),
        first: Statement::Note(note(1)),
        second: note(2),
        header: None,
    };
    assert!(matches!(
        evidence.judge(),
        Ok(Verdict::Contradiction { size: 5, .. })
    ));
    assert_eq!(evidence.to_text(), include_str!("vectors/evidence"));
    // Of 3 blocks, and of 5, whose third is `header.work`; the others' leaves are "leaf 0" and so on.
    let later = include_str!("vectors/evidence_later");
    let read = Evidence::parse(later).unwrap();
    assert_eq!(read.header.as_ref().unwrap().header, header(WORK));
    assert!(matches!(read.judge(), Ok(Verdict::Contradiction { size: 3, .. })));
    let recovery = Recovery {
        chain,
        at: Timestamp::new(1_700_000_000_000),
        term: (Term::new(3), Term::new(9)),
        size: (7, 12),
    };
    let statement = recovery.sign(&key(9)).unwrap().to_string();
    assert_eq!(statement, include_str!("vectors/recovery"));
}

#[test]
fn our_own_vectors_do_not_change() {
    let mut built = Built::default();
    keys_and_transactions(&mut built);
    headers(&mut built);
    messages(&mut built);
    specs(&mut built);
    state(&mut built);
    work(&mut built);
    block_and_receipt(&mut built);
    let registration = registration_bytes("challenge", "main", &key(1).public_key());
    built.bytes("registration.signature", key(1).sign(&registration).as_bytes());
    let fixed: BTreeMap<String, String> = include_str!("vectors/formats")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut differ = String::new();
    for (name, value) in &built.0 {
        if fixed.get(name) != Some(value) {
            writeln!(differ, "{name} = {value}").unwrap();
        }
    }
    assert!(differ.is_empty(), "these are not the fixed bytes:\n{differ}");
    let unknown: Vec<_> = fixed.keys().filter(|name| !built.0.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "nothing makes these any more: {unknown:?}");
}
