//! How much one address may ask: so many requests, and few whose token or word is wrong, so that none is guessed.
//!
//! A token bucket for each address (for IPv6 its /64, which one machine has all of). A guess is paid for before it is judged
//! and given back where it was none, so that guesses at the same time are not more than guesses one after another. Time is
//! an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are counted at a time; those that ask least are forgotten for more.
const MAX_ADDRESSES: usize = 10_000;

/// Whether what is shown could have been guessed: tokens and words that the programs make are 64 random hex digits, of which no
/// number of guesses finds one. So who shows one that is over, as a worker does whose coordinator was restored, uses up nothing.
#[must_use]
pub fn is_guess(shown: &str) -> bool {
    shown.len() != 64 || !shown.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// What one address may ask.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests a second, on average.
    pub per_second: f64,
    /// Requests at once, after a pause.
    pub burst: f64,
    /// Requests a minute that are refused for a token that is missing or wrong.
    pub refusals_per_minute: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_second: 200.0,
            burst: 1_000.0,
            refusals_per_minute: 30.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    requests: f64,
    refusals: f64,
    at: Instant,
}

/// Counts what addresses ask.
pub struct Limiter {
    limits: Limits,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

/// One machine has a whole /64 of IPv6; an address of IPv4 written as IPv6 is that of IPv4.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        address => address,
    }
}

impl Limiter {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buckets: Mutex::default(),
        }
    }

    fn filled(&self, known: Option<&Bucket>, now: Instant) -> Bucket {
        let Limits {
            per_second,
            burst,
            refusals_per_minute,
        } = self.limits;
        let (requests, refusals) = known.map_or((burst, refusals_per_minute), |bucket| {
            let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
            (
                (bucket.requests + seconds * per_second).min(burst),
                (bucket.refusals + seconds * refusals_per_minute / 60.0).min(refusals_per_minute),
            )
        });
        Bucket {
            requests,
            refusals,
            at: now,
        }
    }

    fn change(&self, address: IpAddr, now: Instant, change: impl FnOnce(&mut Bucket)) -> Bucket {
        let address = counted(address);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bucket = self.filled(buckets.get(&address), now);
        change(&mut bucket);
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&address) {
            // Whoever could ask as much as a newcomer is one.
            buckets.retain(|_, known| {
                let filled = self.filled(Some(known), now);
                filled.requests < self.limits.burst || filled.refusals < self.limits.refusals_per_minute
            });
            let fullest = buckets
                .iter()
                .max_by(|(_, a), (_, b)| a.requests.total_cmp(&b.requests));
            if buckets.len() >= MAX_ADDRESSES
                && let Some(address) = fullest.map(|(address, _)| *address)
            {
                buckets.remove(&address);
            }
        }
        buckets.insert(address, bucket);
        bucket
    }

    /// Whether an address may ask now; else in how many seconds it may again.
    ///
    /// # Errors
    /// Where it has asked too much.
    pub fn ask(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        self.take(address, now, self.limits.per_second, |bucket| {
            &mut bucket.requests
        })
    }

    /// Whether a token or word that an address shows may be judged now; else in how many seconds. [`Self::pardon`] gives it
    /// back where it was not refused.
    ///
    /// # Errors
    /// Where it was refused too often.
    pub fn judge(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        let a_second = self.limits.refusals_per_minute / 60.0;
        self.take(address, now, a_second, |bucket| &mut bucket.refusals)
    }

    /// What an address has shown was good.
    pub fn pardon(&self, address: IpAddr, now: Instant) {
        let most = self.limits.refusals_per_minute;
        self.change(address, now, |bucket| {
            bucket.refusals = (bucket.refusals + 1.0).min(most);
        });
    }

    /// Takes one of what a bucket has; else in how many seconds there is one.
    fn take(
        &self,
        address: IpAddr,
        now: Instant,
        a_second: f64,
        of: impl Fn(&mut Bucket) -> &mut f64,
    ) -> Result<(), u64> {
        let mut missing = 0.0;
        self.change(address, now, |bucket| {
            let left = of(bucket);
            missing = 1.0 - *left;
            if missing <= 0.0 {
                *left -= 1.0;
            }
        });
        if missing <= 0.0 {
            return Ok(());
        }
        let wait = Duration::from_secs_f64(missing / a_second);
        Err(wait.as_secs().saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_second: 10.0,
        burst: 20.0,
        refusals_per_minute: 3.0,
    };

    #[test]
    fn what_cannot_be_guessed_is_no_guess() {
        assert!(!is_guess(&"0a".repeat(32)));
        for guess in ["", "trial", &"0a".repeat(31), &"0x".repeat(32)] {
            assert!(is_guess(guess), "{guess}");
        }
    }

    #[test]
    fn who_asks_too_much_waits_and_others_do_not() {
        let (limiter, now) = (Limiter::new(LIMITS), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap());
        for _ in 0..20 {
            assert_eq!(limiter.ask(one, now), Ok(()));
        }
        assert_eq!(limiter.ask(one, now), Err(1));
        assert_eq!(
            limiter.ask("::ffff:10.0.0.7".parse().unwrap(), now),
            Err(1),
            "the same machine"
        );
        assert_eq!(limiter.ask(other, now), Ok(()));
        assert_eq!(limiter.ask(one, now + Duration::from_millis(100)), Ok(()));
        assert_eq!(limiter.ask(one, now + Duration::from_millis(100)), Err(1));
        for _ in 0..20 {
            assert_eq!(
                limiter.ask(one, now + Duration::from_secs(60)),
                Ok(()),
                "never more than the burst"
            );
        }
        assert_eq!(limiter.ask(one, now + Duration::from_secs(60)), Err(1));
    }

    #[test]
    fn who_guesses_is_refused_for_a_while() {
        let (limiter, now) = (Limiter::new(LIMITS), Instant::now());
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(limiter.judge(guesser, now), Ok(()));
        }
        assert_eq!(limiter.judge(guesser, now), Err(21), "a third of a minute");
        assert_eq!(
            limiter.judge("2001:db8::2".parse().unwrap(), now),
            Err(21),
            "the same machine's"
        );
        assert_eq!(
            limiter.ask(guesser, now),
            Ok(()),
            "what shows nothing is no guess"
        );
        assert_eq!(limiter.judge(guesser, now + Duration::from_secs(21)), Ok(()));
    }

    #[test]
    fn what_was_good_is_no_guess_and_gives_no_more_of_them() {
        let (limiter, now) = (Limiter::new(LIMITS), Instant::now());
        let worker: IpAddr = "10.0.0.7".parse().unwrap();
        for _ in 0..10 {
            assert_eq!(limiter.judge(worker, now), Ok(()));
            limiter.pardon(worker, now);
        }
        limiter.pardon(worker, now);
        for _ in 0..3 {
            assert_eq!(limiter.judge(worker, now), Ok(()));
        }
        assert_eq!(limiter.judge(worker, now), Err(21));
    }

    #[test]
    fn memory_is_bounded() {
        let (limiter, now) = (Limiter::new(LIMITS), Instant::now());
        for n in 0..u32::try_from(MAX_ADDRESSES).unwrap() * 2 {
            assert_eq!(limiter.ask(IpAddr::V4(n.into()), now), Ok(()));
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
