//! Forks: made of the replica of their parent, which is joined where it is missing.

use super::{ChainsError, LOOK, Manager};
use crate::api::types::{ForkPoint, NewChain};
use crate::identity::make_private_dir;
use crate::node::OpenChain;
use crate::storage::ForkBuilder;
use block_chain_common::chain_spec::{ChainSpec, CheckedSpec, Parent};
use block_chain_common::hash::{ChainId, Digest};
use block_chain_common::limits::check_name;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a fork's parent that was joined for it may take to be fetched.
const FETCHED: Duration = Duration::from_secs(30);

impl Manager {
    /// Makes a fork's store of its parent's replica. A parent that this node has not joined is joined.
    pub(super) async fn inherit(&self, spec: &CheckedSpec, dir: &Path) -> Result<(), ChainsError> {
        let Some(named) = spec.spec().parent.clone() else {
            return Ok(());
        };
        let name = &spec.spec().name;
        let parent = self.parent_of(name, named.chain).await?;
        let deadline = Instant::now() + FETCHED;
        let is_final = || {
            let known = parent.node.store().final_checkpoint();
            known.is_some_and(|checkpoint| named.height.get() < checkpoint.size)
        };
        while !is_final() {
            if Instant::now() > deadline {
                return Err(ChainsError::ParentBehind {
                    name: name.clone(),
                    parent: parent.node.spec().spec().name.clone(),
                    height: named.height,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        let (dir, spec) = (dir.to_owned(), spec.clone());
        let made = tokio::task::spawn_blocking(move || {
            let from = (parent.node.store(), parent.node.spec());
            ForkBuilder::build(&dir, from, spec.spec())?.finish(&spec)
        });
        Ok(made
            .await
            .map_err(|error| ChainsError::Driver(error.to_string()))??)
    }

    async fn parent_of(&self, name: &str, id: ChainId) -> Result<Arc<OpenChain>, ChainsError> {
        let open = || {
            let mut all = self.chains.open().into_iter();
            all.find(|(_, chain)| chain.node.chain_id() == id)
                .map(|(_, chain)| chain)
        };
        if let Some(parent) = open() {
            return Ok(parent);
        }
        let known = self.common.client.chains().await?;
        let found = known.into_iter().find(|chain| chain.id == id);
        let unknown = || ChainsError::NoParent {
            name: name.to_owned(),
            parent: id,
        };
        let spec = self.fetch(&found.ok_or_else(unknown)?.name).await?;
        tracing::info!(
            chain = name,
            parent = spec.spec().name,
            "the fork's parent is joined too"
        );
        // Of a fork of forks one after the other: each names a parent that was there before it.
        Box::pin(self.take_up(spec)).await?;
        open().ok_or_else(unknown)
    }

    /// The spec of a fork, and its store, which has no first block yet.
    pub(super) async fn fork(
        &self,
        new: NewChain,
        point: ForkPoint,
    ) -> Result<(CheckedSpec, ForkBuilder), ChainsError> {
        check_name(&point.from)?;
        let parent = self.chains.get(Some(&point.from));
        let parent = parent.ok_or_else(|| ChainsError::NotJoined {
            name: point.from.clone(),
        })?;
        let store = parent.node.store();
        let finals = store.final_checkpoint().map_or(0, |checkpoint| checkpoint.size);
        let not_final = || ChainsError::NotFinal {
            from: point.from.clone(),
            height: point.at,
            blocks: store.head().0.get().saturating_add(1),
            finals,
        };
        if point.at.get() >= finals {
            return Err(not_final());
        }
        let (block, _) = store.header_at(point.at)?.ok_or_else(not_final)?;
        let base = ChainSpec {
            name: new.name,
            grants: Default::default(),
            balances: Default::default(),
            stakes: Default::default(),
            parent: Some(Parent {
                chain: parent.node.chain_id(),
                height: point.at,
                block,
                state_digest: Digest::ZERO,
            }),
            ..parent.node.spec().spec().clone()
        };
        let mut spec = new.spec.into_spec(base)?;
        // Before the work: with whatever digest, the other rules hold or not.
        spec.clone().check()?;
        let dir = self.dir(&spec.name);
        make_private_dir(&dir)?;
        let unfinished = spec.clone();
        let building = tokio::task::spawn_blocking(move || {
            ForkBuilder::build(&dir, (parent.node.store(), parent.node.spec()), &unfinished)
        });
        let builder = building
            .await
            .map_err(|error| ChainsError::Driver(error.to_string()))??;
        if let Some(parent) = &mut spec.parent {
            parent.state_digest = builder.digest();
        }
        Ok((spec.check()?, builder))
    }
}
