//! Names: of what a backup is, whose it is, how it came about, and when.

use crate::EXTENSION;
use block_chain_web::time::utc;

/// Digits of an owner's id in a name: with 48 bits nobody has two workers that share them by chance.
const OWNER_DIGITS: usize = 12;
/// What a name has that nobody asked for.
const AUTOMATIC: &str = "auto";
/// `YYYYMMDDTHHMMSS.mmmZ`.
const STAMP_BYTES: usize = 20;

/// How a backup came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody has asked for it.
    Asked,
    /// A program makes it by itself.
    Automatic,
}

/// Backups of the same thing, of the same owner, that came about in the same way. Only these take one another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    what: String,
    owner: String,
    cause: Cause,
}

/// What a name says, without its ending.
pub(crate) struct Name<'a> {
    /// Whose it is; names of an earlier version do not say it.
    pub(crate) owner: Option<&'a str>,
    pub(crate) cause: Cause,
    pub(crate) stamp: &'a str,
}

impl Series {
    /// Of a thing and its owner's id, of whose digits the first stand in names.
    #[must_use]
    pub fn new(what: &str, owner: &str, cause: Cause) -> Self {
        let digits = owner.chars().filter(char::is_ascii_hexdigit);
        let owner: String = digits.take(OWNER_DIGITS).collect();
        Self {
            what: what.to_owned(),
            owner: format!("{:0>OWNER_DIGITS$}", owner.to_ascii_lowercase()),
            cause,
        }
    }

    /// What names of it begin with.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether a name is of this series.
    pub(crate) fn has(&self, name: &Name<'_>) -> bool {
        self.is_of_owner(name) && name.cause == self.cause
    }

    /// Whether a name is of the same owner, however it came about.
    pub(crate) fn is_of_owner(&self, name: &Name<'_>) -> bool {
        name.owner == Some(self.owner.as_str())
    }

    /// In the order of their names those of a series are in the order of time.
    pub(crate) fn file_name(&self, at_ms: u64) -> String {
        let cause = match self.cause {
            Cause::Asked => String::new(),
            Cause::Automatic => format!("{AUTOMATIC}-"),
        };
        let (what, owner, stamp) = (&self.what, &self.owner, stamp(at_ms));
        format!("{what}-{owner}-{cause}{stamp}.{EXTENSION}")
    }
}

impl<'a> Name<'a> {
    /// Of a file of `what` whose name ends so; `None` where it is no such name.
    pub(crate) fn parse(file: &'a str, what: &str, ending: &str) -> Option<Self> {
        let rest = file.strip_prefix(what)?.strip_prefix('-')?;
        let rest = rest.strip_suffix(ending)?;
        let (before, stamp) = rest.split_at_checked(rest.len().checked_sub(STAMP_BYTES)?)?;
        let (owner, cause) = match before.strip_suffix('-') {
            None if before.is_empty() => (None, Cause::Asked),
            None => return None,
            Some(before) => match before.strip_suffix(AUTOMATIC).and_then(|b| b.strip_suffix('-')) {
                Some(owner) => (Some(owner), Cause::Automatic),
                None => (Some(before), Cause::Asked),
            },
        };
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let is_owner = |owner: &str| owner.len() == OWNER_DIGITS && owner.bytes().all(is_digit);
        let fits = owner.is_none_or(is_owner) && is_stamp(stamp);
        fits.then_some(Self { owner, cause, stamp })
    }
}

/// A moment as names have it.
pub(crate) fn stamp(at_ms: u64) -> String {
    utc(at_ms).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

pub(crate) fn is_stamp(text: &str) -> bool {
    let fits = |(place, byte): (usize, u8)| match place {
        8 => byte == b'T',
        15 => byte == b'.',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    text.len() == STAMP_BYTES && text.bytes().enumerate().all(fits)
}

/// The moment of a stamp, in milliseconds since 1970; `None` where the calendar has none such.
///
/// The days of a civil date are Howard Hinnant's `days_from_civil`.
pub(crate) fn ms_of(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second, ms) = (number(9, 11)?, number(11, 13)?, number(13, 15)?, number(16, 19)?);
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = ((153 * from_march + 2) / 5 + day).checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let days = days.checked_sub(719_468)?;
    let ms = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms;
    // A month 13 or an hour 25 would be another moment.
    (stamp(ms) == text).then_some(ms)
}
