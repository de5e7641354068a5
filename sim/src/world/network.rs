//! What nodes say to each other, and what becomes of it on the way.

use super::kind::kind;
use super::{What, World};
use block_chain_common::block::{Block, CheckedBlock, CheckedHeader};
use block_chain_common::hash::{BlockHash, TxId};
use block_chain_common::transaction::{CheckedTransaction, Transaction};
use block_chain_worker::machine::{Event, Message, serve};
use rand::Rng as _;
use std::collections::BTreeMap;

/// What was found valid in itself.
#[derive(Default)]
pub(super) struct Checked {
    blocks: BTreeMap<BlockHash, (Block, CheckedBlock)>,
    transactions: BTreeMap<TxId, CheckedTransaction>,
}

impl World {
    /// Connections of a node come up or go down; `other` is the node itself for all of them.
    pub(super) fn peer(&mut self, number: usize, other: usize, up: bool) -> Result<(), String> {
        for peer in 0..self.nodes.len() {
            if peer == number || (other != number && other != peer) {
                continue;
            }
            for (one, another) in [(number, peer), (peer, number)] {
                if self.cut.contains(&(another, one)) && up {
                    continue;
                }
                let Some(key) = self.nodes.get(another).map(|node| node.key.public_key()) else {
                    continue;
                };
                if self.nodes.get(one).is_some_and(|node| node.machine.is_some()) {
                    self.step(one, Event::PeerDown(key))?;
                    if up {
                        self.step(one, Event::PeerUp(key))?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.percent(self.loss_percent) {
            return;
        }
        let late = if self.percent(3) { 2_000 } else { self.latency_ms };
        if self.percent(if self.faults_over { 0 } else { 2 }) {
            let after = self.rng.random_range(1..late);
            self.later(after, What::Deliver(from, to, message.clone()));
        }
        let after = self.rng.random_range(1..late);
        self.later(after, What::Deliver(from, to, message));
    }

    /// As the node's inbound side: requests are answered from the disk, what is valid in itself becomes an event.
    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) -> Result<(), String> {
        if self.cut.contains(&(from, to)) {
            return Ok(());
        }
        let chain = self.spec.id();
        let Some(peer) = self.nodes.get(from).map(|node| node.key.public_key()) else {
            return Ok(());
        };
        let Some(node) = self.nodes.get(to).filter(|node| node.machine.is_some()) else {
            return Ok(());
        };
        if message.is_request() {
            self.tell(|| format!("node {to} hears from node {from}: {}", kind(&message)));
            let mut answers = Vec::new();
            // A damaged block is not given; whoever asked asks others.
            if serve(&node.disk, &message, |answer| {
                answers.push(answer);
                true
            })
            .is_err()
            {
                self.tell(|| format!("node {to} has a damaged block"));
            }
            for answer in answers {
                self.send(to, from, answer);
            }
            return Ok(());
        }
        self.tell(|| format!("node {to} hears from node {from}: {}", kind(&message)));
        let event = match message {
            Message::Headers(headers) => {
                let headers = headers
                    .into_vec()
                    .into_iter()
                    .map(|header| CheckedHeader::check(header, chain));
                let headers = headers
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| error.to_string())?;
                Event::Headers(peer, headers)
            }
            Message::Compact { header, .. } => {
                let header = CheckedHeader::check(header, chain).map_err(|error| error.to_string())?;
                Event::Headers(peer, vec![header])
            }
            Message::Block(block) => Event::Block(peer, Box::new(self.checked_block(*block)?)),
            Message::Transactions(transactions) => {
                let checked = transactions.into_vec().into_iter();
                let checked = checked.map(|transaction| self.checked_transaction(transaction));
                Event::Transactions(peer, checked.collect::<Result<_, _>>()?)
            }
            other => Event::Message(peer, other),
        };
        self.step(to, event)
    }

    /// What is valid in itself is so on every node: its signatures are verified once.
    fn checked_block(&mut self, block: Block) -> Result<CheckedBlock, String> {
        if let Some((known, checked)) = self.checked.blocks.get(&block.header.hash())
            && *known == block
        {
            return Ok(checked.clone());
        }
        let checked =
            CheckedBlock::check(block.clone(), self.spec.id()).map_err(|error| error.to_string())?;
        self.checked
            .blocks
            .insert(checked.hash(), (block, checked.clone()));
        Ok(checked)
    }

    fn checked_transaction(&mut self, transaction: Transaction) -> Result<CheckedTransaction, String> {
        if let Some(checked) = self.checked.transactions.get(&transaction.id())
            && *checked.transaction() == transaction
        {
            return Ok(checked.clone());
        }
        let checked =
            CheckedTransaction::check(transaction, self.spec.id()).map_err(|error| error.to_string())?;
        self.checked.transactions.insert(checked.id(), checked.clone());
        Ok(checked)
    }
}
