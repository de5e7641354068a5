//! Round trips of every format, and strict decoding.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use block_chain_common::agreement::Acknowledgement;
use block_chain_common::block::Block;
use block_chain_common::chain_spec::{Allocation, ChainSpec, Grant, Parent, ProofSpec};
use block_chain_common::codec::{BoundedVec, DecodeError, Format, decode, encode};
use block_chain_common::hash::{BlockHash, ChainId, Digest, Root};
use block_chain_common::header::{Header, Proof};
use block_chain_common::keys::{Address, Signature};
use block_chain_common::quantity::{Amount, Height, Nonce, Term, Timestamp};
use block_chain_common::state::{Account, RecordState, Release, StateKey, StateValue};
use block_chain_common::transaction::{RecordKey, Role, Transaction};
use proptest::prelude::*;
use support::{block_of, easy, key, payloads, put, signed};

fn round_trips<T: Format + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(decode::<T>(&longer).is_err(), "a byte left over");
    assert!(decode::<T>(&bytes[..bytes.len() - 1]).is_err(), "a byte missing");
    let mut later = bytes;
    later[0] = 2;
    assert!(matches!(
        decode::<T>(&later),
        Err(DecodeError::Version { found: 2, .. })
    ));
}

fn addresses() -> impl Strategy<Value = Address> {
    (1_u8..4).prop_map(|seed| key(seed).public_key().address())
}

fn proofs() -> impl Strategy<Value = Proof> {
    let signed = (1_u8..4, any::<u64>(), any::<[u8; 32]>());
    prop_oneof![
        Just(Proof::Genesis),
        (any::<u32>(), any::<u64>()).prop_map(|(bits, nonce)| Proof::Work { bits, nonce }),
        (signed.clone(), any::<[u8; 32]>()).prop_map(|((seed, slot, half), vrf)| {
            let mut vrf_proof = [0; 80];
            vrf_proof[..32].copy_from_slice(&vrf);
            Proof::Stake {
                key: key(seed).public_key(),
                slot,
                vrf_proof,
                signature: signature(half),
            }
        }),
        signed.prop_map(|(seed, term, half)| Proof::Authority {
            key: key(seed).public_key(),
            term: Term::new(term),
            signature: signature(half),
        }),
    ]
}

fn signature(half: [u8; 32]) -> Signature {
    let mut bytes = [7; 64];
    bytes[..32].copy_from_slice(&half);
    Signature::from_bytes(bytes)
}

prop_compose! {
    fn headers()(
        hashes: [[u8; 32]; 5],
        numbers: (u64, u64, u32),
        producer in addresses(),
        proof in proofs(),
    ) -> Header {
        Header {
            chain: ChainId::from_bytes(hashes[0]),
            height: Height::new(numbers.0),
            timestamp: Timestamp::new(numbers.1),
            previous: BlockHash::from_bytes(hashes[1]),
            transactions_root: Root::from_bytes(hashes[2]),
            transaction_count: numbers.2,
            state_digest: Digest::from_bytes(hashes[3]),
            history_root: Root::from_bytes(hashes[4]),
            producer,
            proof,
        }
    }
}

fn allocations() -> impl Strategy<Value = BoundedVec<Allocation, 10_000>> {
    let entry = (addresses(), any::<u64>().prop_map(Amount::new));
    let entries = entry.prop_map(|(address, amount)| Allocation { address, amount });
    proptest::collection::vec(entries, 0..4).prop_map(|list| BoundedVec::new(list).unwrap())
}

prop_compose! {
    fn specs()(
        name in "[a-z0-9-]{1,64}",
        proof in prop_oneof![
            any::<u32>().prop_map(|initial_bits| ProofSpec::Work { initial_bits }),
            Just(ProofSpec::Stake),
            Just(ProofSpec::Authority),
        ],
        numbers: [u64; 4],
        decimals: u8,
        open in proptest::collection::vec(prop_oneof![Just(Role::Write), Just(Role::Mine)], 0..4),
        grants in proptest::collection::vec(addresses().prop_map(|address| Grant { address, role: Role::Issue }), 0..4),
        (balances, stakes) in (allocations(), allocations()),
        parent in proptest::option::of((any::<[[u8; 32]; 3]>(), any::<u64>())),
    ) -> ChainSpec {
        ChainSpec {
            name,
            proof,
            block_interval_ms: numbers[0],
            reward: Amount::new(numbers[1]),
            reward_halving_blocks: numbers[2],
            decimals,
            unstake_blocks: numbers[3],
            open_roles: BoundedVec::new(open).unwrap(),
            grants: BoundedVec::new(grants).unwrap(),
            balances,
            stakes,
            parent: parent.map(|(hashes, height)| Parent {
                chain: ChainId::from_bytes(hashes[0]),
                height: Height::new(height),
                block: BlockHash::from_bytes(hashes[1]),
                state_digest: Digest::from_bytes(hashes[2]),
            }),
        }
    }
}

