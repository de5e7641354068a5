//! The page of figures: what was committed over an hour, a day or a month, as charts.

use super::{Asked, frame, page};
use crate::error::ServiceError;
use crate::routes::{State, call, now};
use crate::service::from_sql;
use crate::store::FigureRow;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse, get};
use askama::Template;
use block_chain_common::coordinator_api::StakeShare;
use block_chain_common::quantity::Timestamp;
use block_chain_web::chart::{Line, lines, short};
use block_chain_web::page::{Frame, Link};
use block_chain_web::time::utc;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn configure(config: &mut ServiceConfig<'_>) {
    config.service(show_figures);
}

/// How far the page looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Span {
    /// An hour, minute by minute.
    #[default]
    Hour,
    /// A day, quarter by quarter of an hour.
    Day,
    /// A month, six hours at a time.
    Month,
}

impl Span {
    /// Name, minutes in all, minutes of a point.
    const fn parts(self) -> (&'static str, u64, u64) {
        match self {
            Self::Hour => ("hour", 60, 1),
            Self::Day => ("day", 24 * 60, 15),
            Self::Month => ("month", 31 * 24 * 60, 6 * 60),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The chain, main where it is not said.
    #[param(example = "main")]
    chain: Option<String>,
    /// How far back, an hour where it is not said.
    #[serde(default)]
    #[param(inline)]
    span: Span,
}

struct Chart {
    title: &'static str,
    /// The newest value and the highest, in words.
    says: String,
    svg: String,
}

/// The values of a point, as the table below the charts has them.
struct Row {
    time: String,
    values: Vec<String>,
}

#[derive(Template)]
#[template(path = "figures.html")]
struct FiguresPage {
    frame: Frame,
    chain: String,
    minutes: u64,
    choices: Vec<Link>,
    facts: Vec<(&'static str, String)>,
    charts: Vec<Chart>,
    columns: Vec<&'static str>,
    rows: Vec<Row>,
    shares: Vec<(String, String)>,
}

/// What was committed on a chain over an hour, a day, a month
#[utoipa::path(
    tag = "pages",
    params(Wanted),
    responses((status = 200, description = "the page", body = String, content_type = "text/html"), ServiceError)
)]
#[get("/figures")]
async fn show_figures(
    state: Data<State>,
    request: HttpRequest,
    operator: Asked,
    Query(wanted): Query<Wanted>,
) -> Result<HttpResponse, ServiceError> {
    let (_, minutes, step) = wanted.span.parts();
    let chain = wanted.chain.unwrap_or_else(|| "main".to_owned());
    let asked = chain.clone();
    let (rows, all) = call(&state, move |service| {
        Ok((service.figures(&asked, minutes, now())?, service.chain_names()?))
    })
    .await?;
    let points = points(&rows, now(), (minutes, step));
    let lines = series(&points);
    let latest = rows.iter().rev().find(|row| !row.shares.is_empty());
    let shares: Vec<StakeShare> = latest
        .and_then(|row| serde_json::from_str(&row.shares).ok())
        .unwrap_or_default();
    page(&FiguresPage {
        frame: frame(
            &request,
            format!("Figures of chain {chain}"),
            "figures",
            &operator,
        ),
        choices: choices(&all, &chain, wanted.span),
        facts: facts(&rows),
        charts: lines.iter().map(|line| chart(line, &points, step)).collect(),
        columns: lines.iter().map(|line| line.title).collect(),
        rows: table(&lines, &points),
        shares: shares.iter().map(share).collect(),
        chain,
        minutes,
    })
}

/// An address and its share, in per cent.
fn share(share: &StakeShare) -> (String, String) {
    let hundredths = share.ppm / 100;
    let percent = format!("{}.{:02} %", hundredths / 100, hundredths % 100);
    (share.address.to_string(), percent)
}

fn choices(all: &[String], chain: &str, span: Span) -> Vec<Link> {
    let link = |chain: &str, of: Span, text: String, current: bool| Link {
        href: format!("figures?chain={chain}&span={}", of.parts().0),
        text,
        current,
    };
    let spans = [Span::Hour, Span::Day, Span::Month]
        .map(|of| link(chain, of, format!("the last {}", of.parts().0), of == span));
    let chains = all.iter().filter(|_| all.len() > 1);
    let chains = chains.map(|name| link(name, span, format!("chain {name}"), name == chain));
    spans.into_iter().chain(chains).collect()
}

/// All that happened between two points.
struct Point {
    /// Minutes since 1970 at its beginning.
    minute: u64,
    /// Minutes of it that are over: the newest one's are not all.
    elapsed: f64,
    /// Whether it is over, or so much of it that a rate means something.
    tells_rates: bool,
    sum: FigureRow,
}

/// One after the other without a gap; minutes of which nothing is stored are nought.
fn points(rows: &[FigureRow], now: Timestamp, (minutes, step): (u64, u64)) -> Vec<Point> {
    let last = now.get() / 60_000 / step;
    let first = last.saturating_sub((minutes / step).saturating_sub(1));
    let mut points: Vec<Point> = (first..=last)
        .map(|at| {
            let minute = at.saturating_mul(step);
            let elapsed_ms = now.get().saturating_sub(minute.saturating_mul(60_000));
            let elapsed = (float(elapsed_ms) / 60_000.0).min(float(step));
            Point {
                minute,
                elapsed,
                tells_rates: elapsed * 2.0 >= float(step),
                sum: FigureRow::default(),
            }
        })
        .collect();
    for row in rows {
        let at = (from_sql(row.minute) / step).checked_sub(first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let Some(point) = at.and_then(|at| points.get_mut(at)) else {
            continue;
        };
        let sum = &mut point.sum;
        sum.blocks = sum.blocks.saturating_add(row.blocks);
        sum.transactions = sum.transactions.saturating_add(row.transactions);
        sum.bytes = sum.bytes.saturating_add(row.bytes);
        sum.work += row.work;
        sum.final_ms = sum.final_ms.saturating_add(row.final_ms);
        sum.finals = sum.finals.saturating_add(row.finals);
    }
    points
}

/// A count as a chart has it.
#[expect(clippy::cast_precision_loss, reason = "a chart shows a few digits")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn per(sum: i64, count: i64) -> Option<f64> {
    (count > 0).then(|| float(from_sql(sum)) / float(from_sql(count)))
}

/// A line over time: its title, its unit, and its value at each point; `None` where there is none.
struct Series {
    title: &'static str,
    unit: &'static str,
    values: Vec<Option<f64>>,
}

fn series(points: &[Point]) -> Vec<Series> {
    let of = |title, unit, value: &dyn Fn(&Point) -> Option<f64>| Series {
        title,
        unit,
        values: points.iter().map(value).collect(),
    };
    let rate = |point: &Point, count: i64| {
        let known = point.tells_rates.then(|| float(from_sql(count)));
        known.map(|count| count / point.elapsed)
    };
    let mut all = vec![
        of("Transactions a minute", "a minute", &|point| {
            rate(point, point.sum.transactions)
        }),
        of("Blocks a minute", "a minute", &|point| {
            rate(point, point.sum.blocks)
        }),
        of("Seconds between blocks", "seconds", &|point| {
            let blocks = rate(point, point.sum.blocks).filter(|blocks| *blocks > 0.0);
            blocks.map(|blocks| 60.0 / blocks)
        }),
        of("Milliseconds from committed to final", "milliseconds", &|point| {
            per(point.sum.final_ms, point.sum.finals)
        }),
        of("Bytes a block", "bytes", &|point| {
            per(point.sum.bytes, point.sum.blocks)
        }),
    ];
    if points.iter().any(|point| point.sum.work > 0.0) {
        all.push(of(
            "Hashes a second, as the blocks' work tells",
            "hashes a second",
            &|point| point.tells_rates.then(|| point.sum.work / (point.elapsed * 60.0)),
        ));
    }
    all
}

fn chart(series: &Series, points: &[Point], step: u64) -> Chart {
    let times = points.iter().map(|point| float(point.minute));
    let line = Line {
        name: series.title.to_owned(),
        points: times.zip(series.values.iter().copied()).collect(),
    };
    let every = (points.len() / 4).max(1);
    let labels: Vec<(f64, String)> = points
        .iter()
        .skip(every / 2)
        .step_by(every)
        .map(|point| (float(point.minute), label(point.minute, step)))
        .collect();
    let known = || series.values.iter().flatten();
    Chart {
        title: series.title,
        says: known().next_back().map_or_else(
            || "nothing in this time".to_owned(),
            |newest| {
                let most = known().fold(0.0_f64, |most, value| most.max(*value));
                format!("newest {}, highest {}", short(*newest), short(most))
            },
        ),
        svg: lines(series.title, series.unit, &[line], &labels),
    }
}

/// The values of all charts where something happened, newest first.
fn table(all: &[Series], points: &[Point]) -> Vec<Row> {
    let row = |(at, point): (usize, &Point)| Row {
        time: utc(point.minute.saturating_mul(60_000)),
        values: all
            .iter()
            .map(|series| series.values.get(at).copied().flatten())
            .map(|value| value.map_or_else(|| "–".to_owned(), short))
            .collect(),
    };
    let happened = points.iter().enumerate().rev();
    happened
        .filter(|(_, point)| point.sum.blocks > 0)
        .map(row)
        .collect()
}

fn label(minute: u64, step: u64) -> String {
    let text = utc(minute.saturating_mul(60_000));
    let (from, to) = if step < 60 { (11, 16) } else { (5, 10) };
    text.get(from..to).unwrap_or_default().to_owned()
}

fn facts(rows: &[FigureRow]) -> Vec<(&'static str, String)> {
    let sum = |of: fn(&FigureRow) -> i64| {
        rows.iter()
            .map(|row| from_sql(of(row)))
            .fold(0, u64::saturating_add)
    };
    let (finals, final_ms) = (sum(|row| row.finals), sum(|row| row.final_ms));
    vec![
        ("Blocks", sum(|row| row.blocks).to_string()),
        ("Transactions", sum(|row| row.transactions).to_string()),
        ("Bytes", sum(|row| row.bytes).to_string()),
        (
            "From committed to final",
            final_ms
                .checked_div(finals)
                .map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms on average")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_chain_common::keys::Address;

    #[test]
    fn minutes_are_gathered_into_points_and_none_is_counted_twice() {
        let row = |minute: i64, blocks: i64| FigureRow {
            minute,
            blocks,
            ..FigureRow::default()
        };
        let now = Timestamp::new(100 * 60_000 + 5);
        let rows = [
            row(40, 7),
            row(41, 1),
            row(89, 2),
            row(90, 3),
            row(100, 4),
            row(101, 9),
        ];
        let hour = points(&rows, now, (60, 1));
        assert_eq!((hour.len(), hour[0].minute), (60, 41));
        assert_eq!(hour.iter().map(|point| point.sum.blocks).sum::<i64>(), 10);
        let day = points(&rows, now, (24 * 60, 15));
        let of = |minute: u64| {
            day.iter()
                .find(|point| point.minute == minute)
                .unwrap()
                .sum
                .blocks
        };
        assert_eq!((of(30), of(75), of(90)), (8, 2, 16), "a quarter of an hour each");
        // The newest quarter has gone by to two thirds.
        let newest = day.last().unwrap();
        assert!(
            (newest.elapsed - 10.0).abs() < 0.01 && newest.tells_rates,
            "{}",
            newest.elapsed
        );
        let early = points(&rows, Timestamp::new(93 * 60_000), (24 * 60, 15));
        assert!(!early.last().unwrap().tells_rates && early[0].tells_rates);
        let blocks = &series(&day)[1].values;
        assert!(
            (blocks.last().unwrap().unwrap() - 1.6).abs() < 0.01,
            "16 blocks in ten minutes"
        );
        let interval = &series(&day)[2].values;
        assert!((interval.last().unwrap().unwrap() - 37.5).abs() < 0.1);
        assert_eq!(series(&early)[1].values.last().unwrap(), &None);
        assert_eq!(table(&series(&day), &day).len(), 3, "where something happened");
        let third = StakeShare {
            address: Address::ZERO,
            ppm: 333_333,
        };
        assert_eq!(share(&third).1, "33.33 %");
        assert_eq!(label(90, 1), "01:30");
        assert_eq!(label(24 * 60 * 40, 360), "02-10");
    }
}
