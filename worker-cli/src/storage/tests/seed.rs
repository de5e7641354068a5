//! A store that begins with a snapshot is, byte for byte, one that has executed every block; and nothing else is taken.

#![expect(
    clippy::too_many_lines,
    reason = "a story, or a table of what is refused, is told in one piece"
)]

use crate::machine::Write;
use crate::storage::{ArchiveError, ChainPart, Seeder, StorageError, Store, StoreBuilder, StoredCheckpoint};
use crate::test_chain::Chain;
use block_chain_common::chain_keys::ChainKeys;
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::codec::BoundedVec;
use block_chain_common::keys::SecretKey;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::Amount;
use block_chain_common::state::{LatticeHash, StateKey, StateValue};
use block_chain_common::transaction::{Payload, RecordKey, RecordValue, Role, Transaction};
use borsh::to_vec;
use std::path::Path;

/// A member that has cosigned, and one that has not.
fn members() -> [SecretKey; 2] {
    [21, 22].map(|seed| SecretKey::from_seed(&[seed; 32]))
}

fn keys(chain: &Chain, members: &[SecretKey]) -> ChainKeys {
    let members = members.iter().map(SecretKey::public_key).collect();
    ChainKeys::new(
        (chain.spec.id(), "main".to_owned()),
        chain.key.public_key(),
        members,
    )
    .unwrap()
}

/// Records that are replaced within a block and after it, value and stake that move, accounts that come and go.
fn chain() -> Chain {
    let mut chain = Chain::new("main");
    let to = SecretKey::from_seed(&[5; 32]).public_key().address();
    for number in 0..4_u64 {
        let amount = Amount::new(number + 1);
        let block = vec![
            chain.put("a", number.to_string()),
            chain.put("a", format!("{number} again")),
            chain.put(number.to_string(), "once"),
            chain.sign(Payload::Deposit { to, amount }),
            chain.sign(Payload::Transfer {
                to,
                amount,
                memo: Default::default(),
            }),
            chain.sign(Payload::Stake { amount }),
        ];
        chain.mine(block);
    }
    finalise(&chain);
    chain
}

/// What is committed is final by the word of the first member.
fn finalise(chain: &Chain) -> StoredCheckpoint {
    let StoredCheckpoint { size, note } = chain.store.committed().unwrap();
    let mut note = SignedNote::parse(&note).unwrap();
    let member = &members()[0];
    note.cosign(&witness_name(&member.public_key()), member, 1_700_000_000);
    let note = note.to_string();
    let last = Write::Final {
        size,
        note: note.clone(),
    };
    chain.store.apply(&[last]).unwrap();
    StoredCheckpoint { size, note }
}

fn parts(store: &Store) -> Vec<ChainPart> {
    let mut parts = Vec::new();
    let put = |part| {
        parts.push(part);
        Ok::<_, StorageError>(())
    };
    assert!(store.seed(put).unwrap().is_some());
    parts
}

fn seeded(
    dir: &Path,
    parts: Vec<ChainPart>,
    (spec, keys): (&CheckedSpec, &ChainKeys),
) -> Result<Store, ArchiveError> {
    let mut seeder = Seeder::create(dir, spec, keys)?;
    for part in parts {
        seeder.take(part)?;
    }
    seeder.finish()?;
    Ok(Store::open(dir, spec)?)
}

/// Made by executing every block.
fn replayed(dir: &Path, chain: &Chain) -> Store {
    let mut builder = StoreBuilder::create(dir, &chain.spec, chain.key.public_key()).unwrap();
    let put = |part| builder.take(part).map(drop);
    chain.store.archive(put).unwrap();
    builder.finish().unwrap();
    Store::open(dir, &chain.spec).unwrap()
}

/// But for what is kept of checkpoints and terms: of these a snapshot has the last alone.
fn comparable(store: &Store) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
    let (meta, checkpoints) = (0, 11);
    let mut all = store.everything();
    all.retain(|(keyspace, key, _)| {
        *keyspace != checkpoints && !(*keyspace == meta && (key == b"term" || key == b"committed"))
    });
    all
}

