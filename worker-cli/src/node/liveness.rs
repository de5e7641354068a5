//! What a worker shows itself before it tells the coordinator that it lives: its disk takes writes, and each chain's thread works.
//! A lease that is renewed by less would be kept by a leader that can do nothing.

use super::handle::Shared;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// The file that is written and synced.
const FILE: &str = "alive";
/// How long what was shown counts: news make heartbeats come more often.
const FRESH: Duration = Duration::from_secs(1);
/// How long the disk may take.
const DISK: Duration = Duration::from_secs(3);
/// How long a chain's thread may be without a step: it has one every three seconds at least.
const THREAD: Duration = Duration::from_secs(10);

/// Whether a chain's thread works: what was seen of it last.
#[derive(Debug)]
pub(super) struct ThreadWatch {
    /// Steps of the chain's thread, and when they had become so many.
    steps: Mutex<(u64, Instant)>,
}

impl Default for ThreadWatch {
    fn default() -> Self {
        Self {
            steps: Mutex::new((0, Instant::now())),
        }
    }
}

impl ThreadWatch {
    /// Whether it has done something lately; why that is too little.
    pub(super) fn works(&self, shared: &Shared, now: Instant) -> Result<(), String> {
        self.at(shared.steps.load(Ordering::Relaxed), now)
    }

    fn at(&self, steps: u64, now: Instant) -> Result<(), String> {
        let mut seen = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != steps {
            *seen = (steps, now);
        }
        let idle = now.saturating_duration_since(seen.1);
        if idle <= THREAD {
            return Ok(());
        }
        let seconds = idle.as_secs();
        Err(format!("the chain's thread has done nothing for {seconds} s"))
    }
}

/// Whether the node's disk takes writes.
#[derive(Debug)]
pub(super) struct DiskWatch {
    dir: PathBuf,
    /// When the disk has taken a write last.
    written: Mutex<Option<Instant>>,
    /// Held while the disk is written to.
    writing: Arc<Mutex<u64>>,
}

impl DiskWatch {
    /// Of the disk that a directory is on.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            written: Mutex::default(),
            writing: Arc::default(),
        }
    }

    /// Whether it takes a write; why not.
    pub(super) async fn works(&self) -> Result<(), String> {
        let now = Instant::now();
        let last = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < FRESH) {
            return Ok(());
        }
        let (writing, dir) = (Arc::clone(&self.writing), self.dir.clone());
        let written = tokio::task::spawn_blocking(move || write(&writing, &dir));
        match tokio::time::timeout(DISK, written).await {
            Ok(Ok(Ok(()))) => {
                *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                Ok(())
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(too_slow()),
        }
    }
}

fn too_slow() -> String {
    let seconds = DISK.as_secs();
    format!("the disk has not taken a small write within {seconds} s")
}

/// One write at a time: a disk that hangs would else have ever more of them wait.
fn write(writing: &Mutex<u64>, dir: &Path) -> Result<(), String> {
    let mut count = match writing.try_lock() {
        Ok(count) => count,
        Err(TryLockError::WouldBlock) => return Err(too_slow()),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
    };
    *count = count.wrapping_add(1);
    let path = dir.join(FILE);
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let written = opened.and_then(|file| {
        file.write_all_at(&count.to_le_bytes(), 0)?;
        file.sync_data()
    });
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_stuck_is_noticed_and_one_that_goes_on_is_not() {
        let thread = ThreadWatch::default();
        let began = Instant::now();
        assert_eq!(thread.at(1, began), Ok(()));
        assert_eq!(thread.at(1, began + THREAD), Ok(()));
        let stuck = thread.at(1, began + THREAD + Duration::from_millis(1));
        assert_eq!(
            stuck,
            Err("the chain's thread has done nothing for 10 s".to_owned())
        );
        assert_eq!(thread.at(2, began + THREAD * 2), Ok(()));
        assert_eq!(thread.at(2, began + THREAD * 3), Ok(()));
    }

    #[test]
    fn a_disk_that_refuses_or_hangs_is_noticed() {
        let (dir, writing) = (tempfile::tempdir().expect("a folder"), Mutex::new(0));
        assert_eq!(write(&writing, dir.path()), Ok(()));
        let nowhere = write(&writing, &dir.path().join("nowhere"));
        assert!(nowhere.is_err_and(|error| error.starts_with("cannot write")));
        let _hanging = writing.lock();
        assert_eq!(write(&writing, dir.path()), Err(too_slow()));
    }
}
