//! Receipts: the rules RCP-1 to RCP-10, each beside the receipt that keeps them all.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::checkpoint::{Checkpoint, witness_name};
use block_chain_common::codec::encode;
use block_chain_common::hash::{BlockHash, ChainId, TxId};
use block_chain_common::history::{Frontier, prove_inclusion};
use block_chain_common::merkle::{TransactionProof, prove_transaction, transactions_root};
use block_chain_common::quantity::{Height, Nonce, Term, Timestamp};
use block_chain_common::receipt::{
    MAX_RECEIPT_BYTES, Receipt, ReceiptError, Standing, TrustedKeys, Verified,
};
use block_chain_common::transaction::{Payload, RecordValue, Transaction};
use proptest::prelude::*;
use support::{Nodes, block_of, easy, key, put, signed};

/// The coordinator's key.
const COORDINATOR: u8 = 9;

/// The second of three transactions in block 1, under a checkpoint that keys 10 and 11 of three members have cosigned.
fn receipt() -> Receipt {
    let spec = easy().check().unwrap();
    let transactions = (0..3).map(|nonce| signed(&spec, 2, nonce, put(nonce)));
    let block = block_of(&spec, transactions, 3);
    let (header, transactions) = (block.header, block.transactions.into_vec());
    let ids: Vec<_> = transactions.iter().map(Transaction::id).collect();

    let (mut frontier, mut nodes) = (Frontier::default(), Nodes::default());
    nodes
        .0
        .extend(frontier.append(&spec.genesis().header.leaf_bytes()));
    nodes.0.extend(frontier.append(&header.leaf_bytes()));
    let block = header.hash();
    let checkpoint = Checkpoint {
        chain: spec.id(),
        size: 2,
        root: frontier.root(),
        term: Term::new(1),
        block,
    };
    Receipt {
        chain: spec.id(),
        chain_name: "main".to_owned(),
        coordinator: key(COORDINATOR).public_key(),
        members: vec![key(10).public_key(), key(11).public_key(), key(12).public_key()],
        transaction: transactions[1].clone(),
        proof: prove_transaction(&ids, 1).unwrap(),
        history: prove_inclusion(1, 2, &nodes).unwrap(),
        checkpoint: cosigned(&checkpoint, &[10, 11]),
        header,
    }
}

fn cosigned(checkpoint: &Checkpoint, members: &[u8]) -> String {
    let mut note = checkpoint.sign(&key(COORDINATOR)).unwrap();
    for seed in members {
        let key = key(*seed);
        note.cosign(&witness_name(&key.public_key()), &key, 1_700_000_000);
    }
    note.to_string()
}

fn checkpoint_of(receipt: &Receipt) -> Checkpoint {
    Checkpoint::verify(&receipt.checkpoint, &receipt.chain, &receipt.coordinator)
        .unwrap()
        .0
}

fn trusted(receipt: &Receipt) -> TrustedKeys {
    TrustedKeys {
        chain: receipt.chain,
        coordinator: receipt.coordinator,
        members: Vec::new(),
    }
}

/// With these members trusted.
fn judged(receipt: &Receipt, members: &[u8]) -> Result<Verified, ReceiptError> {
    receipt.verify(Some(&TrustedKeys {
        members: members.iter().map(|seed| key(*seed).public_key()).collect(),
        ..trusted(receipt)
    }))
}

/// The number of the rule that a changed receipt breaks.
fn rule(change: impl FnOnce(&mut Receipt)) -> String {
    let mut receipt = receipt();
    change(&mut receipt);
    let error = receipt.verify(None).unwrap_err().to_string();
    error.split(':').next().unwrap().to_owned()
}

