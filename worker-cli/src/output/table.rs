//! Tables by `tabled`, as wide as the terminal at most.

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Rows};
use tabled::settings::peaker::Priority;
use tabled::settings::{Alignment, Color, Modify, Style, Width};

/// The width where there is no terminal: programs that read tables get whole cells.
const NO_TERMINAL: usize = 400;
/// Narrower than this a table cannot be read anyway.
const MIN_WIDTH: usize = 40;

/// The longest cell: more of a value of a megabyte helps nobody who reads a table.
const MAX_CELL: usize = 1_000;

fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout())
        .map_or(NO_TERMINAL, |(width, _)| usize::from(width.0))
        .max(MIN_WIDTH)
}

/// A table with a header; the columns whose header begins with `#` are numbers, and stand right.
#[must_use]
pub fn list(header: &[&str], rows: Vec<Vec<String>>) -> String {
    list_within(header, rows, width(), super::colour())
}

fn list_within(header: &[&str], rows: Vec<Vec<String>>, width: usize, colour: bool) -> String {
    let mut builder = Builder::default();
    builder.push_record(header.iter().map(|name| name.trim_start_matches('#')));
    for row in rows {
        builder.push_record(row.iter().map(|text| cell(text)));
    }
    let mut table = builder.build();
    table.with(Style::rounded());
    for (place, name) in header.iter().enumerate() {
        if name.starts_with('#') {
            table.with(Modify::new(Columns::one(place)).with(Alignment::right()));
        }
    }
    if colour {
        table.with(Modify::new(Rows::first()).with(Color::BOLD));
    }
    table.with(Width::wrap(width).priority(Priority::max(true)).keep_words(true));
    table.to_string()
}

/// Names and values, one a line.
#[must_use]
pub fn facts(facts: &[(&str, String)]) -> String {
    facts_within(facts, width(), super::colour())
}

fn facts_within(facts: &[(&str, String)], width: usize, colour: bool) -> String {
    let mut builder = Builder::default();
    for (name, value) in facts {
        builder.push_record([cell(name), cell(value)]);
    }
    let mut table = builder.build();
    table.with(Style::rounded().remove_horizontals());
    if colour {
        table.with(Modify::new(Columns::first()).with(Color::BOLD));
    }
    table.with(Width::wrap(width).priority(Priority::max(true)));
    table.to_string()
}

/// One cell: harmless to a terminal, and of bounded length.
fn cell(text: &str) -> String {
    match text.char_indices().nth(MAX_CELL) {
        None => super::printable(text),
        Some((end, _)) => {
            let start = super::printable(text.get(..end).unwrap_or_default());
            format!("{start}… ({} in all)", super::bytes(text.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_never_wider_than_its_terminal() {
        let rows = vec![
            vec!["7".to_owned(), "ab".repeat(60)],
            vec!["1234567".to_owned(), "short".to_owned()],
        ];
        for width in [40, 60, 80, 200] {
            let shown = list_within(&["#Index", "Hash"], rows.clone(), width, false);
            assert!(
                shown.lines().all(|line| line.chars().count() <= width),
                "{width}\n{shown}"
            );
        }
        let shown = list_within(&["#Index", "Hash"], rows, 200, false);
        assert!(shown.contains("│       7 │ abab"), "{shown}");
    }

    #[test]
    fn facts_look_like_this() {
        let shown = facts_within(
            &[("block", "7".to_owned()), ("state", "final".to_owned())],
            80,
            false,
        );
        let wanted = [
            "╭───────┬───────╮",
            "│ block │ 7     │",
            "│ state │ final │",
            "╰───────┴───────╯",
        ];
        assert_eq!(shown, wanted.join("\n"));
    }

    #[test]
    fn lists_look_like_this_and_are_bold_in_colour_only() {
        let rows = vec![vec!["7".to_owned(), "final".to_owned()]];
        let shown = list_within(&["#Block", "State"], rows.clone(), 80, false);
        let wanted = [
            "╭───────┬───────╮",
            "│ Block │ State │",
            "├───────┼───────┤",
            "│     7 │ final │",
            "╰───────┴───────╯",
        ];
        assert_eq!(shown, wanted.join("\n"));
        assert!(list_within(&["#Block", "State"], rows, 80, true).contains("\u{1b}[1m"));
    }

    #[test]
    fn a_cell_is_one_line_of_bounded_length_and_steers_nothing() {
        let rows = vec![vec!["\u{1b}[2J\n".to_owned(), "漢".repeat(5_000)]];
        let shown = list_within(&["Key", "Value"], rows, 4_000, false);
        assert_eq!(shown.lines().count(), 5, "{shown}");
        assert!(
            !shown.contains('\u{1b}') && shown.contains("\\u{1b}[2J\\n"),
            "{shown}"
        );
        assert!(shown.contains("… (14.6 KiB in all)"), "{shown}");
    }
}
