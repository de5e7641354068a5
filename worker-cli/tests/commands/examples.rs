//! The scripts of `docs/examples`, each the whole story of a user, from an empty folder.

use std::path::Path;
use std::process::{Command, Stdio};

fn tell(script: &str) {
    let worker = Path::new(env!("CARGO_BIN_EXE_block-chain-worker"));
    let programs = worker.parent().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BLOCK_CHAIN_") {
            command.env_remove(name);
        }
    }
    // Its folder in one of ours: whatever it leaves behind is seen.
    let place = tempfile::tempdir().unwrap();
    let told = command
        .arg(folder.join(script))
        .env("PATH", path)
        .env("TMPDIR", place.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr),
    );
    assert!(told.status.success(), "{script}:\n{said}\n{errors}");
    assert!(
        said.ends_with("== done\n"),
        "{script} does not come to its end:\n{said}"
    );
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "{script} leaves {left:?}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let place = place.path().to_string_lossy().into_owned();
    for process in processes {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        assert!(!command.contains(&place), "{script} leaves {command}");
    }
}

#[test]
fn wallets_deposits_and_transfers() {
    tell("wallets.sh");
}

#[test]
fn a_chain_of_stake() {
    tell("stake.sh");
}

#[test]
fn several_chains_and_a_fork() {
    tell("chains.sh");
}

#[test]
fn peers_with_a_tracker() {
    tell("peers.sh");
}
