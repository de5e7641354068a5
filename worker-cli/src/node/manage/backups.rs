//! Backups of all chains of the node: when they are asked for, and by themselves.

use super::{ChainsError, Manager};
use crate::api::types::{BackupMade, SnapshotMade};
use crate::backup::{Mark, WHAT, WorkerBackupError, make, make_snapshot, manifest};
use crate::node::{NodeHandle, now};
use crate::storage::Store;
use block_chain_backup::{FOLDER, Plan, Schedule, prune};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

impl Manager {
    /// Makes a backup in a folder, that of the data directory where none is named; then removes the oldest there but for
    /// `keep`, where that is given.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn back_up(
        &self,
        folder: Option<PathBuf>,
        keep: Option<usize>,
    ) -> Result<BackupMade, ChainsError> {
        let _one_at_a_time = self.backing_up.lock().await;
        let folder = folder.unwrap_or_else(|| self.data_dir.join(FOLDER));
        let (data_dir, home) = (self.data_dir.clone(), self.chains.home_name().to_owned());
        let (worker, chains) = (self.common.worker.to_string(), self.stores());
        let making = tokio::task::spawn_blocking(move || {
            let who = (worker.as_str(), home.as_str());
            let written = make(&data_dir, who, &chains, (&folder, now().get()))?;
            let removed = match keep {
                Some(keep) => prune(&folder, WHAT, keep)?.len(),
                None => 0,
            };
            let manifest = manifest(&written.path)?;
            Ok::<_, WorkerBackupError>(BackupMade::new(&written, manifest, removed))
        });
        let made = making.await;
        Ok(made.map_err(|error| ChainsError::Driver(error.to_string()))??)
    }

    /// Makes a snapshot of one chain in a folder, that of the backups where none is named.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn snapshot(
        &self,
        node: &NodeHandle,
        folder: Option<PathBuf>,
    ) -> Result<SnapshotMade, ChainsError> {
        let _one_at_a_time = self.backing_up.lock().await;
        let folder = folder.unwrap_or_else(|| self.data_dir.join(FOLDER));
        let (store, name) = (node.store().clone(), node.spec().spec().name.clone());
        let making =
            tokio::task::spawn_blocking(move || make_snapshot(&store, &name, (&folder, now().get())));
        let made = making.await;
        let (written, size) = made.map_err(|error| ChainsError::Driver(error.to_string()))??;
        Ok(SnapshotMade {
            file: written.path,
            sha256: written.sha256,
            bytes: written.bytes,
            size,
        })
    }

    /// Makes backups for as long as the node runs, each time something has changed.
    pub(in crate::node) async fn keep_backing_up(self: Arc<Self>, plan: Plan) {
        let mut schedule = Schedule::new(plan.every);
        loop {
            tokio::time::sleep(schedule.wait()).await;
            let mark = match self.mark().await {
                Ok(mark) if schedule.is_due(&mark) => mark,
                Ok(_) => continue,
                Err(error) => {
                    tracing::error!(%error, "whether a backup is due cannot be told");
                    continue;
                }
            };
            let began = Instant::now();
            match self.back_up(Some(plan.folder.clone()), Some(plan.keep)).await {
                Ok(made) => {
                    tracing::info!(file = %made.file.display(), bytes = made.bytes, "a backup is made");
                    schedule.made(mark, began.elapsed());
                }
                Err(error) => tracing::error!(%error, "a backup cannot be made"),
            }
        }
    }

    async fn mark(&self) -> Result<Mark, ChainsError> {
        let (data_dir, home) = (self.data_dir.clone(), self.chains.home_name().to_owned());
        let chains = self.stores();
        let marking = tokio::task::spawn_blocking(move || Mark::of(&data_dir, &home, &chains));
        let mark = marking.await;
        Ok(mark.map_err(|error| ChainsError::Driver(error.to_string()))??)
    }

    fn stores(&self) -> Vec<(String, Store)> {
        let open = self.chains.open().into_iter();
        open.map(|(name, chain)| (name, chain.node.store().clone()))
            .collect()
    }
}
