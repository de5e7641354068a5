//! Backups of real chains: what is restored is the same to the byte, and what was changed is restored nowhere.

#![expect(
    clippy::too_many_lines,
    reason = "a story, or a table of what is refused, is told in one piece"
)]

use super::make::{Source, make};
use super::restore::{finish_restore, prepare, restore};
use super::*;
use crate::identity::{ChainFile, WorkerFile, chain_dir, make_private_dir, write_private};
use crate::machine::{ChainRead as _, Write};
use crate::storage::{ForkBuilder, Store};
use crate::test_chain::Chain;
use block_chain_backup::{BackupWriter, Cause, Series, open_checked};
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, Parent};
use block_chain_common::codec::{BoundedVec, encode};
use block_chain_common::hash::Digest;
use block_chain_common::keys::SecretKey;
use block_chain_common::quantity::Height;
use borsh::to_vec;
use std::fs;
use tempfile::TempDir;
use uuid::Uuid;

/// A worker's directory with two chains, of which one is a fork of the other, and something waits.
struct Worker {
    dir: TempDir,
    chains: Vec<(String, Store)>,
    specs: Vec<CheckedSpec>,
}

const WORKER: Uuid = Uuid::from_u128(7);
const AT: u64 = 1_795_257_015_482;

impl Worker {
    fn new() -> Self {
        let mut main = Chain::new("main");
        for number in 0..5 {
            let records = vec![
                main.put("a", number.to_string()),
                main.put(number.to_string(), "b"),
            ];
            main.mine(records);
        }
        let waiting = main.put("later", "c");
        main.store
            .apply(&[Write::MempoolAdd {
                sequence: 9,
                transaction: waiting,
            }])
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fork_dir = chain_dir(dir.path(), "main", "fork");
        make_private_dir(&fork_dir).unwrap();
        let (fork, fork_spec) = fork(&fork_dir, (&main.store, &main.spec));
        ChainFile::new(fork_spec.spec()).save(&fork_dir).unwrap();
        main.store.put_meta("job", b"kept").unwrap();
        let file = serde_json::json!({
            "format": 1, "worker_id": WORKER, "name": null, "chain": "main",
            "spec": hex::encode(encode(main.spec.spec())),
            "coordinator_key": main.key.public_key(), "servers": ["http://127.0.0.1:1"], "fingerprint": null,
        });
        let put = |name: &str, text: &str| write_private(&dir.path().join(name), text.as_bytes()).unwrap();
        put("worker.json", &file.to_string());
        put("identity.key", &"11".repeat(32));
        put("node.json", "not in a backup");
        make_private_dir(&dir.path().join("wallets")).unwrap();
        put("wallets/default", "bcw1");
        Self {
            dir,
            chains: vec![("fork".to_owned(), fork), ("main".to_owned(), main.store.clone())],
            specs: vec![fork_spec, main.spec.clone()],
        }
    }

    fn back_up(&self, folder: &Path) -> PathBuf {
        self.back_up_without(folder, &[])
    }

    fn back_up_without(&self, folder: &Path, missing: &[String]) -> PathBuf {
        let worker = WORKER.to_string();
        let source = Source {
            data_dir: self.dir.path(),
            worker: &worker,
            home: "main",
            chains: &self.chains,
            missing,
        };
        make(&source, Cause::Automatic, (folder, AT)).unwrap().path
    }
}

fn fork(dir: &Path, (store, spec): (&Store, &CheckedSpec)) -> (Store, CheckedSpec) {
    let (block, _) = store.header_at(Height::new(3)).unwrap().unwrap();
    let mut fork = ChainSpec {
        name: "fork".to_owned(),
        grants: BoundedVec::default(),
        balances: BoundedVec::default(),
        stakes: BoundedVec::default(),
        parent: Some(Parent {
            chain: spec.id(),
            height: Height::new(3),
            block,
            state_digest: Digest::ZERO,
        }),
        ..spec.spec().clone()
    };
    let builder = ForkBuilder::build(dir, (store, spec), &fork).unwrap();
    fork.parent.as_mut().unwrap().state_digest = builder.digest();
    let fork = fork.check().unwrap();
    builder.finish(&fork).unwrap();
    (Store::open(dir, &fork).unwrap(), fork)
}

/// All that a store holds, as a backup has it.
fn contents(store: &Store) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let put = |part: ChainPart| {
        parts.push(to_vec(&part).unwrap());
        Ok::<_, StorageError>(())
    };
    store.archive(put).unwrap();
    let entries: Result<Vec<_>, _> = store.state_entries().collect();
    parts.push(to_vec(&entries.unwrap()).unwrap());
    parts
}

