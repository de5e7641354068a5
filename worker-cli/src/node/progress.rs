//! How far a node is that catches up: for its status, and a line in its log every few seconds.

use crate::api::types::Syncing;
use block_chain_common::quantity::Height;
use std::time::{Duration, Instant};

/// How often the log is told. A node that is a block behind for a moment says nothing.
const EVERY: Duration = Duration::from_secs(5);

/// What a node knows of its catching up.
#[derive(Debug, Default)]
pub(crate) struct Progress(Option<Begun>);

#[derive(Debug)]
struct Begun {
    at: Instant,
    from: Height,
    told: Option<Instant>,
}

impl Progress {
    /// Takes note of how far it is, and tells the log where it is time to.
    pub(crate) fn observe(
        &mut self,
        height: Height,
        target: Option<Height>,
        now: Instant,
    ) -> Option<Syncing> {
        let Some(to) = target else {
            if let Some(Begun {
                at,
                from,
                told: Some(_),
            }) = self.0.take()
            {
                let blocks = height.get().saturating_sub(from.get());
                let seconds = now.duration_since(at).as_secs();
                tracing::info!(%height, blocks, seconds, "caught up");
            }
            return None;
        };
        let begun = self.0.get_or_insert(Begun {
            at: now,
            from: height,
            told: None,
        });
        let syncing = begun.at(height, to, now);
        if now.duration_since(begun.told.unwrap_or(begun.at)) >= EVERY {
            begun.told = Some(now);
            let (rate, seconds_left) = (
                syncing.blocks_per_second,
                syncing.remaining_ms.map(|ms| ms / 1_000),
            );
            tracing::info!(%height, %to, blocks_per_second = rate, seconds_left, "catching up");
        }
        Some(syncing)
    }
}

impl Begun {
    fn at(&self, height: Height, to: Height, now: Instant) -> Syncing {
        let elapsed_ms = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        // After a reorganisation it may be lower than where it began.
        let done = height.get().saturating_sub(self.from.get());
        let left = to.get().saturating_sub(height.get());
        Syncing {
            from: self.from,
            to,
            elapsed_ms,
            blocks_per_second: done
                .saturating_mul(1_000)
                .checked_div(elapsed_ms)
                .unwrap_or_default(),
            remaining_ms: left.saturating_mul(elapsed_ms).checked_div(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_is_done() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        let mut at = |height: u64, target: Option<u64>, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            progress.observe(Height::new(height), target.map(Height::new), now)
        };
        let seen = |syncing: Option<Syncing>| {
            let syncing = syncing.expect("it catches up");
            (
                syncing.from.get(),
                syncing.blocks_per_second,
                syncing.remaining_ms,
            )
        };
        assert_eq!(at(7, None, 0), None);
        assert_eq!(
            seen(at(100, Some(10_100), 1)),
            (100, 0, None),
            "nothing is known yet"
        );
        assert_eq!(seen(at(1_100, Some(10_100), 6)), (100, 200, Some(45_000)));
        // The chain grows meanwhile.
        assert_eq!(seen(at(5_100, Some(10_200), 11)), (100, 500, Some(10_200)));
        assert_eq!(at(10_200, None, 21), None);
        // The next time begins anew.
        assert_eq!(seen(at(10_200, Some(10_201), 30)), (10_200, 0, None));
        // A reorganisation.
        assert_eq!(seen(at(10_000, Some(10_201), 31)), (10_200, 0, None));
    }
}