#[test]
fn a_receipt_is_read_back_and_verifies() {
    let receipt = receipt();
    let read = Receipt::parse(&receipt.to_text()).unwrap();
    assert_eq!(read, receipt);
    let verified = read.verify(Some(&trusted(&receipt))).unwrap();
    assert_eq!((verified.height, verified.checkpoint_size), (Height::new(1), 2));
    assert_eq!(
        (verified.id, verified.sender),
        (receipt.transaction.id(), key(2).public_key().address())
    );
    assert_eq!(
        (verified.cosignatures, verified.members, verified.needed),
        (2, 3, 2)
    );
    assert_eq!((verified.standing, verified.kind), (Standing::Committed, "put"));
    let times: Vec<_> = verified
        .cosigners
        .iter()
        .map(|c| (c.unix_seconds, c.trusted))
        .collect();
    assert_eq!(times, [(1_700_000_000, false); 2]);
    assert_eq!(receipt.verify(None).unwrap().standing, Standing::Claimed);
}

#[test]
fn rcp_1_refuses_a_text_over_the_limit() {
    let text = "x".repeat(MAX_RECEIPT_BYTES);
    assert!(matches!(
        Receipt::parse(&text),
        Err(ReceiptError::Malformed { line: 1, .. })
    ));
    let found = MAX_RECEIPT_BYTES + 1;
    assert_eq!(
        Receipt::parse(&(text + "x")),
        Err(ReceiptError::TooLong { found })
    );
}

#[test]
fn rcp_2_refuses_other_lines_and_names_the_first() {
    let text = receipt().to_text();
    let lines: Vec<&str> = text.lines().collect();
    let blank = lines.iter().position(|line| line.is_empty()).unwrap();
    for line in 0..=blank {
        let mut changed = lines.clone();
        changed[line] = "nonsense";
        let found = Receipt::parse(&format!("{}\n", changed.join("\n"))).unwrap_err();
        assert!(
            matches!(found, ReceiptError::Malformed { line: at, .. } if at == line + 1),
            "line {}: {found}",
            line + 1
        );
    }
    assert!(matches!(
        Receipt::parse(""),
        Err(ReceiptError::Malformed { line: 1, .. })
    ));
    let cut = text.split_once("\n\n").unwrap().0;
    assert!(matches!(Receipt::parse(cut), Err(ReceiptError::Malformed { .. })));
}

#[test]
fn rcp_2_refuses_a_second_form_of_the_same_receipt() {
    let text = receipt().to_text();
    let coordinator = format!("coordinator {}", key(COORDINATOR).public_key());
    let upper = coordinator.to_uppercase().replace("COORDINATOR", "coordinator");
    for (one, other) in [
        ("index 1 3", "index +1 3"),
        ("index 1 3", "index 1 03"),
        (&coordinator, &upper),
    ] {
        let found = Receipt::parse(&text.replacen(one, other, 1)).unwrap_err();
        assert!(
            found.to_string().ends_with("is not in its one form"),
            "{other}: {found}"
        );
    }
}

#[test]
fn rcp_3_refuses_what_does_not_decode() {
    let receipt = receipt();
    let text = receipt.to_text();
    for bytes in [encode(&receipt.transaction), encode(&receipt.header)] {
        let whole = format!(" {}\n", hex::encode(&bytes));
        for cut in [&bytes[..bytes.len() - 1], &[2], &[]] {
            let text = text.replacen(&whole, &format!(" {}\n", hex::encode(cut)), 1);
            assert!(matches!(Receipt::parse(&text), Err(ReceiptError::Decode(_))));
        }
    }
}

#[test]
fn rcp_4_refuses_another_chain_or_coordinator_than_the_trusted() {
    let receipt = receipt();
    let right = trusted(&receipt);
    assert!(receipt.verify(Some(&right)).is_ok());
    let chain = TrustedKeys {
        chain: ChainId::from_bytes([7; 32]),
        ..right.clone()
    };
    let coordinator = TrustedKeys {
        coordinator: key(8).public_key(),
        ..right
    };
    for wrong in [chain, coordinator] {
        assert!(matches!(
            receipt.verify(Some(&wrong)),
            Err(ReceiptError::Untrusted { .. })
        ));
    }
}

