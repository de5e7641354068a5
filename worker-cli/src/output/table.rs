//! Tables by `tabled`, as wide as the terminal at most.

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Rows};
use tabled::settings::peaker::Priority;
use tabled::settings::{Alignment, Color, Modify, Style, Width};

/// The width where there is no terminal: programs that read tables get whole cells.
const NO_TERMINAL: usize = 400;
/// Narrower than this a table cannot be read anyway.
const MIN_WIDTH: usize = 40;

fn width() -> usize {
    terminal_size::terminal_size()
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
        builder.push_record(row);
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
    let mut builder = Builder::default();
    for (name, value) in facts {
        builder.push_record([(*name).to_owned(), value.clone()]);
    }
    let mut table = builder.build();
    table.with(Style::rounded().remove_horizontals());
    if super::colour() {
        table.with(Modify::new(Columns::first()).with(Color::BOLD));
    }
    table.with(Width::wrap(width()).priority(Priority::max(true)));
    table.to_string()
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
}
