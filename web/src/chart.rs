//! Charts as SVG: lines over time. Colours are classes of the style, so that they fit light and dark.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;
/// Lines across.
const STEPS: u32 = 4;
/// Colours of the style, `c0` to `c5`.
const COLOURS: usize = 6;

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its points, by time; `None` where nothing is known, which breaks the line.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A chart: `title` and `unit` are read out to who does not see it; `labels` stand below, at their times.
///
/// Times and values are finite numbers; values are not below 0.
#[must_use]
pub fn lines(title: &str, unit: &str, lines: &[Line], labels: &[(f64, String)]) -> String {
    let scale = Scale::of(lines, labels);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title>",
        escape(&format!("{title} ({unit})"))
    );
    scale.grid(&mut svg);
    for (time, text) in labels {
        let (x, y) = (scale.x(*time), HEIGHT - 6.0);
        let text = escape(text);
        push(
            &mut svg,
            format_args!("<text class=\"axis middle\" x=\"{x:.1}\" y=\"{y}\">{text}</text>"),
        );
    }
    for (number, line) in lines.iter().enumerate() {
        scale.line(&mut svg, number % COLOURS, line);
    }
    svg.push_str("</svg>");
    if lines.len() > 1 {
        svg.push_str("<ul class=\"legend\">");
        for (number, line) in lines.iter().enumerate() {
            let (colour, name) = (number % COLOURS, escape(&line.name));
            push(&mut svg, format_args!("<li class=\"c{colour}\">{name}</li>"));
        }
        svg.push_str("</ul>");
    }
    svg
}

/// Where times and values are drawn.
struct Scale {
    first: f64,
    span: f64,
    most: f64,
}

impl Scale {
    fn of(lines: &[Line], labels: &[(f64, String)]) -> Self {
        let times = lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(time, _)| *time));
        let times = times.chain(labels.iter().map(|(time, _)| *time));
        let (first, last) = times.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), time| {
            (least.min(time), most.max(time))
        });
        let values = lines
            .iter()
            .flat_map(|line| line.points.iter().filter_map(|(_, value)| *value));
        Self {
            first,
            span: if last > first { last - first } else { 1.0 },
            most: rounded_up(values.fold(0.0, f64::max)),
        }
    }

    fn x(&self, time: f64) -> f64 {
        LEFT + (time - self.first) / self.span * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.most * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self, svg: &mut String) {
        for step in 0..=STEPS {
            let value = self.most * f64::from(step) / f64::from(STEPS);
            let (y, end, left, text) = (self.y(value), WIDTH - RIGHT, LEFT - 6.0, short(value));
            push(
                svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                     <text class=\"axis end\" x=\"{left}\" y=\"{:.1}\">{text}</text>",
                    y + 4.0
                ),
            );
        }
    }

    fn line(&self, svg: &mut String, colour: usize, line: &Line) {
        for run in line.points.split(|(_, value)| value.is_none()) {
            let known = run.iter().filter_map(|(time, value)| Some((*time, (*value)?)));
            let points: Vec<String> = known
                .map(|(time, value)| format!("{:.1},{:.1}", self.x(time), self.y(value)))
                .collect();
            match points.as_slice() {
                [] => {}
                // A value that stands alone would not show as a line.
                [alone] => push(
                    svg,
                    format_args!("<path class=\"line dot c{colour}\" d=\"M{alone}h.1\"/>"),
                ),
                all => push(
                    svg,
                    format_args!(
                        "<polyline class=\"line c{colour}\" points=\"{}\"/>",
                        all.join(" ")
                    ),
                ),
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20… at or above.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(10.0 * power)
}

/// A number in at most five characters or so: 1.5k, 20M.
#[must_use]
pub fn short(value: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scaled, unit) = units
        .into_iter()
        .find(|(size, _)| value >= *size)
        .map_or((value, ""), |(size, unit)| (value / size, unit));
    // Two digits that count, however small.
    let decimals = match scaled {
        small if small <= 0.0 || small >= 0.1 => 2,
        small if small >= 0.01 => 3,
        small if small >= 0.001 => 4,
        _ => 6,
    };
    let text = format!("{scaled:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn push(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let written = svg.write_fmt(text);
    debug_assert!(written.is_ok(), "writing into a string cannot fail");
}

/// Text within SVG or HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_numbers_short() {
        let table = [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (1.2, 2.0),
            (37.0, 50.0),
            (99.0, 100.0),
            (501.0, 1_000.0),
        ];
        for (value, most) in table {
            assert!((rounded_up(value) - most).abs() < 1e-9 * most, "{value}");
        }
        let table = [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.002_5, "0.0025"),
            (7.0, "7"),
            (1_500.0, "1.5k"),
            (2e6, "2M"),
            (1e13, "10T"),
        ];
        for (value, text) in table {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_line_breaks_where_nothing_is_known_and_names_are_escaped() {
        let line = Line {
            name: "<b>".to_owned(),
            points: vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(1.0))],
        };
        let other = Line {
            name: "b".to_owned(),
            points: Vec::new(),
        };
        let svg = lines("a <title>", "units", &[line, other], &[(0.0, "00:00".to_owned())]);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert_eq!(svg.matches("dot").count(), 1);
        assert!(svg.contains("a &lt;title&gt; (units)") && svg.contains("&lt;b&gt;") && !svg.contains("<b>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let empty = lines("none", "units", &[], &[]);
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }
}