#[test]
fn rcp_5_refuses_a_transaction_that_is_not_valid() {
    assert_eq!(rule(|r| r.transaction.nonce = Nonce::new(7)), "RCP-5");
    assert_eq!(
        rule(|r| r.transaction.chain = ChainId::from_bytes([7; 32])),
        "RCP-5"
    );
}

#[test]
fn rcp_6_refuses_a_transaction_that_is_not_in_the_block() {
    let payload = Payload::Message {
        bytes: RecordValue::new(b"never sent".to_vec()).unwrap(),
    };
    assert_eq!(
        rule(|r| r.transaction = Transaction::sign(r.chain, Nonce::new(1), payload, &key(2))),
        "RCP-6"
    );
    assert_eq!(rule(|r| r.proof.index = 0), "RCP-6");
    assert_eq!(rule(|r| r.proof.index = u32::MAX), "RCP-6");
    assert_eq!(rule(|r| r.proof.count = 4), "RCP-6");
    assert_eq!(rule(|r| r.proof.path[0][0] ^= 1), "RCP-6");
    assert_eq!(rule(|r| r.proof.path.truncate(1)), "RCP-6");
    assert_eq!(rule(|r| r.proof.path.push([0; 32])), "RCP-6");
    assert_eq!(rule(|r| r.header.chain = ChainId::from_bytes([7; 32])), "RCP-6");
    let count = |r: &mut Receipt| (r.header.transaction_count, r.proof.count) = (u32::MAX, u32::MAX);
    assert_eq!(rule(count), "RCP-6");
}

#[test]
fn rcp_7_refuses_a_block_that_the_checkpoint_does_not_cover() {
    assert_eq!(rule(|r| r.header.timestamp = Timestamp::new(5)), "RCP-7");
    assert_eq!(rule(|r| r.header.height = Height::new(2)), "RCP-7");
    assert_eq!(rule(|r| r.header.height = Height::new(u64::MAX)), "RCP-7");
    assert_eq!(rule(|r| r.history[0][0] ^= 1), "RCP-7");
    assert_eq!(rule(|r| r.history.clear()), "RCP-7");
    assert_eq!(rule(|r| r.history.push([0; 32])), "RCP-7");
    let earlier = |r: &mut Receipt| {
        r.checkpoint = cosigned(
            &Checkpoint {
                size: 1,
                ..checkpoint_of(r)
            },
            &[10, 11],
        )
    };
    assert_eq!(rule(earlier), "RCP-7");
}

#[test]
fn rcp_8_refuses_a_checkpoint_that_the_coordinator_did_not_sign() {
    assert_eq!(rule(|r| r.coordinator = key(8).public_key()), "RCP-8");
    assert_eq!(
        rule(|r| r.checkpoint = r.checkpoint.replacen("term 1", "term 2", 1)),
        "RCP-8"
    );
    assert_eq!(rule(|r| r.checkpoint.clear()), "RCP-8");
    let other = BlockHash::from_bytes([7; 32]).to_string();
    assert_eq!(
        rule(|r| r.checkpoint = r.checkpoint.replacen(&r.header.hash().to_string(), &other, 1)),
        "RCP-8"
    );
}

#[test]
fn rcp_9_refuses_fewer_than_a_majority_of_members() {
    assert_eq!(
        rule(|r| r.checkpoint = cosigned(&checkpoint_of(r), &[10])),
        "RCP-9"
    );
    assert_eq!(
        rule(|r| r.checkpoint = cosigned(&checkpoint_of(r), &[10, 13, 14])),
        "RCP-9"
    );
    assert_eq!(rule(|r| r.members.clear()), "RCP-9");
    // A member named twice counts once.
    let doubled = |r: &mut Receipt| {
        r.members = vec![key(10).public_key(); 3];
    };
    assert_eq!(rule(doubled), "RCP-9");
}