fn parts(path: &Path) -> Vec<Part> {
    let mut reader = open_checked(path, |_, _| {}).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = reader.part().unwrap() {
        parts.push(Part::try_from_slice(&part).unwrap());
    }
    parts
}

/// A backup of these parts, whose hashes are right.
fn forged(folder: &Path, parts: &[Part]) -> PathBuf {
    let series = Series::new(WHAT, &WORKER.to_string(), Cause::Asked);
    let mut writer = BackupWriter::create(folder, &series, AT, 0).unwrap();
    for part in parts {
        writer.part(&to_vec(part).unwrap()).unwrap();
    }
    writer.finish().unwrap().path
}

fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "node.lock" && name != "restore.lock")
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_restored_is_what_was_there() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let target = target.path().join("new");
    let mut last = (0, 0);
    let restored = restore(&backup, &target, (false, 1), |done, of| {
        assert!(done >= last.0 && done <= of, "{done} of {of}");
        last = (done, of);
    });
    let restored = restored.unwrap();
    assert_eq!(
        (restored.manifest.worker, restored.aside),
        (WORKER.to_string(), None)
    );
    assert_eq!(
        listed(&target),
        ["blocks", "chains", "identity.key", "wallets", "worker.json"]
    );
    for ((name, store), spec) in worker.chains.iter().zip(&worker.specs) {
        let again = Store::open(&chain_dir(&target, "main", name), spec).unwrap();
        assert_eq!(contents(&again), contents(store), "{name}");
        assert_eq!(again.state_hash().unwrap(), store.state_hash().unwrap());
    }
    for name in [
        "worker.json",
        "identity.key",
        "wallets/default",
        "chains/fork/chain.json",
    ] {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert_eq!(read(&target), read(worker.dir.path()), "{name}");
    }
}

#[test]
fn what_is_there_is_put_aside_when_that_is_said_and_not_else() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let target = target.path();
    fs::write(target.join("worker.json"), "damaged").unwrap();
    fs::create_dir(target.join("backups")).unwrap();
    let error = restore(&backup, target, (false, 1), |_, _| {}).unwrap_err();
    assert!(matches!(error, WorkerBackupError::Occupied { .. }), "{error}");
    assert_eq!(listed(target), ["backups", "worker.json"]);
    let restored = restore(&backup, target, (true, 5), |_, _| {}).unwrap();
    assert_eq!(restored.aside, Some(target.join("replaced-5")));
    assert_eq!(listed(&target.join("replaced-5")), ["worker.json"]);
    assert!(WorkerFile::load(target).unwrap().is_some());
    // One that is open is left alone.
    let held = Store::open(target, &worker.specs[1]).unwrap();
    let error = restore(&backup, target, (true, 6), |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("in use by another node"), "{error}");
    drop(held);
}

#[test]
fn a_restore_that_was_killed_is_finished_by_the_next_command() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let whole = target.path().join("whole");
    restore(&backup, &whole, (false, 1), |_, _| {}).unwrap();
    let names = listed(&whole);
    // Killed after each of the moves.
    for moved in 0..=names.len() {
        for phase in ["aside replaced-3", "place"] {
            let dir = target.path().join(format!("{moved}-{}", &phase[..5]));
            restore(&backup, &dir, (false, 1), |_, _| {}).unwrap();
            let growing = dir.join("restore.tmp");
            make_private_dir(&growing).unwrap();
            for name in &names[moved..] {
                fs::rename(dir.join(name), growing.join(name)).unwrap();
            }
            if phase != "place" {
                // Nothing of it has its place before everything else is aside.
                for name in &names[..moved] {
                    fs::rename(dir.join(name), growing.join(name)).unwrap();
                }
                fs::write(dir.join("node.json"), "old").unwrap();
            }
            write_private(&growing.join("restore.phase"), phase.as_bytes()).unwrap();
            finish_restore(&dir).unwrap();
            finish_restore(&dir).unwrap();
            let found: Vec<_> = listed(&dir)
                .into_iter()
                .filter(|name| name != "replaced-3")
                .collect();
            assert_eq!(found, names, "{moved} {phase}");
            if phase != "place" {
                assert_eq!(listed(&dir.join("replaced-3")), ["node.json"]);
            }
        }
    }
}

