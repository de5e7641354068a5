//! Files of a chain's public keys: the rules KEYS-1 to KEYS-3.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

use block_chain_common::chain_keys::{ChainKeys, ChainKeysError, MAX_KEYS_BYTES};
use block_chain_common::hash::ChainId;
use block_chain_common::keys::{PublicKey, SecretKey};

fn key(seed: u16) -> PublicKey {
    let mut bytes = [3; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    SecretKey::from_seed(&bytes).public_key()
}

fn keys(members: u16) -> Result<ChainKeys, ChainKeysError> {
    ChainKeys::new(
        (ChainId::from_bytes([7; 32]), "main".to_owned()),
        key(1_000),
        (0..members).map(key).collect(),
    )
}

#[test]
fn keys_1_refuses_a_file_over_the_limit_and_takes_the_largest() {
    let found = MAX_KEYS_BYTES + 1;
    assert_eq!(
        ChainKeys::parse(&"x".repeat(found)),
        Err(ChainKeysError::TooLong { found })
    );
    let largest = keys(256).unwrap();
    assert!(largest.to_text().len() <= MAX_KEYS_BYTES);
    assert_eq!(ChainKeys::parse(&largest.to_text()), Ok(largest));
}

#[test]
fn keys_2_takes_its_one_form_and_refuses_others() {
    let keys = keys(3).unwrap();
    let text = keys.to_text();
    assert_eq!(ChainKeys::parse(&text), Ok(keys.clone()));
    let lines: Vec<&str> = text.lines().collect();
    for place in 0..lines.len() {
        let mut changed = lines.clone();
        changed[place] = "nonsense";
        let found = ChainKeys::parse(&format!("{}\n", changed.join("\n"))).unwrap_err();
        assert!(
            matches!(found, ChainKeysError::Malformed { line, .. } if line == place + 1),
            "{found}"
        );
    }
    let (first, second) = (lines[3], lines[4]);
    let swapped = text.replacen(first, "*", 1).replacen(second, first, 1);
    let doubled = format!("{text}{}\n", lines[5]);
    let upper = text.replacen(first, &first.to_uppercase().replace("MEMBER", "member"), 1);
    for other in [
        swapped.replacen('*', second, 1),
        doubled,
        upper,
        format!("{text}\n"),
        text.trim_end().to_owned(),
        text.replace('\n', "\r\n"),
        text.replacen("main", "Main", 1),
    ] {
        let found = ChainKeys::parse(&other).unwrap_err();
        assert!(
            matches!(found, ChainKeysError::Malformed { .. }),
            "{other}: {found}"
        );
    }
}

#[test]
fn keys_3_takes_1_to_256_members_and_refuses_none_and_more() {
    assert!(keys(1).is_ok() && keys(256).is_ok());
    for found in [0, 257] {
        let refused = Err(ChainKeysError::Members {
            found: usize::from(found),
        });
        assert_eq!(keys(found), refused);
    }
}