/// Names that only one of two has, or with another value: keyspace and name in hex.
fn differences(one: &Store, other: &Store) -> Vec<String> {
    let (one, other) = (comparable(one), comparable(other));
    let only = |all: &[(usize, Vec<u8>, Vec<u8>)], others: &[(usize, Vec<u8>, Vec<u8>)], whose: &str| {
        let only = all.iter().filter(|entry| !others.contains(entry));
        let shown: Vec<_> = only
            .map(|(keyspace, name, _)| format!("{whose} {keyspace} {}", hex::encode(name)))
            .collect();
        shown
    };
    let first = only(&one, &other, "the first");
    [first, only(&other, &one, "the second")].concat()
}

#[test]
fn a_store_that_begins_with_a_snapshot_is_as_one_that_has_executed_all() {
    let mut chain = chain();
    let folder = tempfile::tempdir().unwrap();
    let replayed = replayed(&folder.path().join("replayed"), &chain);
    let keys = keys(&chain, &members()[..1]);
    let right = (&chain.spec, &keys);
    let first = seeded(&folder.path().join("first"), parts(&chain.store), right).unwrap();
    assert_eq!(differences(&first, &replayed), Vec::<String>::new());
    assert_eq!(first.final_checkpoint().unwrap().size, 5);

    // Blocks that are not committed yet are not in it, nor what they changed.
    let to = SecretKey::from_seed(&[6; 32]).public_key().address();
    for number in 0..2_u64 {
        let amount = Amount::new(7);
        let block = vec![
            chain.put("a", "later"),
            chain.put(format!("new {number}"), "later"),
            chain.sign(Payload::Transfer {
                to,
                amount,
                memo: Default::default(),
            }),
            chain.sign(Payload::Unstake {
                amount: Amount::new(1),
            }),
        ];
        chain.append(block);
    }
    let second = seeded(
        &folder.path().join("second"),
        parts(&chain.store),
        (&chain.spec, &keys),
    )
    .unwrap();
    assert_eq!(differences(&second, &replayed), Vec::<String>::new());

    // Committed and not final: the state in between is not there.
    chain.commit();
    let none = chain.store.seed(|_| Ok::<_, StorageError>(())).unwrap();
    assert_eq!(none, None);
}

