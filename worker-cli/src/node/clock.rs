//! Whether this machine's clock agrees with the coordinator's. Nothing that is agreed on depends on it, but a machine whose
//! clock is minutes slow refuses everybody's blocks as coming from the future (BLK-15), and one that is fast makes such.

use block_chain_common::quantity::Timestamp;

/// Beyond it people are told: the rules allow two minutes.
pub const TOLERANCE_MS: u64 = 30_000;

/// How far the coordinator's clock is ahead of this machine's, in milliseconds: its time was said between two readings of
/// ours, so the answer is wrong by half the time in between at most.
pub(crate) fn offset_ms(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> i64 {
    let ours = i128::from(asked.get()).midpoint(i128::from(answered.get()));
    let offset = i128::from(theirs.get()) - ours;
    i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX })
}

/// A sentence for people about a clock that is off, or `None` where it is right.
#[must_use]
pub fn complaint(offset_ms: i64) -> Option<String> {
    let off = offset_ms.unsigned_abs();
    if off <= TOLERANCE_MS {
        return None;
    }
    let direction = if offset_ms > 0 { "behind" } else { "ahead of" };
    let by = crate::output::duration(off);
    Some(format!(
        "this machine's clock is {by} {direction} the coordinator's: set it, or blocks more than 2 minutes ahead are refused"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_measured_against_the_middle_of_the_request() {
        let offset = |asked, theirs, answered| {
            offset_ms(
                Timestamp::new(asked),
                Timestamp::new(theirs),
                Timestamp::new(answered),
            )
        };
        assert_eq!(offset(1_000, 1_050, 1_100), 0);
        assert_eq!(offset(1_000, 91_050, 1_100), 90_000);
        assert_eq!(offset(91_000, 1_050, 91_100), -90_000);
        assert_eq!(offset(0, u64::MAX, 0), i64::MAX);
        assert_eq!(offset(u64::MAX, 0, u64::MAX), i64::MIN);
    }

    #[test]
    fn half_a_minute_is_tolerated() {
        assert_eq!(complaint(30_000), None);
        assert_eq!(complaint(-30_000), None);
        assert!(
            complaint(30_001)
                .expect("it is off")
                .contains("behind the coordinator's")
        );
        assert!(
            complaint(i64::MIN)
                .expect("it is off")
                .contains("ahead of the coordinator's")
        );
    }
}
