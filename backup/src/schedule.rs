//! When the next one is due.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of a data directory where backups go that are told nothing else.
pub const FOLDER: &str = "backups";
/// How many automatic backups are kept where nothing else is told.
const KEPT: usize = 10;

/// The shortest time between two automatic backups.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 86_400);
/// A backup takes at most this part of the time: a large chain is copied less often than was asked for.
const PART_OF_TIME: u32 = 10;

/// A time between two backups: a number and `s`, `m`, `h` or `d`.
///
/// # Errors
/// What is wrong with it, and the limits.
pub fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30s, 15m, 12h or 1d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1_u64,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = digits.parse::<u64>().unwrap_or(u64::MAX);
    let interval = Duration::from_secs(number.saturating_mul(seconds));
    if interval < LEAST_INTERVAL {
        return Err(format!("{text} is less than 30s, the shortest"));
    }
    if interval > LONGEST_INTERVAL {
        return Err(format!("{text} is more than 366d, the longest"));
    }
    Ok(interval)
}

/// A time between two backups, as it was told, where it is one: for a command line.
///
/// # Errors
/// As [`interval`].
pub fn checked_interval(text: &str) -> Result<String, String> {
    interval(text).map(|_| text.to_owned())
}

/// Backups that a program makes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The time between two.
    pub every: Duration,
    /// Their folder.
    pub folder: PathBuf,
    /// How many are kept.
    pub keep: usize,
}

impl Plan {
    /// What a program was told; `None` where it was not told to make any.
    ///
    /// # Errors
    /// Where the time is none.
    pub fn of(
        every: Option<&str>,
        (folder, keep): (Option<&Path>, Option<u32>),
        data_dir: &Path,
    ) -> Result<Option<Self>, String> {
        let Some(every) = every else {
            return Ok(None);
        };
        let every = interval(every).map_err(|reason| format!("backup_every: {reason}"))?;
        let keep = keep.and_then(|keep| usize::try_from(keep).ok());
        Ok(Some(Self {
            every,
            folder: folder.map_or_else(|| data_dir.join(FOLDER), Path::to_owned),
            keep: keep.unwrap_or(KEPT),
        }))
    }
}

/// When automatic backups are due: only when something has changed since the last one, whose state it keeps.
#[derive(Debug)]
pub struct Schedule<T> {
    interval: Duration,
    wait: Duration,
    last: Option<T>,
}

impl<T: PartialEq> Schedule<T> {
    /// With the time between two.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            wait: interval,
            last: None,
        }
    }

    /// How long to wait before the next look.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// What the last backup is of; `None` before the first.
    #[must_use]
    pub const fn last(&self) -> Option<&T> {
        self.last.as_ref()
    }

    /// Whether what there is now is not in the last backup.
    #[must_use]
    pub fn is_due(&self, now: &T) -> bool {
        self.last.as_ref() != Some(now)
    }

    /// A backup of that was made, and took so long.
    pub fn made(&mut self, of: T, took: Duration) {
        self.last = Some(of);
        self.rest(took);
    }

    /// One was tried, and took so long until it failed: it has kept the disk busy as one that was made.
    pub fn failed(&mut self, took: Duration) {
        self.rest(took);
    }

    fn rest(&mut self, took: Duration) {
        self.wait = self.interval.max(took.saturating_mul(PART_OF_TIME));
    }
}
