//! `quipu clock`: how the lanes' clocks go. `quipu clock before`: which of two transactions was first.

use std::fmt::Write as _;

use quipu_client::Client;
use quipu_proof::{Before, verify_before};
use quipu_types::{Genesis, Hash, code};
use serde_json::Value as Json;

use super::prove;
use crate::args::{self, Clock, ClockCommand};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Eighths of a line, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows the clocks, or the order of two transactions.
pub(crate) async fn run(args: Clock) -> Result<()> {
    if let Some(ClockCommand::Before(args)) = args.command {
        return before(args).await;
    }
    let server = args.server.ok_or_else(|| Failure::usage("--url is needed"))?;
    let clock: Json = tools::client(&server)?.get("/v1/clock").await?;
    tools::print(if args.json { clock.to_string() } else { report(&clock) }.trim_end())
}

async fn before(args: args::Before) -> Result<()> {
    let (first, second) = (prove::parse(&args.first)?.0, prove::parse(&args.second)?.0);
    let client = tools::client(&args.server)?;
    let genesis: Genesis = match &args.genesis {
        Some(path) => tools::genesis(path)?,
        None => client.get("/v1/genesis").await?,
    };
    let body = ask(&client, &first, &second).await?;
    let answer = body.get("answer").and_then(Json::as_str).unwrap_or_default();
    let shown = body.get("proof").map(|proof| check(&proof.to_string(), &genesis)).transpose()?;
    let says = match &shown {
        Some(before) if before.first.tx == first && before.second.tx == second => "before",
        Some(before) if before.first.tx == second && before.second.tx == first => "after",
        Some(_) => "",
        None => "concurrent",
    };
    if answer != says {
        let what = format!("the server says {answer:?}, and its proof is of something else");
        return Err(Failure::is_false(code::PROOF_FALSE, what));
    }
    if let (Some(path), Some(proof)) = (&args.out, body.get("proof")) {
        std::fs::write(path, format!("{proof:#}\n"))
            .map_err(|error| Failure::file("cannot write the proof", path, error))?;
    }
    if args.json {
        return tools::print(&body.to_string());
    }
    tools::print(
        match &shown {
            Some(before) => format!("{answer}\n{}", as_text(before)),
            None => {
                "concurrent: no chain of what lanes' clocks mixed leads from either to the other"
                    .into()
            }
        }
        .trim_end(),
    )
}

async fn ask(client: &Client, first: &Hash, second: &Hash) -> Result<Json> {
    Ok(client.get(&format!("/v1/clock/before?first={first}&second={second}")).await?)
}

fn check(proof: &str, genesis: &Genesis) -> Result<Before> {
    verify_before(proof, genesis).map_err(|error| Failure::is_false(error.code(), &error))
}

/// What a proof of order shows.
pub(crate) fn as_text(before: &Before) -> String {
    let mut out = String::new();
    for (name, one) in [("first", &before.first), ("then", &before.second)] {
        let (tx, position, height) = (one.tx, one.position, one.height);
        let _ = writeln!(out, "{name:<8} {tx} at {position}, height {height}");
    }
    let _ = writeln!(out, "by       {}", before.by);
    out
}

/// The clocks in words and bars.
fn report(clock: &Json) -> String {
    let number = |of: &Json, name: &str| of.get(name).and_then(Json::as_f64).unwrap_or_default();
    let whole = |of: &Json, name: &str| of.get(name).and_then(Json::as_u64).unwrap_or_default();
    let hertz = |rate: u64| screen::grouped(rate);
    let lanes = clock.get("lanes").and_then(Json::as_array).cloned().unwrap_or_default();
    if lanes.is_empty() {
        return "The validator has only just started: ask again when it has committed some heights.".into();
    }
    let mut out = format!(
        "heights {} to {}, {:.1} s; declared {} ticks/s, fastest taken to exist {}\n",
        screen::grouped(whole(clock, "from_height")),
        screen::grouped(whole(clock, "to_height")),
        number(clock, "seconds"),
        hertz(whole(clock, "declared_hz")),
        hertz(whole(clock, "fastest_hz")),
    );
    let head = ["lane", "sequencer", "ticks/s", "drift", "proven", "pace"].map(str::to_owned);
    let declared = number(clock, "declared_hz");
    let shown = |of: &Json, name: &str, as_text: &dyn Fn(f64) -> String| {
        of.get(name).and_then(Json::as_f64).map_or_else(|| "not yet".to_owned(), as_text)
    };
    let rows: Vec<Vec<String>> = lanes
        .iter()
        .map(|lane| {
            let named = lane.get("sequencer").and_then(Json::as_str).unwrap_or_default();
            let series = lane.get("series_hz").and_then(Json::as_array).cloned();
            let series: Vec<f64> =
                series.unwrap_or_default().iter().filter_map(Json::as_f64).collect();
            vec![
                whole(lane, "lane").to_string(),
                named.to_owned(),
                shown(lane, "rate_hz", &|rate| format!("{rate:.0}")),
                shown(lane, "drift", &drift),
                shown(lane, "proven", &|share| format!("{:.3} %", share * 100.0)),
                bars(&series, declared),
            ]
        })
        .collect();
    out.push_str(&screen::table(&head, &rows));
    let brackets = clock.get("brackets").unwrap_or(&Json::Null);
    let millis = |name: &str| number(brackets, name) / 1_000.0;
    let _ = match whole(brackets, "count") {
        0 => writeln!(out, "\nno transaction was bracketed lately"),
        count => writeln!(
            out,
            "\n{} transactions were signed and ordered within {:.0} ms on the mean, {:.0} ms at most",
            screen::grouped(count),
            millis("mean_us"),
            millis("widest_us"),
        ),
    };
    out
}

/// How much faster than declared a clock is.
fn drift(share: f64) -> String {
    if share <= -1.0 { "stands".to_owned() } else { format!("{:+.1} %", share * 100.0) }
}

/// A rate a column; the middle of the scale is what was declared.
fn bars(series: &[f64], declared: f64) -> String {
    let level = |rate: &f64| {
        let share = rate / declared.max(1.0) / 2.0;
        BARS.iter().zip(1_u8..).find(|(_, step)| share < f64::from(*step) / 8.0)
    };
    series.iter().map(|rate| level(rate).map_or('█', |(bar, _)| *bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_still_at_the_declared_rate() {
        assert_eq!(bars(&[0.0, 50.0, 99.0, 100.0, 199.0, 900.0], 100.0), "▁▃▄▅██");
        assert_eq!(bars(&[], 100.0), "");
    }

    #[test]
    fn a_validator_without_heights_says_so() {
        let clock = serde_json::json!({ "lanes": [] });
        assert!(report(&clock).contains("only just started"));
    }
}
