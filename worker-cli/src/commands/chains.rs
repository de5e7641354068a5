//! `chain`: making, forking, listing, joining and leaving chains.

use super::{Refusal, value};
use crate::api::types::{ChainDetail, ChainEntry, ChainLeft, ChainList, ForkPoint, Joined, NewChain};
use crate::cli::Global;
use crate::cli::chains::{ChainCommand, SpecFlags};
use crate::client::NodeClient;
use crate::output::{self, Format, facts, list};
use crate::spec_file::SpecFile;
use crate::wallet::Wallets;
use block_chain_common::limits::{MAX_SPEC_BYTES, check_name};
use block_chain_common::quantity::Height;
use serde_json::json;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// The longest file of a spec: each entry is written out.
const MAX_FILE_BYTES: u64 = 8 * MAX_SPEC_BYTES as u64;

type Done = anyhow::Result<ExitCode>;

pub(super) async fn run(global: &Global, command: ChainCommand, format: Format) -> Done {
    match command {
        ChainCommand::Create { name, creator, spec } => {
            named(&name)?;
            let wallets = Wallets::of(&global.data_dir());
            let creator = match &creator {
                Some(creator) => value::recipient(&wallets, creator)?,
                None => wallets.find_or_default(None)?.address,
            };
            let new = NewChain {
                name,
                creator: Some(creator),
                spec: read_spec(&spec)?,
                fork: None,
            };
            make(global, &new, format).await
        }
        ChainCommand::Fork { from, at, name, spec } => {
            named(&name)?;
            named(&from)?;
            let at = Height::new(at);
            let new = NewChain {
                name,
                creator: None,
                spec: read_spec(&spec)?,
                fork: Some(ForkPoint { from, at }),
            };
            make(global, &new, format).await
        }
        ChainCommand::List => all(global, format).await,
        ChainCommand::Show { name } => {
            let node = NodeClient::connect(global).await?;
            let name = name.unwrap_or_else(|| node.chain().to_owned());
            named(&name)?;
            show(&node.for_all_chains(), &name, format).await
        }
        ChainCommand::Join { name } => {
            named(&name)?;
            let node = NodeClient::connect(global).await?.for_all_chains();
            let joined: Joined = node.post(&format!("/v1/chains/{name}/join"), &json!({})).await?;
            joined_done(&joined, format)
        }
        ChainCommand::Leave { name } => {
            named(&name)?;
            let node = NodeClient::connect(global).await?.for_all_chains();
            let left: ChainLeft = node.post(&format!("/v1/chains/{name}/leave"), &json!({})).await?;
            if format == Format::Json {
                output::json(&left)?;
            } else {
                output::line(&format!(
                    "left chain {name}; its data stays, and `chain join {name}` takes it up again"
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A name is checked before it becomes part of a path.
fn named(name: &str) -> anyhow::Result<()> {
    check_name(name).map_err(|error| {
        Refusal {
            message: error.to_string(),
            hint: None,
            code: 2,
        }
        .into()
    })
}

fn read_spec(flags: &SpecFlags) -> anyhow::Result<SpecFile> {
    let from_file = match &flags.file {
        Some(file) => read_file(file)?,
        None => SpecFile::default(),
    };
    Ok(flags.spec().or(from_file))
}

fn read_file(file: &Path) -> anyhow::Result<SpecFile> {
    let shown = file.display();
    let refused = |reason: String| {
        let hint = "`chain show --json` prints such a spec, under \"spec\"";
        Refusal::failed(format!("{shown}: {reason}"), Some(hint))
    };
    let mut text = String::new();
    let mut reader: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| refused(error.to_string()))?)
    };
    let read = reader.by_ref().take(MAX_FILE_BYTES).read_to_string(&mut text);
    read.map_err(|error| refused(error.to_string()))?;
    Ok(serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?)
}

async fn make(global: &Global, new: &NewChain, format: Format) -> Done {
    let node = NodeClient::connect(global).await?.for_all_chains();
    let joined: Joined = node.post("/v1/chains", new).await?;
    joined_done(&joined, format)
}

fn joined_done(joined: &Joined, format: Format) -> Done {
    if format == Format::Json {
        output::json(joined)?;
    } else {
        output::line(&facts(&[
            ("chain", joined.chain.clone()),
            ("id", joined.chain_id.to_string()),
            ("joined", if joined.joined { "now" } else { "before" }.to_owned()),
            ("use it", format!("--chain {} with any command", joined.chain)),
        ]))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn all(global: &Global, format: Format) -> Done {
    let node = NodeClient::connect(global).await?.for_all_chains();
    let found: ChainList = node.get("/v1/chains", &[]).await?;
    if format == Format::Json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "chain",
        "proof",
        "here",
        "#height",
        "#committed",
        "#final",
        "#workers",
        "forked from",
    ];
    let name_of = |entry: &ChainEntry| {
        let parent = entry.parent?;
        let known = found.chains.iter().find(|chain| chain.id == parent);
        Some(known.map_or_else(
            || parent.to_string().chars().take(16).collect(),
            |chain| chain.name.clone(),
        ))
    };
    let rows = found.chains.iter().map(|entry| {
        let here = match (entry.home, entry.joined, &entry.failed) {
            (_, _, Some(_)) => "cannot be opened",
            (true, _, _) => "home",
            (false, true, _) => "joined",
            (false, false, _) => "",
        };
        vec![
            entry.name.clone(),
            entry.proof.clone(),
            here.to_owned(),
            entry.height.map(|height| height.to_string()).unwrap_or_default(),
            entry.committed_size.to_string(),
            entry.final_size.to_string(),
            entry.members.to_string(),
            name_of(entry).unwrap_or_default(),
        ]
    });
    output::line(&list(&header, rows.collect()))?;
    for entry in &found.chains {
        if let Some(reason) = &entry.failed {
            output::note(&format!(
                "chain {}: {reason}\nhint: check_consistency --repair --chain {}",
                entry.name, entry.name
            ));
        }
    }
    if let Some(error) = found.error {
        output::note(&format!("only this worker's chains are known: {error}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(node: &NodeClient, name: &str, format: Format) -> Done {
    let detail: ChainDetail = node.get(&format!("/v1/chains/{name}"), &[]).await?;
    if format == Format::Json {
        output::json(&detail)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ("chain".to_owned(), detail.name),
        ("id".to_owned(), detail.id.to_string()),
        (
            "joined".to_owned(),
            if detail.joined { "yes" } else { "no" }.to_owned(),
        ),
    ];
    if let Some(parent) = &detail.parent {
        let height = parent.height;
        rows.push((
            "forked from".to_owned(),
            format!("block {height} of {}", parent.chain),
        ));
    }
    let spec = serde_json::to_value(&detail.spec)?;
    for (field, value) in spec.as_object().into_iter().flatten() {
        let shown = match value {
            serde_json::Value::Array(entries) if entries.iter().any(serde_json::Value::is_object) => {
                format!("{} (--json shows them)", entries.len())
            }
            serde_json::Value::Array(entries) => {
                let names: Vec<&str> = entries.iter().filter_map(serde_json::Value::as_str).collect();
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            }
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push((field.replace('_', " "), shown));
    }
    let rows: Vec<(&str, String)> = rows
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    output::line(&facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}
