//! `receipt`, `keys` and `verify`.

mod evidence;

use super::Refusal;
use super::show::{path_part, shown};
use crate::api::json::payload_fields;
use crate::cli::Global;
use crate::client::NodeClient;
use crate::identity::{CHAIN_KEYS, ChainFile, WorkerFile, chain_dir, joined_chains};
use crate::output::{self, Format, facts};
use block_chain_common::chain_keys::{ChainKeys, MAX_KEYS_BYTES};
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::{Evidence, MAX_EVIDENCE_BYTES};
use block_chain_common::quantity::Timestamp;
use block_chain_common::receipt::{
    MAX_RECEIPT_BYTES, Receipt, ReceiptError, Standing, TrustedKeys, Verified,
};
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
    written(&path, &text, format)
}

pub(super) async fn keys(node: &NodeClient, out: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let text = node.text("/v1/keys").await?;
    if out != Path::new("-") {
        return written(out, &text, format);
    }
    if format == Format::Json {
        let keys = ChainKeys::parse(&text)?;
        output::json(&json!({
            "chain": keys.name,
            "chain_id": keys.chain,
            "coordinator_key": keys.coordinator,
            "members": keys.members(),
        }))?;
    } else {
        output::raw(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn written(path: &Path, text: &str, format: Format) -> anyhow::Result<ExitCode> {
    let done = write(path, text.as_bytes());
    done.map_err(|error| Refusal::failed(format!("cannot write {}: {error}", path.display()), None))?;
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

/// What the reader trusts, and where that is from.
struct Known {
    keys: Option<TrustedKeys>,
    from: &'static str,
}

pub(super) fn run(
    global: &Global,
    file: &Path,
    told: (Option<&Path>, Option<(&str, &str)>),
    format: Format,
) -> anyhow::Result<ExitCode> {
    let text = read(file, MAX_RECEIPT_BYTES.max(MAX_EVIDENCE_BYTES))?;
    let known = known(global, told, &text)?;
    if Evidence::is_begun_by(&text) {
        return evidence::judge(file, &text, known.keys.as_ref(), format);
    }
    if DoubleBlock::is_begun_by(&text) {
        return evidence::judge_double(file, &text, format);
    }
    let started = Instant::now();
    let receipt = Receipt::parse(&text).map_err(|error| not_proven(file, &error))?;
    let verified = receipt
        .verify(known.keys.as_ref())
        .map_err(|error| not_proven(file, &error))?;
    let microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if format == Format::Json {
        print_json(&receipt, &verified, known.from, microseconds)?;
    } else {
        print_table(&receipt, &verified, known.from, microseconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn not_proven(file: &Path, error: &ReceiptError) -> Refusal {
    let hint = match error {
        ReceiptError::Untrusted { .. } => "it is of another chain, or made by another coordinator",
        ReceiptError::NotFinal { .. } => {
            "fetch it again once the transaction is final: `transaction ID` says"
        }
        ReceiptError::NotFinalToReader { .. } => {
            "members may have changed since: fetch the keys again from a source that you trust"
        }
        _ => "it proves nothing",
    };
    Refusal::failed(format!("{}: {error}", file.display()), Some(hint))
}

fn print_json(receipt: &Receipt, verified: &Verified, source: &str, microseconds: u64) -> anyhow::Result<()> {
    let cosigners: Vec<_> = verified
        .cosigners
        .iter()
        .map(|c| json!({ "public_key": c.key, "unix_seconds": c.unix_seconds, "trusted": c.trusted }))
        .collect();
    let mut answer = json!({
        "valid": true,
        "standing": verified.standing.name(),
        "transaction_id": verified.id,
        "type": verified.kind,
        "sender": verified.sender,
        "nonce": receipt.transaction.nonce,
        "chain": receipt.chain_name,
        "chain_id": receipt.chain,
        "coordinator_key": receipt.coordinator,
        "keys_from": source,
        "block": verified.height,
        "block_hash": verified.block,
        "timestamp": verified.timestamp,
        "checkpoint_size": verified.checkpoint_size,
        "cosignatures": verified.cosignatures,
        "members": verified.members,
        "needed": verified.needed,
        "cosigners": cosigners,
        "microseconds": microseconds,
    });
    if let Some(answer) = answer.as_object_mut() {
        answer.extend(payload_fields(&receipt.transaction.payload));
    }
    output::json(&answer)
}

fn print_table(
    receipt: &Receipt,
    verified: &Verified,
    source: &str,
    microseconds: u64,
) -> anyhow::Result<()> {
    let fields = payload_fields(&receipt.transaction.payload);
    let mut rows = vec![
        ("valid", format!("yes, checked in {microseconds} µs")),
        ("proven", meaning(verified.standing).to_owned()),
        ("transaction", verified.id.to_string()),
        ("type", verified.kind.to_owned()),
    ];
    rows.extend(fields.iter().map(|(name, value)| (name.as_str(), shown(value))));
    rows.extend([
        ("signed by", verified.sender.to_string()),
        ("chain", format!("{} ({})", receipt.chain_name, receipt.chain)),
        (
            "block",
            format!("{}, made {}", verified.height, output::utc(verified.timestamp)),
        ),
        ("checkpoint", format!("{} blocks", verified.checkpoint_size)),
        ("cosigned", cosigned(verified)),
        ("coordinator", receipt.coordinator.to_string()),
        ("keys from", source.to_owned()),
    ]);
    output::line(&facts(&rows))?;
    if verified.standing != Standing::Final {
        output::note(
            "hint: `keys --out FILE` on a worker writes the chain's keys, `verify --keys FILE` takes them",
        );
    }
    Ok(())
}

const fn meaning(standing: Standing) -> &'static str {
    match standing {
        Standing::Claimed => {
            "by the keys in the file itself: compare them with keys from a source that you trust"
        }
        Standing::Committed => {
            "committed by the trusted coordinator; the members are those that the file names"
        }
        Standing::Final => "final: a majority of the trusted members has cosigned it",
    }
}

fn cosigned(verified: &Verified) -> String {
    let Verified {
        cosignatures,
        members,
        needed,
        ..
    } = verified;
    let of = if verified.standing == Standing::Final {
        "trusted members"
    } else {
        "members that the file names"
    };
    let last = verified
        .cosigners
        .iter()
        .map(|cosigner| cosigner.unix_seconds)
        .max();
    let last = last.map(|seconds| output::utc(Timestamp::new(seconds.saturating_mul(1_000))));
    let when = last.map(|when| format!(", last at {when}")).unwrap_or_default();
    format!("by {cosignatures} of {members} {of}, {needed} are needed{when}")
}

/// A file of bounded length; `-` is standard input. One byte over the limit is read, for the refusal.
fn read(file: &Path, limit: usize) -> anyhow::Result<String> {
    let unreadable =
        |error: std::io::Error| Refusal::failed(format!("cannot read {}: {error}", file.display()), None);
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(unreadable)?)
    };
    input.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Keys that were told, or those of this machine's own worker; else none but the receipt's.
fn known(global: &Global, told: (Option<&Path>, Option<(&str, &str)>), text: &str) -> anyhow::Result<Known> {
    match told {
        (Some(file), _) => Ok(Known {
            keys: Some(read_keys(file)?.trusted()),
            from: "the file of keys",
        }),
        (None, Some((coordinator, chain))) => {
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
            let members = Vec::new();
            Ok(Known {
                keys: Some(TrustedKeys {
                    chain,
                    coordinator,
                    members,
                }),
                from: "the command line",
            })
        }
        (None, None) => own(global, text),
    }
}

fn read_keys(file: &Path) -> anyhow::Result<ChainKeys> {
    let keys = ChainKeys::parse(&read(file, MAX_KEYS_BYTES)?);
    Ok(keys.map_err(|error| {
        let hint = "`block-chain-worker keys --out FILE` writes such a file";
        Refusal::failed(format!("{}: {error}", file.display()), Some(hint))
    })?)
}

/// The keys of this machine's own worker, of the chain that the text names. Damaged ones are no reason to trust the receipt's.
fn own(global: &Global, text: &str) -> anyhow::Result<Known> {
    let dir = global.data_dir();
    let Some(worker) = WorkerFile::load(&dir)? else {
        return Ok(Known {
            keys: None,
            from: "the file itself",
        });
    };
    let (mut chain_dir_of, mut chain) = (dir.clone(), worker.checked_spec(&dir)?.id());
    for name in joined_chains(&dir)? {
        let other = chain_dir(&dir, &worker.chain, &name);
        // Whichever is chosen, the receipt is held against that chain's id and keys.
        if let Some(file) = ChainFile::load(&other)?
            && let Ok(spec) = file.checked_spec(&other)
            && text.contains(&spec.id().to_string())
            && !text.contains(&chain.to_string())
        {
            (chain_dir_of, chain) = (other, spec.id());
        }
    }
    let path = chain_dir_of.join(CHAIN_KEYS);
    // There is none before the node has heard from a coordinator.
    let members = if path.exists() {
        read_keys(&path)?.trusted().members
    } else {
        Vec::new()
    };
    let keys = TrustedKeys {
        chain,
        coordinator: worker.coordinator_key,
        members,
    };
    Ok(Known {
        keys: Some(keys),
        from: "this machine's worker",
    })
}
