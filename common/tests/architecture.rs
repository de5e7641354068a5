//! Dependencies go one way: `common` ← `server`, `common` ← `worker-cli`; those two never see each other, and `common`
//! does no I/O. Read from the manifests and the sources.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names in a manifest's `[dependencies]`.
fn dependencies(crate_name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).unwrap();
    let table = manifest.split_once("\n[dependencies]\n").unwrap().1;
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split_once(['.', ' ', '='])?.0.to_owned()))
        .filter(|name| !name.is_empty())
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Files below `folder` in which a line of code, not of comment, has one of `words`.
fn uses(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources(&root().join(folder)) {
        for line in fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"))
        {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}: {word}: {line}", path.display()));
            }
        }
    }
    found
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let io = [
        "tokio",
        "actix-web",
        "reqwest",
        "diesel",
        "fjall",
        "iroh",
        "getrandom",
        "rand",
        "tracing",
        "anyhow",
    ];
    let of_core = dependencies("common");
    assert!(of_core.contains(&"borsh".to_owned()), "the manifest was not read");
    let wrong: Vec<_> = of_core
        .iter()
        .filter(|name| io.contains(&name.as_str()) || name.starts_with("block_chain"))
        .collect();
    assert!(wrong.is_empty(), "common depends on {wrong:?}");
}

#[test]
fn the_core_reads_no_clock_file_socket_or_chance_and_starts_no_thread() {
    let words = [
        "std::fs",
        "std::net",
        "std::time",
        "std::thread",
        "std::env",
        "std::process",
        "SystemTime",
        "Instant::",
        "HashMap",
        "HashSet",
        "async fn",
        "println!",
        "OsRng",
        "thread_rng",
    ];
    let found = uses("common/src", &words);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn server_and_worker_never_see_each_other() {
    for (one, other) in [
        ("server", "block_chain_worker"),
        ("worker-cli", "block_chain_server"),
    ] {
        assert!(
            dependencies(one).contains(&"block_chain_common".to_owned()),
            "{one} is not built on common"
        );
        assert!(
            !dependencies(one).contains(&other.to_owned()),
            "{one} depends on {other}"
        );
        let found = uses(&format!("{one}/src"), &[&format!("{other}::")]);
        assert!(found.is_empty(), "{found:#?}");
    }
}