#[test]
fn what_does_not_follow_from_the_cosigned_checkpoint_is_refused() {
    let chain = chain();
    let keys = keys(&chain, &members()[..1]);
    let place = |parts: &[ChainPart], wanted: fn(&ChainPart) -> bool| parts.iter().rposition(wanted).unwrap();
    let is_block = |part: &ChainPart| matches!(part, ChainPart::Block(_));
    let is_final = |part: &ChainPart| matches!(part, ChainPart::Final(_));
    let is_state = |part: &ChainPart| matches!(part, ChainPart::State(_));
    let other = SecretKey::from_seed(&[9; 32]);
    let forged = Transaction::sign(
        chain.spec.id(),
        block_chain_common::quantity::Nonce::new(0),
        Payload::Put {
            key: RecordKey::new(b"a".to_vec()).unwrap(),
            value: RecordValue::new(b"forged".to_vec()).unwrap(),
        },
        &other,
    );
    type Change<'a> = Box<dyn Fn(&mut Vec<ChainPart>) + 'a>;
    let note = |change: fn(&mut Checkpoint), signer: &SecretKey| {
        let (mut checkpoint, _) = Checkpoint::verify(
            &chain.store.committed().unwrap().note,
            &chain.spec.id(),
            &chain.key.public_key(),
        )
        .unwrap();
        change(&mut checkpoint);
        let mut note = checkpoint.sign(signer).unwrap();
        let member = &members()[0];
        note.cosign(&witness_name(&member.public_key()), member, 1);
        note.to_string()
    };
    let with_note = |parts: &mut Vec<ChainPart>, text: String| {
        let at = place(parts, is_final);
        let ChainPart::Final(stored) = &mut parts[at] else {
            return;
        };
        stored.note = text;
    };
    let table: Vec<(&str, Change<'_>)> = vec![
        (
            "block 4: BLK-",
            Box::new(|p| {
                let at = place(p, is_block);
                let ChainPart::Block(block) = &mut p[at] else {
                    return;
                };
                block.transactions = BoundedVec::new(vec![forged.clone()]).unwrap();
            }),
        ),
        (
            "block 4: BLK-",
            Box::new(|p| {
                let at = place(p, is_block);
                let ChainPart::Block(block) = &mut p[at] else {
                    return;
                };
                block.header.timestamp = block.header.timestamp.next();
            }),
        ),
        (
            "block 3: BLK-",
            Box::new(|p| {
                let at = place(p, is_block);
                p.remove(at - 1);
            }),
        ),
        (
            "there are 4",
            Box::new(|p| {
                let at = place(p, is_block);
                p.remove(at);
            }),
        ),
        (
            "its checkpoint is missing",
            Box::new(|p| p.retain(|part| !is_final(part))),
        ),
        (
            "it comes after the checkpoint",
            Box::new(|p| {
                let at = place(p, is_block);
                let ChainPart::Block(block) = &p[at] else { return };
                let again = block.clone();
                p.push(ChainPart::Block(again));
            }),
        ),
        ("CP-3", Box::new(|p| with_note(p, note(|_| (), &other)))),
        (
            "it is of other blocks",
            Box::new(|p| {
                with_note(
                    p,
                    note(
                        |c| c.root = block_chain_common::hash::Root::from_bytes([1; 32]),
                        &chain.key,
                    ),
                );
            }),
        ),
        (
            "there are 5",
            Box::new(|p| with_note(p, note(|c| c.size = 6, &chain.key))),
        ),
        (
            "no majority of the members",
            Box::new(|p| {
                with_note(p, chain.store.committed().unwrap().note);
            }),
        ),
        (
            "its state has the digest",
            Box::new(|p| p.retain(|part| !is_state(part))),
        ),
        (
            "its state has the digest",
            Box::new(|p| {
                let at = place(p, is_state);
                let ChainPart::State(entries) = &mut p[at] else {
                    return;
                };
                let account = entries.iter_mut().find_map(|(_, value)| match value {
                    StateValue::Account(account) => Some(account),
                    _ => None,
                });
                account.unwrap().balance = Amount::new(1_000_000);
            }),
        ),
        (
            "and only a greater one may",
            Box::new(|p| {
                let at = place(p, is_state);
                let ChainPart::State(entries) = &mut p[at] else {
                    return;
                };
                let twice = entries[0].clone();
                entries.push(twice);
            }),
        ),
        (
            "and only a greater one may",
            Box::new(|p| {
                let at = place(p, is_state);
                let ChainPart::State(entries) = &mut p[at] else {
                    return;
                };
                entries.swap(0, 1);
            }),
        ),
        (
            "its checkpoint is missing where its state begins",
            Box::new(|p| {
                let (state, last) = (place(p, is_state), place(p, is_final));
                p.swap(state, last);
            }),
        ),
        (
            "a part stands where it cannot",
            Box::new(|p| p.push(ChainPart::Waiting(forged.clone()))),
        ),
    ];
    for (reason, change) in table {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = parts(&chain.store);
        change(&mut parts);
        let refused = seeded(folder.path(), parts, (&chain.spec, &keys)).err();
        let refused = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    // Of two members one is no majority.
    let both = self::keys(&chain, &members());
    let folder = tempfile::tempdir().unwrap();
    let refused = seeded(folder.path(), parts(&chain.store), (&chain.spec, &both))
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("no majority of the members"),
        "{refused}"
    );
}

/// All entries, and the parts before them.
fn split(parts: Vec<ChainPart>) -> (Vec<ChainPart>, Vec<(StateKey, StateValue)>) {
    let (mut others, mut entries) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            ChainPart::State(more) => entries.extend(more),
            other => others.push(other),
        }
    }
    (others, entries)
}