#[test]
fn a_backup_that_breaks_a_rule_is_restored_nowhere() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let target = target.path().join("none");
    let other = SecretKey::from_seed(&[8; 32]).public_key();
    let last = |parts: &[Part]| parts.len() - 1;
    let place = |parts: &[Part], wanted: fn(&ChainPart) -> bool| {
        let found = parts
            .iter()
            .rposition(|part| matches!(part, Part::OfChain(part) if wanted(part)));
        found.unwrap()
    };
    type Change<'a> = Box<dyn Fn(&mut Vec<Part>) + 'a>;
    let is_block = |part: &ChainPart| matches!(part, ChainPart::Block(_));
    let is_note = |part: &ChainPart| matches!(part, ChainPart::Committed(_));
    let table: Vec<(&str, Change<'_>)> = vec![
        ("no backup of a worker", Box::new(|p| drop(p.remove(0)))),
        ("the end of a chain is missing", Box::new(|p| drop(p.pop()))),
        (
            "a chain that it lists is missing",
            Box::new(|p| {
                let at = p.iter().rposition(|part| matches!(part, Part::Chain(_))).unwrap();
                p.truncate(at);
            }),
        ),
        (
            "a part stands where",
            Box::new(|p| p.push(Part::File("worker.toml".to_owned(), vec![1]))),
        ),
        (
            "it holds a file that no backup has",
            Box::new(|p| p.insert(1, Part::File("../x".to_owned(), vec![]))),
        ),
        (
            "it holds a chain that it does not list",
            Box::new(|p| p.push(Part::Chain("third".to_owned()))),
        ),
        (
            "it holds a chain twice",
            Box::new(|p| p.push(Part::Chain("main".to_owned()))),
        ),
        (
            "its worker is missing",
            Box::new(|p| {
                p.retain(|part| !matches!(part, Part::File(name, _) if name == "worker.json"));
            }),
        ),
        (
            "the worker's key is missing",
            Box::new(|p| {
                p.retain(|part| !matches!(part, Part::File(name, _) if name == "identity.key"));
            }),
        ),
        (
            "format 2",
            Box::new(|p| {
                if let Part::Manifest(manifest) = &mut p[0] {
                    manifest.format = 2;
                }
            }),
        ),
        (
            "of another worker than it says",
            Box::new(|p| {
                if let Part::Manifest(manifest) = &mut p[0] {
                    manifest.worker = "x".to_owned();
                }
            }),
        ),
        (
            "a chain is not the one that it lists",
            Box::new(|p| {
                if let Part::Manifest(manifest) = &mut p[0] {
                    manifest.chains[1].height = 9;
                }
            }),
        ),
        (
            "a chain's name \"../../escaped\" is not",
            Box::new(|p| {
                // Everywhere where it stands, the file of its spec included.
                let escaped = "../../escaped".to_owned();
                for part in p {
                    match part {
                        Part::Manifest(manifest) => manifest.chains[0].name = escaped.clone(),
                        Part::Chain(name) if name == "fork" => *name = escaped.clone(),
                        Part::File(name, _) if name == "chains/fork/chain.json" => {
                            *name = "escaped/chain.json".to_owned();
                        }
                        _ => {}
                    }
                }
            }),
        ),
        (
            "a chain's name \"/main\" is not",
            Box::new(|p| {
                if let Part::Manifest(manifest) = &mut p[0] {
                    manifest.home = "/main".to_owned();
                }
            }),
        ),
        (
            "a chain's name \"\" is not",
            Box::new(|p| {
                if let Part::Manifest(manifest) = p.remove(0) {
                    p.insert(0, Part::Incomplete(manifest, vec![String::new()]));
                }
            }),
        ),
        (
            "it holds a file that no backup has",
            Box::new(|p| {
                p.insert(1, Part::File("chains/A/chain.json".to_owned(), vec![1]));
            }),
        ),
        (
            "block 5 of chain main",
            Box::new(move |p| {
                let at = place(p, is_block);
                if let Part::OfChain(ChainPart::Block(block)) = &mut p[at] {
                    block.header.producer = other.address();
                }
            }),
        ),
        (
            "block 5 of chain main",
            Box::new(move |p| {
                let at = place(p, is_block);
                if let Part::OfChain(ChainPart::Block(block)) = &mut p[at] {
                    block.transactions = BoundedVec::default();
                }
            }),
        ),
        (
            "the checkpoint of 6 blocks of chain main",
            Box::new(move |p| {
                let at = place(p, is_note);
                if let Part::OfChain(ChainPart::Committed(stored)) = &mut p[at] {
                    stored.note = stored.note.replacen("term 1", "term 2", 1);
                }
            }),
        ),
        (
            "it is one of 6, after 5",
            Box::new(move |p| {
                let at = place(p, is_block);
                p.remove(at);
            }),
        ),
        (
            "which waits on chain main",
            Box::new(move |p| {
                let at = place(p, |part| matches!(part, ChainPart::Waiting(_)));
                if let Part::OfChain(ChainPart::Waiting(waiting)) = &mut p[at] {
                    waiting.nonce = waiting.nonce.next();
                }
            }),
        ),
        (
            "it ends with block 5",
            Box::new(move |p| {
                let at = last(p);
                if let Part::OfChain(ChainPart::End(end)) = &mut p[at] {
                    end.state = Digest::ZERO;
                }
            }),
        ),
        (
            "something inherited stands where nothing is",
            Box::new(move |p| {
                let at = place(p, |part| matches!(part, ChainPart::Inherited(..)));
                let part = Part::try_from_slice(&to_vec(&p[at]).unwrap()).unwrap();
                let end = last(p);
                p.insert(end, part);
            }),
        ),
        (
            "and only a greater one may",
            Box::new(move |p| {
                // So many copies that the hash of the state does not see them.
                let at = place(p, |part| matches!(part, ChainPart::Inherited(..)));
                let part = to_vec(&p[at]).unwrap();
                let copies = (0..1 << 16).map(|_| Part::try_from_slice(&part).unwrap());
                p.splice(at..at, copies);
            }),
        ),
        (
            "SPEC-8",
            Box::new(move |p| {
                let at = place(p, |part| matches!(part, ChainPart::Inherited(..)));
                p.remove(at);
            }),
        ),
    ];
    for (reason, change) in table {
        let mut parts = parts(&backup);
        change(&mut parts);
        let forged = forged(&folder.path().join("forged"), &parts);
        let error = restore(&forged, &target, (true, 1), |_, _| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!target.exists() || listed(&target).is_empty(), "{reason}");
    }
}

