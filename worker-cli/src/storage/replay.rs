//! Blocks that are executed again: read whole from a store, and judged as a peer's would be.

use super::{StorageError, Store};
use crate::machine::ChainRead as _;
use block_chain_common::block::{Block, ChainTip, CheckedBlock, ConnectedBlock, connect_block};
use block_chain_common::chain_spec::CheckedSpec;
use block_chain_common::codec::BoundedVec;
use block_chain_common::quantity::Height;
use block_chain_common::state::{LatticeHash, StateView};

impl Store {
    /// A block of the chain, whole; else why it is not.
    pub(super) fn whole_block(&self, height: Height) -> Result<Block, String> {
        let text = |error: StorageError| error.to_string();
        let (hash, header) = self
            .header_at(height)
            .map_err(text)?
            .ok_or("its header is missing")?;
        let transactions = self
            .transactions(&hash)
            .map_err(text)?
            .ok_or("its transactions are missing")?;
        let transactions = BoundedVec::new(transactions).map_err(|error| error.to_string())?;
        Ok(Block { header, transactions })
    }
}

/// Connects a block to a tip on the state after it; else the rule that it breaks. It was on time when it came.
pub(super) fn execute<V: StateView<Error = StorageError>>(
    block: Block,
    (tip, spec): (&ChainTip, &CheckedSpec),
    state: (&V, &LatticeHash),
) -> Result<ConnectedBlock, String> {
    let now = block.header.timestamp;
    let checked = CheckedBlock::check(block, spec.id()).map_err(|error| error.to_string())?;
    connect_block(checked, tip, spec, state, now).map_err(|error| error.to_string())
}