fn state_keys() -> impl Strategy<Value = StateKey> {
    prop_oneof![
        addresses().prop_map(StateKey::Account),
        proptest::collection::vec(any::<u8>(), 1..1_025)
            .prop_map(|bytes| StateKey::Record(RecordKey::new(bytes).unwrap())),
        addresses().prop_map(|address| StateKey::Grant(address, Role::Mine)),
        Just(StateKey::Holders(Role::Admin)),
        Just(StateKey::Supply),
    ]
}

fn state_values() -> impl Strategy<Value = StateValue> {
    let release = any::<[u64; 2]>().prop_map(|[from, amount]| Release {
        from: Height::new(from),
        amount: Amount::new(amount),
    });
    let releases = proptest::collection::vec(release, 0..65);
    prop_oneof![
        (any::<[u64; 3]>(), releases).prop_map(|([nonce, balance, stake], releases)| {
            StateValue::Account(Account {
                nonce: Nonce::new(nonce),
                balance: Amount::new(balance),
                stake: Amount::new(stake),
                releases: BoundedVec::new(releases).unwrap(),
            })
        }),
        any::<([u8; 32], u64, u32)>().prop_map(|(digest, height, index)| {
            StateValue::Record(RecordState {
                value_digest: Digest::from_bytes(digest),
                height: Height::new(height),
                index,
            })
        }),
        Just(StateValue::Granted),
        any::<u64>().prop_map(StateValue::Count),
        any::<u64>().prop_map(|amount| StateValue::Amount(Amount::new(amount))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn transactions_round_trip(payload in payloads(), nonce: u64, seed: u8) {
        round_trips(&Transaction::sign(ChainId::from_bytes([seed; 32]), Nonce::new(nonce), payload, &key(seed)));
    }

    #[test]
    fn headers_and_blocks_round_trip(header in headers(), payloads in proptest::collection::vec(payloads(), 0..4)) {
        round_trips(&header);
        let sign = |payload| Transaction::sign(ChainId::ZERO, Nonce::ZERO, payload, &key(1));
        let transactions = BoundedVec::new(payloads.into_iter().map(sign).collect()).unwrap();
        round_trips(&Block { header, transactions });
    }

    #[test]
    fn chain_specs_round_trip(spec in specs()) {
        round_trips(&spec);
    }

    #[test]
    fn acknowledgements_round_trip(seed: u8, term: u64, height: u64, hashes: [[u8; 32]; 3]) {
        let held = (Height::new(height), BlockHash::from_bytes(hashes[0]), Root::from_bytes(hashes[1]));
        round_trips(&Acknowledgement::sign(ChainId::from_bytes(hashes[2]), Term::new(term), held, &key(seed)));
    }

    #[test]
    fn entries_of_the_state_round_trip(key in state_keys(), value in state_values()) {
        prop_assert_eq!(borsh::from_slice::<StateKey>(&borsh::to_vec(&key).unwrap()).unwrap(), key);
        prop_assert_eq!(borsh::from_slice::<StateValue>(&borsh::to_vec(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), place: usize, byte: u8) {
        bytes.insert(0, 1);
        let spec = easy().check().unwrap();
        let mut damaged = encode(&block_of(&spec, [signed(&spec, 2, 0, put(0))], 2));
        let place = place % damaged.len();
        damaged[place] = byte;
        for bytes in [bytes, damaged] {
            if let Ok(block) = decode::<Block>(&bytes) { prop_assert_eq!(encode(&block), bytes.clone()); }
            if let Ok(tx) = decode::<Transaction>(&bytes) { prop_assert_eq!(encode(&tx), bytes.clone()); }
            if let Ok(header) = decode::<Header>(&bytes) { prop_assert_eq!(encode(&header), bytes.clone()); }
            if let Ok(spec) = decode::<ChainSpec>(&bytes) { prop_assert_eq!(encode(&spec), bytes.clone()); }
        }
    }
}

#[test]
fn a_length_is_refused_before_memory_is_taken() {
    // A transaction whose key claims four thousand million bytes.
    let mut bytes = vec![1];
    bytes.extend([0; 32 + 32 + 8]);
    bytes.push(0);
    bytes.extend(u32::MAX.to_le_bytes());
    let error = decode::<Transaction>(&bytes).unwrap_err().to_string();
    assert!(
        error.contains("4294967295 bytes, 1 to 1024 are allowed"),
        "{error}"
    );
    let long = vec![1; Transaction::MAX_BYTES + 1];
    assert!(matches!(
        decode::<Transaction>(&long),
        Err(DecodeError::TooLong { .. })
    ));
}
