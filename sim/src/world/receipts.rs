//! Receipts that nodes give while things fail: each still verifies at the end, and what it proves is on everybody's chain.

use super::World;
use block_chain_common::checkpoint::witness_name;
use block_chain_common::hash::TxId;
use block_chain_common::history::prove_inclusion;
use block_chain_common::merkle::prove_transaction;
use block_chain_common::note::SignedNote;
use block_chain_common::quantity::Height;
use block_chain_common::receipt::{Receipt, TrustedKeys};
use block_chain_common::transaction::Transaction;
use block_chain_worker::machine::ChainRead as _;

impl World {
    /// A user of the node takes a receipt for the last transaction that has become final.
    pub(super) fn give_receipt(&mut self, number: usize, size: u64) -> Result<(), String> {
        let Some(node) = self.nodes.get(number) else {
            return Ok(());
        };
        let (tables, height) = (node.disk.durable(), Height::new(size.saturating_sub(1)));
        let last = tables.finalised().filter(|last| last.size == size);
        let (Some(last), Some((_, hash))) = (last, tables.blocks_from(height).next()) else {
            // It knows of more by now.
            return Ok(());
        };
        let checkpoint = last.note.clone();
        let note = SignedNote::parse(&checkpoint).map_err(|error| error.to_string())?;
        let keys = self.nodes.iter().map(|node| node.key.public_key());
        let members = keys.filter(|key| note.cosigned_by(&witness_name(key), key).is_some());
        let members = members.collect();
        // A block with a turned bit is not given.
        let Ok(Some(transactions)) = node.disk.transactions(&hash) else {
            return Ok(());
        };
        let Some(transaction) = transactions.last().cloned() else {
            return Ok(());
        };
        let stored = node.disk.header(&hash).map_err(|error| error.to_string())?;
        let ids: Vec<TxId> = transactions.iter().map(Transaction::id).collect();
        let index = u32::try_from(ids.len().saturating_sub(1)).map_err(|error| error.to_string())?;
        let history = prove_inclusion(height.get(), size, &node.disk);
        self.receipts.push(Receipt {
            chain: self.spec.id(),
            chain_name: "main".to_owned(),
            coordinator: self.coordinator,
            members,
            transaction,
            header: stored.ok_or("the committed block has no header")?.header,
            proof: prove_transaction(&ids, index).ok_or("no proof of the last transaction")?,
            history: history.map_err(|error| error.to_string())?,
            checkpoint,
        });
        Ok(())
    }

    /// Every receipt that was ever given, with nothing but the chain's id and the coordinator's key; and against the chains.
    pub(super) fn check_receipts(&self) -> Result<(), String> {
        let keys = TrustedKeys {
            chain: self.spec.id(),
            coordinator: self.coordinator,
            members: Vec::new(),
        };
        for receipt in &self.receipts {
            let verified = receipt.verify(Some(&keys));
            let verified =
                verified.map_err(|error| format!("a receipt does not verify any more: {error}"))?;
            for (number, node) in self.nodes.iter().enumerate() {
                let here = node.disk.durable().blocks_from(verified.height).next();
                if here != Some((verified.height, verified.block)) {
                    return Err(format!(
                        "a receipt was given for block {} {}, node {number} has {here:?}",
                        verified.height, verified.block
                    ));
                }
            }
        }
        Ok(())
    }
}
