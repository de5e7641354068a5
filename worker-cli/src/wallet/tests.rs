//! Names, passphrases, files.

use super::*;
use crate::identity::load_or_create_key;
use std::os::unix::fs::PermissionsExt as _;

fn none() -> anyhow::Result<Option<Zeroizing<String>>> {
    Ok(None)
}

fn typed(text: &str) -> impl FnOnce() -> anyhow::Result<Option<Zeroizing<String>>> {
    let text = Zeroizing::new(text.to_owned());
    move || Ok(Some(text))
}

#[test]
fn the_workers_own_key_is_the_default_until_another_is_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let wallets = Wallets::of(dir.path());
    assert!(wallets.list().unwrap().is_empty());
    assert!(matches!(wallets.find_or_default(None), Err(WalletError::None)));
    let only = wallets.add(None, Some("shop"), None, None).unwrap();
    assert_eq!(wallets.find_or_default(None).unwrap().address, only.address);
    let worker = load_or_create_key(dir.path()).unwrap().public_key().address();
    assert_eq!(wallets.find_or_default(None).unwrap().address, worker);
    assert_eq!(wallets.find(WORKER).unwrap().address, worker);
    assert_eq!(wallets.find(&worker.to_string()).unwrap().address, worker);
    wallets.set_default(&only.address).unwrap();
    assert_eq!(wallets.find_or_default(None).unwrap().address, only.address);
    let listed: Vec<Address> = wallets
        .list()
        .unwrap()
        .iter()
        .map(|wallet| wallet.address)
        .collect();
    assert_eq!(listed, [worker, only.address]);
}

#[test]
fn names_find_one_wallet_and_are_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let wallets = Wallets::of(dir.path());
    let ada = wallets
        .add(None, Some("ada"), Some("+49 (170) 12-34"), None)
        .unwrap();
    assert_eq!(ada.number.as_deref(), Some("+491701234"));
    for name in ["ada", "+491701234", "+49 170 1234", &ada.address.to_string()] {
        assert_eq!(wallets.find(name).unwrap().address, ada.address, "{name}");
    }
    for name in ["Ada", "491701234", "", "nobody"] {
        assert!(
            matches!(wallets.find(name), Err(WalletError::Unknown(_))),
            "{name}"
        );
    }
    for (label, number) in [
        (Some("ada"), None),
        (Some("bob"), Some("+491701234")),
        (Some(WORKER), None),
    ] {
        let taken = wallets.add(None, label, number, None);
        assert!(matches!(taken, Err(WalletError::Taken(_))), "{label:?}");
    }
    let long = "x".repeat(65);
    for label in ["", " ", "a\u{7}", "bcw1abc", "BCW1", "12345", &long] {
        let refused = wallets.add(None, Some(label), None, None);
        assert!(matches!(refused, Err(WalletError::Label { .. })), "{label:?}");
    }
    for number in ["", "12", "1234567890123456", "12a4", "++123"] {
        let refused = wallets.add(None, None, Some(number), None);
        assert!(matches!(refused, Err(WalletError::Number { .. })), "{number:?}");
    }
    assert_eq!(wallets.list().unwrap().len(), 1, "nothing of it was kept");
    assert!(
        wallets
            .add(None, Some(&"x".repeat(64)), Some("123"), None)
            .is_ok()
    );
}

#[test]
fn a_key_under_a_passphrase_opens_with_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let wallets = Wallets::of(dir.path());
    let key = SecretKey::from_seed(&[7; 32]);
    let sealed = wallets
        .add(Some(&key), Some("safe"), None, Some("correct horse"))
        .unwrap();
    let path = dir
        .path()
        .join("wallets")
        .join(format!("{}.json", sealed.address));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&hex::encode([7; 32])), "{text}");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let found = wallets.find("safe").unwrap();
    assert_eq!(
        found.open(typed("correct horse")).unwrap().public_key(),
        key.public_key()
    );
    let error = |opened: anyhow::Result<SecretKey>| opened.unwrap_err().to_string();
    assert!(error(found.open(typed("wrong"))).contains("does not open"));
    assert!(error(found.open(none)).contains("is encrypted"));
    assert!(matches!(
        wallets.add(None, None, None, Some("")),
        Err(WalletError::EmptyPassphrase)
    ));
    // The same key under another passphrase, for a file that leaves this machine.
    let moved = found.under(&key, Some("battery staple")).unwrap();
    assert!(moved.open(typed("correct horse")).is_err());
    assert!(moved.open(typed("battery staple")).is_ok());
    assert!(!format!("{:?}", wallets.add(None, None, None, None).unwrap()).contains("seed: \""));
}

#[test]
fn an_exported_wallet_is_taken_elsewhere_once() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made = Wallets::of(here.path())
        .add(None, Some("shop"), Some("12345"), Some("x"))
        .unwrap();
    let other = Wallets::of(there.path());
    let taken = other.import(&made.to_text(), Path::new("f")).unwrap();
    assert_eq!(
        (taken.address, taken.label.as_deref()),
        (made.address, Some("shop"))
    );
    assert!(matches!(
        other.import(&made.to_text(), Path::new("f")),
        Err(WalletError::Taken(_))
    ));
    // The worker's own is one like any other elsewhere, and needs no label.
    load_or_create_key(here.path()).unwrap();
    let worker = Wallets::of(here.path()).find(WORKER).unwrap();
    assert_eq!(
        other.import(&worker.to_text(), Path::new("f")).unwrap().label,
        None
    );
}

#[test]
fn files_that_are_no_wallets_are_refused_and_keep_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wallets = Wallets::of(dir.path());
    let good = Wallet::new(&SecretKey::from_seed(&[7; 32]), (None, None), Some("x")).unwrap();
    let other = Wallet::new(&SecretKey::from_seed(&[8; 32]), (None, None), None).unwrap();
    let text = good.to_text();
    let refused = [
        String::new(),
        "{}".to_owned(),
        text.replacen("\"format\": 1", "\"format\": 2", 1),
        text.replacen(&good.address.to_string(), &other.address.to_string(), 1),
        text.replacen("\"key\"", "\"more\": 1, \"key\"", 1),
        text.replacen("\"salt\": \"", "\"salt\": \"00", 1),
    ];
    for bad in &refused {
        let error = wallets.import(bad, Path::new("f")).unwrap_err().to_string();
        assert!(error.starts_with("f "), "{error}");
    }
    assert!(wallets.list().unwrap().is_empty());
    // What would take this machine's memory is refused before any of it is taken.
    let greedy = text.replacen("65536", "4294967295", 1);
    let greedy = wallets.import(&greedy, Path::new("f")).unwrap();
    let error = greedy.open(typed("x")).unwrap_err().to_string();
    assert!(error.contains("at most 1048576"), "{error}");
    // A key that is not its address's.
    let mut swapped = good.clone();
    swapped.key = other.key.clone();
    assert!(
        swapped
            .open(none)
            .unwrap_err()
            .to_string()
            .contains("not that of its address")
    );
    for hex in ["", "zz", &"0".repeat(63), &"0".repeat(66)] {
        assert!(matches!(secret_from_hex(hex), Err(WalletError::Secret)));
    }
    std::fs::write(dir.path().join("wallets/x.json"), "x".repeat(20_000)).unwrap();
    assert!(wallets.list().unwrap_err().to_string().contains("16384"));
}
