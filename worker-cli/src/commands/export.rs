//! `export`: blocks and records as NDJSON, and the tree of headers as a static folder.
//!
//! The folder is that of C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>): `checkpoint`, `tile/L/N`, `tile/entries/N`. A leaf is a
//! block's encoded header, whose Merkle root covers its transactions; they are beside it, in `blocks.ndjson`.

mod tiles;

use super::Refusal;
use crate::api::types::NodeStatus;
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format};
use block_chain_common::checkpoint::Checkpoint;
use block_chain_common::note::SignedNote;
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tiles::TileWriter;

type Done = anyhow::Result<ExitCode>;

/// Where an export is written: whole under its name, or not at all.
enum Target {
    Output(std::io::Stdout),
    File {
        file: BufWriter<tempfile::NamedTempFile>,
        path: PathBuf,
    },
}

impl Target {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Output(std::io::stdout()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder.unwrap_or(Path::new(".")));
        let file = file.map_err(|error| cannot_write(path, &error))?;
        Ok(Self::File {
            file: BufWriter::new(file),
            path: path.to_owned(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Output(out) => Ok(out.write_all(bytes)?),
            Self::File { file, path } => {
                let written = file.write_all(bytes);
                written.map_err(|error| cannot_write(path, &error).into())
            }
        }
    }

    /// Gives the file its name; `None` for standard output.
    fn finish(self) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Output(mut out) => {
                out.flush()?;
                Ok(None)
            }
            Self::File { file, path } => {
                let failed = |error: &std::io::Error| cannot_write(&path, error);
                let file = file.into_inner().map_err(|error| failed(error.error()))?;
                file.as_file().sync_all().map_err(|error| failed(&error))?;
                file.persist(&path).map_err(|error| failed(&error.error))?;
                Ok(Some(path))
            }
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::failed(format!("cannot write {}: {error}", path.display()), None)
}

/// The committed blocks of a range, one a line.
pub(super) async fn blocks(
    node: &NodeClient,
    out: &Path,
    (from, limit): (Option<u64>, Option<u64>),
    format: Format,
) -> Done {
    let now: NodeStatus = node.get("/v1/status", &[]).await?;
    let from = from.unwrap_or(0);
    let committed = now.committed_size;
    if from > committed {
        let message = format!("block {from} is not committed: {committed} blocks are");
        return Err(Refusal::failed(message, Some("block-chain-worker status")).into());
    }
    // What is added meanwhile is left out, and what may still change too.
    let limit = limit.unwrap_or(u64::MAX).min(committed - from);
    let mut target = Target::open(out)?;
    let lines = copy_blocks(node, (from, limit), &mut target).await?;
    told(target.finish()?.as_deref(), "blocks", lines, format)
}

async fn copy_blocks(
    node: &NodeClient,
    (from, limit): (u64, u64),
    target: &mut Target,
) -> anyhow::Result<u64> {
    let query = [("from", from.to_string()), ("limit", limit.to_string())];
    let bar = output::bar(limit, "{wide_bar} {pos}/{len} blocks, {per_sec}");
    copy(node, ("/v1/blocks", &query), target, |lines| {
        bar.set_position(lines)
    })
    .await
}

/// All records, one a line.
pub(super) async fn records(node: &NodeClient, out: &Path, format: Format) -> Done {
    let mut target = Target::open(out)?;
    let bar = output::bar(0, "{spinner} {pos} records, {per_sec}");
    let lines = copy(node, ("/v1/records", &[]), &mut target, |lines| {
        bar.set_position(lines)
    })
    .await?;
    bar.finish_and_clear();
    told(target.finish()?.as_deref(), "records", lines, format)
}

/// Copies an answer of lines as it comes; how many there were.
async fn copy(
    node: &NodeClient,
    (path, query): (&str, &[(&str, String)]),
    target: &mut Target,
    progress: impl Fn(u64),
) -> anyhow::Result<u64> {
    let mut response = node.stream(path, query).await?;
    let (mut lines, mut ended) = (0_u64, true);
    while let Some(chunk) = next(&mut response).await? {
        let count = chunk.iter().filter(|byte| **byte == b'\n').count();
        lines += u64::try_from(count).unwrap_or(0);
        ended = chunk.last() == Some(&b'\n');
        target.write(&chunk)?;
        progress(lines);
    }
    match ended {
        true => Ok(lines),
        false => Err(broken().into()),
    }
}

fn broken() -> ClientError {
    ClientError::Answer("it breaks off: the node has stopped, or its store is damaged".to_owned())
}

async fn next(response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, ClientError> {
    let chunk = response.chunk().await.or(Err(broken()))?;
    Ok(chunk.map(|bytes| bytes.to_vec()))
}

fn told(path: Option<&Path>, what: &str, count: u64, format: Format) -> Done {
    // Standard output has the export itself.
    let Some(path) = path else {
        return Ok(ExitCode::SUCCESS);
    };
    if format == Format::Json {
        output::json(&json!({ "file": path, what: count }))?;
    } else {
        output::line(&format!(
            "written: {} ({} {what})",
            path.display(),
            output::grouped(count)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tree of all final blocks as a folder.
pub(super) async fn tiles(node: &NodeClient, folder: &Path, format: Format) -> Done {
    let text = node.text("/v1/checkpoint").await?;
    let unreadable = |error: String| ClientError::Answer(format!("its checkpoint: {error}"));
    let note = SignedNote::parse(&text).map_err(|error| unreadable(error.to_string()))?;
    let checkpoint = Checkpoint::from_note(&note).map_err(|error| unreadable(error.to_string()))?;
    take_folder(folder, &note)?;
    let size = checkpoint.size;
    let bar = output::bar(size, "{wide_bar} {pos}/{len} headers, {per_sec}");
    let mut writer = TileWriter::new(folder);
    let query = [("from", "0".to_owned()), ("limit", size.to_string())];
    let mut response = node.stream("/v1/headers", &query).await?;
    let mut rest = Vec::new();
    while let Some(chunk) = next(&mut response).await? {
        rest.extend_from_slice(&chunk);
        let mut at = 0;
        while let Some(entry) = tiles::entry(rest.get(at..).unwrap_or_default()) {
            writer.add(entry)?;
            at += 2 + entry.len();
        }
        rest.drain(..at);
        bar.set_position(writer.size());
    }
    bar.finish_and_clear();
    if writer.size() != size || !rest.is_empty() {
        return Err(broken().into());
    }
    let root = writer.finish()?;
    if root != checkpoint.root {
        let message = format!(
            "the headers give the root {root}, the checkpoint says {}",
            checkpoint.root
        );
        return Err(Refusal::failed(message, Some("block-chain-worker check_consistency --repair")).into());
    }
    let mut target = Target::open(&folder.join("blocks.ndjson"))?;
    copy_blocks(node, (0, size), &mut target).await?;
    target.finish()?;
    // Last: what it names is there now.
    tiles::write(&folder.join("checkpoint"), text.as_bytes())?;
    if format == Format::Json {
        output::json(&json!({ "folder": folder, "blocks": size, "root": root }))?;
    } else {
        output::line(&format!(
            "written: {} ({} blocks, root {root})",
            folder.display(),
            output::grouped(size)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A new folder, an empty one, or one that has an earlier export of the same log: its tiles stay as they are or are completed.
fn take_folder(folder: &Path, note: &SignedNote) -> anyhow::Result<()> {
    let origin = |text: &str| text.lines().next().map(str::to_owned);
    let refused = |reason: &str| {
        let message = format!("{} {reason}", folder.display());
        Refusal::failed(message, Some("name another folder"))
    };
    match fs::read_to_string(folder.join("checkpoint")) {
        Ok(earlier) if origin(&earlier) == origin(note.text()) => return Ok(()),
        Ok(_) => return Err(refused("has the log of another chain").into()),
        Err(_) => {}
    }
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    // An export that was interrupted has tiles and no checkpoint yet.
    let entries = fs::read_dir(folder).map_err(|error| cannot_write(folder, &error))?;
    for entry in entries {
        let name = entry.map_err(|error| cannot_write(folder, &error))?.file_name();
        if name != "tile" && name != "blocks.ndjson" {
            return Err(refused("is not empty").into());
        }
    }
    File::open(folder).map_err(|error| cannot_write(folder, &error))?;
    Ok(())
}
