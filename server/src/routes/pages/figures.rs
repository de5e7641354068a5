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
use block_chain_web::chart::{Line, lines};
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
    svg: String,
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
        charts: charts(&points, step),
        shares: shares
            .iter()
            .map(|share| {
                let hundredths = share.ppm / 100;
                (
                    share.address.to_string(),
                    format!("{}.{:02} %", hundredths / 100, hundredths % 100),
                )
            })
            .collect(),
        chain,
        minutes,
    })
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
    sum: FigureRow,
}

/// One after the other without a gap; minutes of which nothing is stored are nought.
fn points(rows: &[FigureRow], now: Timestamp, (minutes, step): (u64, u64)) -> Vec<Point> {
    let last = now.get() / 60_000 / step;
    let first = last.saturating_sub((minutes / step).saturating_sub(1));
    let mut points: Vec<Point> = (first..=last)
        .map(|at| Point {
            minute: at.saturating_mul(step),
            sum: FigureRow::default(),
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

fn charts(points: &[Point], step: u64) -> Vec<Chart> {
    let minutes = float(step);
    let chart = |title: &'static str, unit: &str, of: &dyn Fn(&FigureRow) -> Option<f64>| {
        let line = Line {
            name: title.to_owned(),
            points: points
                .iter()
                .map(|point| (float(point.minute), of(&point.sum)))
                .collect(),
        };
        let every = (points.len() / 4).max(1);
        let labels: Vec<(f64, String)> = points
            .iter()
            .skip(every / 2)
            .step_by(every)
            .map(|point| (float(point.minute), label(point.minute, step)))
            .collect();
        Chart {
            title,
            svg: lines(title, unit, &[line], &labels),
        }
    };
    let mut charts = vec![
        chart("Transactions a minute", "a minute", &|sum| {
            Some(float(from_sql(sum.transactions)) / minutes)
        }),
        chart("Blocks a minute", "a minute", &|sum| {
            Some(float(from_sql(sum.blocks)) / minutes)
        }),
        chart("Seconds between blocks", "seconds", &|sum| {
            (sum.blocks > 0).then(|| minutes * 60.0 / float(from_sql(sum.blocks)))
        }),
        chart("Milliseconds from committed to final", "milliseconds", &|sum| {
            per(sum.final_ms, sum.finals)
        }),
        chart("Bytes a block", "bytes", &|sum| per(sum.bytes, sum.blocks)),
    ];
    if points.iter().any(|point| point.sum.work > 0.0) {
        charts.push(chart(
            "Hashes a second, as the blocks' work tells",
            "hashes a second",
            &|sum| Some(sum.work / (minutes * 60.0)),
        ));
    }
    charts
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
        assert_eq!(label(90, 1), "01:30");
        assert_eq!(label(24 * 60 * 40, 360), "02-10");
    }
}