#[test]
fn what_no_worker_has_made_stays_where_it_is() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let target = target.path();
    fs::create_dir(target.join("lost+found")).unwrap();
    fs::write(target.join("notes"), "mine").unwrap();
    // They are in nobody's way.
    let restored = restore(&backup, target, (false, 1), |_, _| {}).unwrap();
    assert_eq!(restored.aside, None);
    fs::write(target.join("double-7-bcw1x.txt"), "evidence").unwrap();
    // A folder of that name is not written into.
    fs::create_dir(target.join("replaced-5")).unwrap();
    let restored = restore(&backup, target, (true, 5), |_, _| {}).unwrap();
    assert_eq!(restored.aside, Some(target.join("replaced-6")));
    assert_eq!(
        listed(&target.join("replaced-6")),
        [
            "blocks",
            "chains",
            "double-7-bcw1x.txt",
            "identity.key",
            "wallets",
            "worker.json"
        ]
    );
    let stayed = ["lost+found", "notes", "replaced-5"].map(|name| target.join(name));
    assert!(stayed.iter().all(|path| path.exists()));
    assert_eq!(listed(&stayed[2]), Vec::<String>::new());
}

#[test]
fn what_cannot_be_put_aside_leaves_everything_as_it_was() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let dir = target.path().join("w");
    restore(&backup, &dir, (false, 1), |_, _| {}).unwrap();
    let before = listed(&dir);
    // The wallets come last but one, and cannot be moved: there is something in their place.
    let blocked = dir.join("replaced-3/wallets");
    fs::create_dir_all(blocked.join("in-the-way")).unwrap();
    let growing = dir.join("restore.tmp");
    make_private_dir(&growing).unwrap();
    let put = |name: &str, text: &str| write_private(&growing.join(name), text.as_bytes()).unwrap();
    put("worker.json", "new");
    put("restore.phase", "aside replaced-3");
    let error = finish_restore(&dir).unwrap_err().to_string();
    assert!(
        error.contains("cannot move") && error.contains("wallets"),
        "{error}"
    );
    let found: Vec<_> = listed(&dir)
        .into_iter()
        .filter(|name| name != "replaced-3")
        .collect();
    assert_eq!(found, before);
    assert_eq!(listed(&dir.join("replaced-3")), ["wallets"]);
    // Nothing is left to be finished, and what was there is whole.
    finish_restore(&dir).unwrap();
    assert_eq!(WorkerFile::load(&dir).unwrap().unwrap().worker_id, WORKER);
    Store::open(&dir, &worker.specs[1]).unwrap();
    // Where nothing is in the way it goes through.
    let restored = restore(&backup, &dir, (true, 3), |_, _| {}).unwrap();
    assert_eq!(restored.aside, Some(dir.join("replaced-4")));
}

