//! Backups of all chains of the node: when they are asked for, and by themselves.

use super::{ChainsError, Manager};
use crate::api::types::{BackupMade, SnapshotMade};
use crate::backup::{Mark, Source, WorkerBackupError, make, make_snapshot, manifest};
use crate::identity::{ChainFile, joined_chains};
use crate::node::{NodeHandle, now};
use crate::storage::Store;
use block_chain_backup::{Cause, FOLDER, Plan, Schedule, prune};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

impl Manager {
    /// Makes a backup in a folder, that of the data directory where none is named; then removes the oldest there that came
    /// about in the same way but for `keep`, where that is given. Where a chain that was joined is not in it nothing is removed:
    /// an older one may have it.
    ///
    /// # Errors
    /// See [`ChainsError`].
    pub async fn back_up(
        &self,
        cause: Cause,
        folder: Option<PathBuf>,
        keep: Option<usize>,
    ) -> Result<BackupMade, ChainsError> {
        let _one_at_a_time = self.backing_up.lock().await;
        let folder = folder.unwrap_or_else(|| self.data_dir.join(FOLDER));
        let (data_dir, home) = (self.data_dir.clone(), self.chains.home_name().to_owned());
        let (worker, chains) = (self.common.worker.to_string(), self.stores());
        let missing = self.missing(&chains)?;
        let making = tokio::task::spawn_blocking(move || {
            let source = Source {
                data_dir: &data_dir,
                worker: &worker,
                home: &home,
                chains: &chains,
                missing: &missing,
            };
            let written = make(&source, cause, (&folder, now().get()))?;
            let removed = match keep.filter(|_| missing.is_empty()) {
                Some(keep) => prune(&folder, &source.series(cause), keep, &written.path)?.len(),
                None => 0,
            };
            let manifest = manifest(&written.path)?;
            Ok::<_, WorkerBackupError>(BackupMade::new(&written, manifest, removed))
        });
        let made = making.await;
        Ok(made.map_err(|error| ChainsError::Driver(error.to_string()))??)
    }

    /// The chains that this worker has joined, and that are not open.
    fn missing(&self, open: &[(String, Store)]) -> Result<Vec<String>, ChainsError> {
        let mut missing: BTreeSet<String> = self.chains.failed().into_iter().map(|(name, _)| name).collect();
        for name in joined_chains(&self.data_dir)? {
            // One whose file cannot be read was joined as well.
            if !matches!(
                ChainFile::load(&self.dir(&name)),
                Ok(None | Some(ChainFile { left: true, .. }))
            ) {
                missing.insert(name);
            }
        }
        missing.retain(|name| !open.iter().any(|(open, _)| open == name));
        Ok(missing.into_iter().collect())
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
        let worker = self.common.worker.to_string();
        let making = tokio::task::spawn_blocking(move || {
            make_snapshot(&store, (&name, &worker), (&folder, now().get()))
        });
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
            let folder = Some(plan.folder.clone());
            match self.back_up(Cause::Automatic, folder, Some(plan.keep)).await {
                Ok(made) => {
                    tracing::info!(file = %made.file.display(), bytes = made.bytes, "a backup is made");
                    if !made.missing.is_empty() {
                        let missing = made.missing.join(", ");
                        tracing::warn!(%missing, "chains that cannot be opened are not in the backup, so no older one is removed");
                    }
                    schedule.made(mark, began.elapsed());
                }
                Err(error) => {
                    tracing::error!(%error, "a backup cannot be made");
                    schedule.failed(began.elapsed());
                }
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