#[test]
fn rcp_10_takes_a_majority_of_the_trusted_members_whomever_the_file_names() {
    let receipt = receipt();
    let verified = judged(&receipt, &[10, 11, 12]).unwrap();
    assert_eq!(verified.standing, Standing::Final);
    assert_eq!(
        (verified.cosignatures, verified.members, verified.needed),
        (2, 3, 2)
    );
    assert!(verified.cosigners.iter().all(|cosigner| cosigner.trusted));
    // Fewer than the file names, doubled ones, and one that has left since.
    for members in [&[10][..], &[10, 10, 11], &[10, 11, 20]] {
        assert_eq!(judged(&receipt, members).unwrap().standing, Standing::Final);
    }
    // A file that names but one of them still shows what the others signed.
    let mut narrow = receipt;
    narrow.members.truncate(1);
    let verified = judged(&narrow, &[10, 11, 12]).unwrap();
    assert_eq!((verified.cosignatures, verified.cosigners.len()), (2, 2));
}

#[test]
fn rcp_10_refuses_what_only_members_cosigned_that_the_reader_does_not_trust() {
    let receipt = receipt();
    let refused = |members: &[u8]| match judged(&receipt, members).unwrap_err() {
        ReceiptError::NotFinalToReader { found, known, needed } => (found, known, needed),
        other => panic!("{other}"),
    };
    assert_eq!(refused(&[20, 21, 22]), (0, 3, 2));
    assert_eq!(refused(&[10, 21, 22]), (1, 3, 2));
    assert_eq!(refused(&[10, 11, 20, 21]), (2, 4, 3));
    // One key given often is one member.
    assert_eq!(refused(&[10, 10, 10, 20, 21]), (1, 3, 2));
    // The coordinator names members of its own making, who all sign.
    let mut forged = receipt.clone();
    forged.members = [20, 21, 22].map(|seed| key(seed).public_key()).to_vec();
    forged.checkpoint = cosigned(&checkpoint_of(&forged), &[20, 21, 22]);
    assert_eq!(
        forged.verify(Some(&trusted(&forged))).unwrap().standing,
        Standing::Committed
    );
    let error = judged(&forged, &[10, 11, 12]).unwrap_err().to_string();
    assert_eq!(
        error,
        "RCP-10: 0 of the 3 trusted members have cosigned the checkpoint, 2 are needed"
    );
}

#[test]
fn transaction_proofs_hold_at_their_own_place_only() {
    for count in 1_u8..=40 {
        let ids: Vec<_> = (0..count).map(|byte| TxId::from_bytes([byte; 32])).collect();
        let root = transactions_root(&ids);
        for (index, id) in (0_u32..).zip(&ids) {
            let proof = prove_transaction(&ids, index).unwrap();
            assert!(proof.verify(id, &root), "{index} of {count}");
            for other in (0..=u32::from(count)).filter(|other| *other != index) {
                let moved = TransactionProof {
                    index: other,
                    ..proof.clone()
                };
                assert!(!moved.verify(id, &root), "{index} of {count}, moved to {other}");
            }
            for place in 0..proof.path.len() {
                let mut changed = proof.clone();
                changed.path[place][31] ^= 1;
                assert!(!changed.verify(id, &root));
            }
            let mut longer = proof.clone();
            longer.path.push([0; 32]);
            assert!(
                !longer.verify(id, &root),
                "{index} of {count}, with a hash left over"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_changed_byte_never_changes_what_a_receipt_proves(place: prop::sample::Index, byte in 0_u8..128) {
        let receipt = receipt();
        let mut bytes = receipt.to_text().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let proven = |verified: Verified| (verified.id, verified.height, verified.block, verified.standing);
        let members = [10, 11, 12];
        let first = judged(&receipt, &members).map(proven).unwrap();
        if let Ok(read) = Receipt::parse(&text)
            && let Ok(verified) = judged(&read, &members)
        {
            prop_assert_eq!(proven(verified), first);
        }
    }
}
