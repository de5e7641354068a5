//! `receipt` and `verify`.

use super::Refusal;
use super::show::path_part;
use crate::cli::Global;
use crate::client::NodeClient;
use crate::identity::WorkerFile;
use crate::output::{self, Format, facts};
use block_chain_common::receipt::{MAX_RECEIPT_BYTES, Receipt, TrustedKeys};
use serde_json::json;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub(super) async fn receipt(
    node: &NodeClient,
    id: &str,
    out: Option<&Path>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let text = node.text(&format!("/v1/receipts/{}", path_part(id))).await?;
    let default = || PathBuf::from(format!("{}.receipt", id.chars().take(16).collect::<String>()));
    let path = out.map_or_else(default, Path::to_path_buf);
    if path == Path::new("-") {
        output::raw(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = write(&path, text.as_bytes());
    written.map_err(|error| Refusal::failed(format!("cannot write {}: {error}", path.display()), None))?;
    if format == Format::Json {
        output::json(&json!({ "file": path, "bytes": text.len() }))?;
    } else {
        output::line(&format!(
            "written: {} ({})",
            path.display(),
            output::bytes(text.len())
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Wholly or not at all, and never in place of a device.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

pub(super) fn run(
    global: &Global,
    file: &Path,
    keys: Option<(&str, &str)>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let started = Instant::now();
    let not_proven =
        |error: String| Refusal::failed(format!("{}: {error}", file.display()), Some("it proves nothing"));
    let receipt = Receipt::parse(&text).map_err(|error| not_proven(error.to_string()))?;
    let (trusted, source) = trusted_keys(global, keys)?;
    let verified = receipt
        .verify(trusted.as_ref())
        .map_err(|error| not_proven(error.to_string()))?;
    let microseconds = started.elapsed().as_micros();
    if format == Format::Json {
        output::json(&json!({
            "valid": true,
            "transaction_id": verified.id,
            "type": receipt.transaction.payload.kind(),
            "sender": verified.sender,
            "chain": receipt.chain_name,
            "chain_id": receipt.chain,
            "coordinator_key": receipt.coordinator,
            "keys_from": source,
            "block": verified.height,
            "block_hash": verified.block,
            "timestamp": verified.timestamp,
            "checkpoint_size": verified.checkpoint_size,
            "cosignatures": verified.cosignatures,
            "needed": verified.needed,
            "microseconds": u64::try_from(microseconds).unwrap_or(u64::MAX),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&facts(&[
        ("valid", format!("yes, checked in {microseconds} µs")),
        ("transaction", verified.id.to_string()),
        ("type", receipt.transaction.payload.kind().to_owned()),
        ("signed by", verified.sender.to_string()),
        ("chain", format!("{} ({})", receipt.chain_name, receipt.chain)),
        (
            "block",
            format!("{}, made {}", verified.height, output::utc(verified.timestamp)),
        ),
        (
            "checkpoint",
            format!(
                "{} blocks, {} cosignatures, {} needed",
                verified.checkpoint_size, verified.cosignatures, verified.needed
            ),
        ),
        ("coordinator", receipt.coordinator.to_string()),
        ("keys from", source.to_owned()),
    ]))?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let unreadable =
        |error: std::io::Error| Refusal::failed(format!("cannot read {}: {error}", file.display()), None);
    let limit = u64::try_from(MAX_RECEIPT_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut text = String::new();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(unreadable)?)
    };
    input.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Keys that were told, or those of this machine's own worker; else none but the file's.
fn trusted_keys(
    global: &Global,
    keys: Option<(&str, &str)>,
) -> anyhow::Result<(Option<TrustedKeys>, &'static str)> {
    if let Some((coordinator, chain)) = keys {
        let usage = |message: String| Refusal {
            message,
            hint: None,
            code: 2,
        };
        let coordinator = coordinator
            .parse()
            .map_err(|error| usage(format!("--coordinator-key: {error}")))?;
        let chain = chain
            .parse()
            .map_err(|error| usage(format!("--chain-id: {error}")))?;
        return Ok((Some(TrustedKeys { chain, coordinator }), "the command line"));
    }
    let dir = global.data_dir();
    // Damaged keys are no reason to trust the file's own.
    match WorkerFile::load(&dir)? {
        Some(worker) => {
            let chain = worker.checked_spec(&dir)?.id();
            Ok((
                Some(TrustedKeys {
                    chain,
                    coordinator: worker.coordinator_key,
                }),
                "this machine's worker",
            ))
        }
        None => Ok((
            None,
            "the file itself: compare the coordinator's key with one from a source that you trust",
        )),
    }
}