#[test]
fn entries_come_in_the_order_of_their_encoded_keys_whatever_later_blocks_have_removed() {
    let mut chain = chain();
    let address = SecretKey::from_seed(&[5; 32]).public_key().address();
    let role = Role::Write;
    // Longer keys come later, whatever their letters: an encoded one begins with its length.
    let block = vec![
        chain.sign(Payload::Grant { address, role }),
        chain.put("zz", "b"),
        chain.put("aaa", "c"),
    ];
    chain.mine(block);
    finalise(&chain);
    let folder = tempfile::tempdir().unwrap();
    let replayed = replayed(&folder.path().join("replayed"), &chain);
    let block = vec![
        chain.sign(Payload::Revoke { address, role }),
        chain.put("b", "new"),
    ];
    chain.append(block);
    let keys = keys(&chain, &members()[..1]);
    let right = (&chain.spec, &keys);
    let (_, entries) = split(parts(&chain.store));
    assert!(
        entries
            .iter()
            .any(|(key, _)| *key == StateKey::Grant(address, role))
    );
    let names: Vec<_> = entries.iter().map(|(key, _)| to_vec(key).unwrap()).collect();
    assert!(names.is_sorted_by(|one, other| one < other));

    // It is one order over all parts, however they are cut.
    let pieces = |entries: Vec<(StateKey, StateValue)>| {
        let (before, _) = split(parts(&chain.store));
        let state = entries.into_iter().map(|entry| ChainPart::State(vec![entry]));
        before.into_iter().chain(state).collect::<Vec<_>>()
    };
    let first = seeded(&folder.path().join("first"), pieces(entries.clone()), right).unwrap();
    assert_eq!(differences(&first, &replayed), Vec::<String>::new());
    let mut twice = entries;
    twice.insert(1, twice[0].clone());
    let refused = seeded(&folder.path().join("second"), pieces(twice), right).err();
    let refused = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("and only a greater one may"), "{refused}");
}

/// The lanes of the hash are numbers of 16 bits.
const COPIES: usize = 1 << 16;

#[test]
fn copies_of_an_entry_that_the_digest_does_not_see_are_refused() {
    let chain = chain();
    let keys = keys(&chain, &members()[..1]);
    let (_, entries) = split(parts(&chain.store));
    let is_account = |(key, _): &&(StateKey, StateValue)| matches!(key, StateKey::Account(_));
    let (key, value) = entries.iter().find(is_account).unwrap().clone();
    let mut richer = value;
    let StateValue::Account(account) = &mut richer else {
        panic!("an account");
    };
    account.balance = Amount::new(u64::MAX);
    // All that is true, and then so many copies of what is not that their sum is nothing.
    let mut all = entries.clone();
    all.extend(std::iter::repeat_n((key.clone(), richer.clone()), COPIES));
    let digest = |entries: &[(StateKey, StateValue)]| {
        let mut hash = LatticeHash::default();
        for (key, value) in entries {
            hash.add_entry(key, value);
        }
        hash.digest()
    };
    assert_eq!(digest(&all), digest(&entries));
    let forged = || vec![(key.clone(), richer.clone()); COPIES];
    let ways: [Vec<ChainPart>; 3] = [
        vec![ChainPart::State(entries.clone()), ChainPart::State(forged())],
        vec![ChainPart::State(forged()), ChainPart::State(entries.clone())],
        forged()
            .into_iter()
            .map(|entry| ChainPart::State(vec![entry]))
            .chain([ChainPart::State(entries.clone())])
            .collect(),
    ];
    for way in ways {
        let folder = tempfile::tempdir().unwrap();
        let (before, _) = split(parts(&chain.store));
        let forged = before.into_iter().chain(way).collect();
        let refused = seeded(folder.path(), forged, (&chain.spec, &keys)).err();
        let refused = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("and only a greater one may"), "{refused}");
    }
}
