//! What people and programs read: tables fitted to the terminal, one JSON document, progress.

mod table;

pub use table::{facts, list};

use block_chain_common::quantity::Timestamp;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// How the commands answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables, colour on a terminal.
    People,
    /// One JSON document.
    Json,
}

/// Writes one line to standard output. A reader that is gone ends the program's interest, not in an error.
///
/// # Errors
/// Where it cannot be written for another reason.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Writes bytes to standard output, as [`line`] does.
///
/// # Errors
/// Where they cannot be written.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Writes a value as one JSON document.
///
/// # Errors
/// Where it cannot be written.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string_pretty(value)?)?)
}

/// Says something on the way, on standard error.
pub fn note(text: &str) {
    if writeln!(io::stderr().lock(), "{text}").is_err() {
        tracing::debug!("nobody reads standard error");
    }
}

/// A bar on standard error, hidden where that is no terminal.
#[must_use]
pub fn bar(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Whether standard output is a terminal that wants colour.
#[must_use]
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A time as RFC 3339 in UTC, with milliseconds.
///
/// The civil date from days is Howard Hinnant's `civil_from_days`.
#[must_use]
pub fn utc(time: Timestamp) -> String {
    let (seconds, ms) = (time.get() / 1_000, time.get() % 1_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day % 3_600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(count: usize) -> String {
    let (mut whole, mut tenth, mut unit) = (count, 0, "B");
    for next in ["KiB", "MiB", "GiB"] {
        if whole < 1_024 {
            break;
        }
        (tenth, whole, unit) = (whole % 1_024 * 10 / 1_024, whole / 1_024, next);
    }
    if unit == "B" {
        format!("{whole} B")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_219_200_001, "2026-11-21T00:00:00.001Z"),
        ];
        for (ms, text) in table {
            assert_eq!(utc(Timestamp::new(ms)), text);
        }
    }

    #[test]
    fn bytes_are_readable() {
        let table = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (8_388_608, "8.0 MiB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }
}
