//! `verify` of a file in which a coordinator contradicts itself, or a producer has made two blocks for one slot.

use crate::commands::Refusal;
use crate::output::{self, Format, facts};
use block_chain_common::double_block::DoubleBlock;
use block_chain_common::evidence::{Evidence, Verdict};
use block_chain_common::receipt::TrustedKeys;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn judge(
    file: &Path,
    text: &str,
    known: Option<&TrustedKeys>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let proves_nothing = |reason: String| {
        let hint = "it proves nothing against the coordinator";
        Refusal::failed(format!("{}: {reason}", file.display()), Some(hint))
    };
    let evidence = Evidence::parse(text).map_err(|error| proves_nothing(error.to_string()))?;
    let is_theirs =
        |keys: &TrustedKeys| keys.chain == evidence.chain && keys.coordinator == evidence.coordinator;
    if known.is_some_and(|keys| !is_theirs(keys)) {
        let reason = "it is about another chain, or another coordinator's key".to_owned();
        return Err(proves_nothing(reason).into());
    }
    let verdict = evidence
        .judge()
        .map_err(|error| proves_nothing(error.to_string()))?;
    let (proven, size, first, second) = match &verdict {
        Verdict::Contradiction { size, first, second } => {
            (true, *size, first.root.to_string(), second.root.to_string())
        }
        Verdict::WordOfOne { second, own } => (false, second.size, own.to_string(), second.root.to_string()),
    };
    if format == Format::Json {
        output::json(&json!({
            "evidence": true,
            "proven": proven,
            "chain_id": evidence.chain,
            "coordinator_key": evidence.coordinator,
            "reason": evidence.reason,
            "size": size,
            "first_root": first,
            "second_root": second,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = if proven {
        "the coordinator has contradicted itself: its key has signed both checkpoints"
    } else {
        "one checkpoint is the coordinator's; that the worker's chain gives another root is the worker's word alone"
    };
    output::line(&facts(&[
        ("verdict", verdict.to_owned()),
        ("reason", evidence.reason.clone()),
        ("chain", evidence.chain.to_string()),
        ("coordinator", evidence.coordinator.to_string()),
        ("blocks", size.to_string()),
        ("first root", first),
        ("second root", second),
    ]))?;
    let keys = if known.is_some() {
        "the key is the one that this reader knows"
    } else {
        "the key stands in the file: compare it with the coordinator's, or give --keys FILE"
    };
    output::note(keys);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn judge_double(file: &Path, text: &str, format: Format) -> anyhow::Result<ExitCode> {
    let double = DoubleBlock::parse(text).map_err(|error| {
        let hint = "it proves nothing against the producer";
        Refusal::failed(format!("{}: {error}", file.display()), Some(hint))
    })?;
    let [first, second] = double.blocks();
    if format == Format::Json {
        output::json(&json!({
            "double_block": true,
            "chain_id": double.chain(),
            "producer_key": double.producer(),
            "producer": double.producer().address(),
            "slot": double.slot(),
            "first": first,
            "second": second,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&facts(&[
        (
            "verdict",
            "the producer has signed two blocks for one slot".to_owned(),
        ),
        ("chain", double.chain().to_string()),
        ("producer", double.producer().address().to_string()),
        ("slot", double.slot().to_string()),
        ("first block", first.to_string()),
        ("second block", second.to_string()),
    ]))?;
    Ok(ExitCode::SUCCESS)
}
