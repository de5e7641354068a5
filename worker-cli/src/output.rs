//! What people and programs read: tables fitted to the terminal, one JSON document, progress.

mod table;

pub use table::{facts, list};

use crate::api::types::Syncing;
use block_chain_common::quantity::{Height, Timestamp};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
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

/// Writes bytes to standard output, as [`line()`] does.
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
    // Gone when it is dropped: a task that draws one is ended from outside.
    let bar = ProgressBar::new(length).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Whether standard output is a terminal that wants colour.
#[must_use]
pub fn colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}

/// Text without what would steer a terminal: control characters, and those that reorder a line, are shown escaped.
///
/// Keys, values and names come from others, and a table's cell is one line.
#[must_use]
pub fn printable(text: &str) -> String {
    printable_but(text, |_| false)
}

/// A whole value, as [`printable`]; line ends and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    printable_but(text, |c| matches!(c, '\n' | '\t'))
}

fn printable_but(text: &str, stays: impl Fn(char) -> bool) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && !stays(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A number with its thousands apart, as people read it.
#[must_use]
pub fn grouped(number: u64) -> String {
    grouped_wide(u128::from(number))
}

fn grouped_wide(number: u128) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Base units as people read them: thousands apart, with a point where the chain's spec has decimals.
#[must_use]
pub fn units(amount: i128, decimals: u8) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let whole = amount.unsigned_abs();
    let one = 10_u128.pow(u32::from(decimals.min(18)));
    let shown = grouped_wide(whole / one);
    if decimals == 0 {
        return format!("{sign}{shown}");
    }
    format!(
        "{sign}{shown}.{:0width$}",
        whole % one,
        width = usize::from(decimals)
    )
}

/// A duration in the unit that fits it.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000.. => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A time as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn utc(time: Timestamp) -> String {
    block_chain_web::time::utc(time.get())
}

/// How far a node is that catches up, in words.
#[must_use]
pub fn progress(height: Height, syncing: &Syncing) -> String {
    let left = match syncing.remaining_ms {
        Some(ms) => format!(", {} left", duration(ms)),
        None => String::new(),
    };
    format!(
        "block {} of {}, {} a second{left}",
        grouped(height.get()),
        grouped(syncing.to.get()),
        grouped(syncing.blocks_per_second)
    )
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
    fn nothing_that_others_wrote_steers_the_terminal() {
        let table = [
            ("plain ü 漢", "plain ü 漢"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{202e}txt.exe\u{9b}", "\\u{202e}txt.exe\\u{9b}"),
        ];
        for (text, shown) in table {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\nb\t\u{7}"), "a\nb\t\\u{7}");
    }

    #[test]
    fn numbers_and_durations_are_readable() {
        let table = [
            (0, "0", "0 ms"),
            (999, "999", "999 ms"),
            (1_000, "1,000", "1.0 s"),
            (61_250, "61,250", "1 min 1 s"),
            (1_234_567, "1,234,567", "20 min 34 s"),
        ];
        for (number, shown, time) in table {
            assert_eq!(
                (grouped(number).as_str(), duration(number).as_str()),
                (shown, time)
            );
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