#[test]
fn what_came_while_a_backup_was_judged_is_seen() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = worker.back_up(folder.path());
    let dir = target.path().join("w");
    let prepared = prepare(&backup, &dir, false, |_, _| {}).unwrap();
    assert_eq!(listed(&dir), ["restore.tmp"]);
    // One at a time.
    let error = prepare(&backup, &dir, false, |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("another restore is at work"), "{error}");
    fs::write(
        dir.join("identity.key"),
        "of somebody who has registered meanwhile",
    )
    .unwrap();
    let error = prepared.put(1).unwrap_err();
    assert!(matches!(error, WorkerBackupError::Occupied { .. }), "{error}");
    assert_eq!(listed(&dir), ["identity.key"]);
    // Where it may be replaced it is put aside, although there was nothing at first.
    fs::remove_file(dir.join("identity.key")).unwrap();
    let prepared = prepare(&backup, &dir, true, |_, _| {}).unwrap();
    fs::write(dir.join("identity.key"), "late").unwrap();
    // And a node that runs meanwhile loses nothing.
    let held = Store::open(&dir, &worker.specs[1]).unwrap();
    let error = prepared.put(2).unwrap_err().to_string();
    assert!(error.contains("in use by another node"), "{error}");
    drop(held);
    assert_eq!(listed(&dir), ["blocks", "identity.key"]);
    let prepared = prepare(&backup, &dir, true, |_, _| {}).unwrap();
    let aside = prepared.put(3).unwrap().aside.unwrap();
    assert_eq!(listed(&aside), ["blocks", "identity.key"]);
}

#[test]
fn a_backup_names_the_chains_that_are_not_in_it() {
    let worker = Worker::new();
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = worker.back_up(folder.path());
    assert_eq!(manifest(&whole).unwrap().missing, Vec::<String>::new());
    // The part of a whole one is as it always was.
    assert_eq!(BackupReader::first_part(&whole).unwrap()[..2], [0, FORMAT]);
    let missing = vec!["broken".to_owned()];
    let backup = worker.back_up_without(folder.path(), &missing);
    let name = backup.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("worker-000000000000-auto-2026"), "{name}");
    assert_eq!(manifest(&backup).unwrap().missing, missing);
    let restored = restore(&backup, target.path(), (false, 1), |_, _| {}).unwrap();
    assert_eq!(restored.manifest.missing, missing);
    assert_eq!(restored.manifest.chains.len(), 2);
}

#[test]
fn only_files_of_a_worker_have_a_place_in_a_backup() {
    use super::make::is_file_name;
    for good in [
        "worker.json",
        "tls.key",
        "wallets/default",
        "wallets/bcw1x.json",
        "chains/a-b/chain.json",
    ] {
        assert!(is_file_name(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "/etc/passwd",
        "../worker.json",
        "wallets/../x.json",
        "wallets//x.json",
        "wallets/.json",
        "wallets/x.sh",
        "chains/../chain.json",
        "chains/A/chain.json",
        "chains/a.b/chain.json",
        "chains/a/b/chain.json",
        "chains/a/blocks",
        "node.lock",
        "api.cookie",
        "wallets/é.json",
    ] {
        assert!(!is_file_name(bad), "{bad}");
    }
}

#[test]
fn a_mark_changes_with_what_a_backup_would_hold() {
    let mut chain = Chain::new("main");
    let dir = tempfile::tempdir().unwrap();
    let stores = vec![("main".to_owned(), chain.store.clone())];
    let mark = || Mark::of(dir.path(), "main", &stores).unwrap();
    let before = mark();
    assert_eq!(mark(), before);
    write_private(&dir.path().join("node.json"), b"1").unwrap();
    assert_eq!(mark(), before);
    write_private(&dir.path().join("worker.token"), b"1").unwrap();
    let with_file = mark();
    assert_ne!(with_file, before);
    let transaction = chain.put("a", "b");
    let waiting = Write::MempoolAdd {
        sequence: 1,
        transaction: transaction.clone(),
    };
    chain.store.apply(&[waiting]).unwrap();
    let with_waiting = mark();
    assert_ne!(with_waiting, with_file);
    chain.append(vec![transaction]);
    let with_block = mark();
    assert_ne!(with_block, with_waiting);
    chain.commit();
    assert_ne!(mark(), with_block);
}
