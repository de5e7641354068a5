//! Messages in a few words.

use block_chain_worker::machine::Message;

/// A message in a few words, for the trace.
pub(super) fn kind(message: &Message) -> String {
    match message {
        Message::Status(status) => format!(
            "status, height {}, {} committed",
            status.height, status.committed_size
        ),
        Message::Compact { header, .. } => format!("block {} compact", header.height),
        Message::Transactions(transactions) => format!("{} transactions", transactions.as_slice().len()),
        Message::Propose { term, height, .. } => format!("block {height} proposed in term {term}"),
        Message::Acknowledge(ack) => format!("block {} acknowledged in term {}", ack.height, ack.term),
        Message::Checkpoint(_) => "a checkpoint".to_owned(),
        Message::GetHeaders(_) => "headers wanted".to_owned(),
        Message::Headers(headers) => format!("{} headers", headers.as_slice().len()),
        Message::GetBlocks(hashes) => format!("{} blocks wanted", hashes.as_slice().len()),
        Message::Block(block) => format!("block {}", block.header.height),
        Message::NotFound(hashes) => format!("{} blocks not found", hashes.as_slice().len()),
        Message::GetMempool => "mempool wanted".to_owned(),
        Message::MempoolIds(ids) => format!("{} ids", ids.as_slice().len()),
        Message::GetTransactions(ids) => format!("{} transactions wanted", ids.as_slice().len()),
        Message::GetHashes(_) | Message::Hashes(_) => "hashes".to_owned(),
        Message::Evidence(_) => "evidence".to_owned(),
    }
}
