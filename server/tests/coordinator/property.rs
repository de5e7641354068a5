//! Whatever order things come in: one checkpoint a size, each consistent with the last; terms never go back.

use crate::network::{Tree, at, code, cosigned, heartbeat, network};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::note::SignedNote;
use block_chain_server::store::Store;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SIZE: u64 = 8;

#[derive(Debug, Clone)]
enum Step {
    /// A worker asks to commit, on one of two histories.
    Commit {
        by: usize,
        salt: usize,
        old: u64,
        new: u64,
        acknowledged: Vec<usize>,
    },
    Beat {
        by: usize,
        height: u64,
    },
    Cosign {
        by: usize,
        size: u64,
    },
    Leave {
        by: usize,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let commit = (0..3_usize, 0..2_usize, 0..SIZE, 1..=SIZE);
    prop_oneof![
        6 => (commit, prop::collection::vec(0..3_usize, 1..4))
            .prop_map(|((by, salt, old, new), acknowledged)| Step::Commit { by, salt, old, new, acknowledged }),
        4 => (0..3_usize, 0..9_u64).prop_map(|(by, height)| Step::Beat { by, height }),
        2 => (0..3_usize, 1..=SIZE).prop_map(|(by, size)| Step::Cosign { by, size }),
        1 => (0..3_usize).prop_map(|by| Step::Leave { by }),
        2 => (0..70_000_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checkpoints_never_fork_and_terms_never_go_back(steps in prop::collection::vec(step(), 1..50)) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("coordinator.sqlite")).unwrap();
        let (service, workers) = network(store, 3);
        let trees = [Tree::new(SIZE, 0), Tree::new(SIZE, 1)];
        let (mut now, mut term, mut final_size) = (10, 0, 0);
        let mut seen: BTreeMap<u64, String> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit { by, salt, old, new, acknowledged } => {
                    let acknowledged: Vec<_> = acknowledged.iter().map(|index| &workers[*index]).collect();
                    code(trees[salt].commit(&service, (old, new), &workers[by], &acknowledged));
                }
                Step::Beat { by, height } => {
                    code(service.heartbeat(&workers[by].who, &heartbeat(&service, height), at(now)));
                }
                Step::Cosign { by, size } if seen.contains_key(&size) => {
                    code(service.cosign(&workers[by].who, "main", &cosigned(&service, size, &workers[by].key)));
                }
                Step::Cosign { .. } => {}
                Step::Leave { by } => {
                    code(service.leave(&workers[by].who, "main", at(now)));
                }
                Step::Wait { ms } => now += ms,
            }
            service.tick(at(now)).unwrap();
            let view = service.view("main", at(now)).unwrap();
            prop_assert!(view.term.get() >= term && view.final_size >= final_size);
            (term, final_size) = (view.term.get(), view.final_size);
            let page = service.checkpoints("main", 0, 100).unwrap().checkpoints;
            prop_assert!(page.len() >= seen.len());
            let mut salts = [true, true];
            for checkpoint in page {
                let note = SignedNote::parse(&checkpoint.note).unwrap();
                let text = seen.entry(checkpoint.size).or_insert_with(|| note.text().to_owned());
                prop_assert_eq!(text.as_str(), note.text());
                let root = Checkpoint::from_note(&note).unwrap().root;
                for (fits, tree) in salts.iter_mut().zip(&trees) {
                    *fits &= tree.root(checkpoint.size) == root;
                }
            }
            prop_assert!(salts.contains(&true), "all checkpoints are of one history");
        }
    }
}
