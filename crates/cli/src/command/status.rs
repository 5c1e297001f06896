//! `quipu status`: how a validator is, whom it reaches, and who is missing.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::args::Status;
use crate::failure::Result;
use crate::{screen, tools};

/// Prints the status.
pub(crate) async fn run(args: Status) -> Result<()> {
    let client = tools::client(&args.server)?;
    let status: Json = client.get("/v1/status").await?;
    if args.json {
        return tools::print(&status.to_string());
    }
    tools::print(report(&status).trim_end())
}

/// A status in words.
fn report(status: &Json) -> String {
    let text = |name: &str| plain(status.get(name).unwrap_or(&Json::Null));
    let number =
        |name: &str| screen::grouped(status.get(name).and_then(Json::as_u64).unwrap_or_default());
    let time = status.get("time_us").and_then(Json::as_u64).unwrap_or_default();
    let rate = |name: &str| {
        status.pointer(&format!("/rates/{name}")).and_then(Json::as_f64).unwrap_or_default()
    };
    let free = status.pointer("/disk/free_bytes").and_then(Json::as_u64).unwrap_or_default();
    let mut out = format!(
        "{}  {}\n",
        screen::bold(&text("name")),
        screen::dim(&format!("chain {}", text("chain")))
    );
    if let Some(quorum) = quorum(status) {
        out.push_str(&quorum);
        out.push('\n');
    }
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    // A document of a server that does not say so has no such member.
    if let Some(waiting) = status.get("waiting").and_then(Json::as_str) {
        line("waits for", waiting.to_owned());
    }
    line("height", format!("{}  at {}", number("height"), tools::time_text(time)));
    line("executed", number("executed_height"));
    line("certified", number("certified_height"));
    if let Some(rounds) = status.get("rounds").and_then(rounds) {
        line("rounds", rounds);
    }
    line("waiting", format!("{} bytes", number("pending_bytes")));
    line(
        "rates",
        format!(
            "{:.0} heights/s, {:.0} transactions/s, {:.0} events/s",
            rate("heights_per_second"),
            rate("transactions_per_second"),
            rate("events_per_second")
        ),
    );
    line("disk free", format!("{} MiB", screen::grouped(free >> 20)));
    line("up", format!("{} s, version {}", number("uptime_seconds"), text("version")));
    let lanes = list(status, "lanes");
    let _ = writeln!(out, "\n{}", table("lane", &["lane", "term", "seqno", "chunk_index"], lanes));
    let _ = writeln!(out, "\n{}", validators(list(status, "validators")));
    out
}

/// How heights begin, in words; none when the server does not say.
fn rounds(rounds: &Json) -> Option<String> {
    let trial = rounds.get("trial_height").and_then(Json::as_u64);
    Some(match rounds.get("mode").and_then(Json::as_str)? {
        "led" => "led; if leaders fail, by a coin".to_owned(),
        "open" => format!(
            "open: leaders failed, a coin decides; the next trial of one is height {}",
            trial.map_or_else(String::new, screen::grouped)
        ),
        _ => "led only: no coin was dealt, so a network without timing stops them".to_owned(),
    })
}

/// Whether more than two thirds of the stake is reached, and who is missing; none when the server does not say.
fn quorum(status: &Json) -> Option<String> {
    let quorum = status.get("quorum")?;
    let power = |name: &str| quorum.get(name).and_then(Json::as_u64);
    let has_quorum = quorum.get("has_quorum").and_then(Json::as_bool)?;
    let (total, reachable) = (power("power_total")?, power("power_reachable")?);
    let missing: Vec<String> = list(status, "validators")
        .iter()
        .filter(|validator| !is_connected(validator))
        .map(|validator| {
            let text = |name: &str| plain(validator.get(name).unwrap_or(&Json::Null));
            match text("address") {
                address if address.is_empty() => text("name"),
                address => format!("{} ({address})", text("name")),
            }
        })
        .collect();
    let missing = missing.join(", ");
    Some(match (has_quorum, missing.is_empty()) {
        (true, true) => format!("quorum      yes, power {reachable} of {total} reachable"),
        (true, false) => {
            format!("quorum      yes, power {reachable} of {total} reachable; missing {missing}")
        }
        (false, true) => screen::bold(&format!(
            "no quorum: power {reachable} of {total} reachable, more than two thirds are needed"
        )),
        (false, false) => screen::bold(&format!(
            "no quorum: missing {missing}; power {reachable} of {total} reachable, more than two thirds are needed"
        )),
    })
}

/// Whether a validator is reached; the one that answers reaches itself.
fn is_connected(validator: &Json) -> bool {
    let is = |name: &str| validator.get(name).and_then(Json::as_bool);
    is("this") == Some(true) || is("connected").unwrap_or(true)
}

/// The validators: who they are, and what is known of them where the server says it.
fn validators(items: &[Json]) -> String {
    if items.iter().all(|item| item.get("connected").is_none()) {
        return table("validator", &["index", "name", "power", "this"], items);
    }
    let head = ["validator", "name", "power", "connected", "height", "seen"].map(str::to_owned);
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let text = |name: &str| plain(item.get(name).unwrap_or(&Json::Null));
            let is_this = item.get("this").and_then(Json::as_bool) == Some(true);
            let connected = match (is_this, is_connected(item)) {
                (true, _) => "this one",
                (false, true) => "yes",
                (false, false) => "no",
            };
            let seen = item.get("last_seen_ms").and_then(Json::as_u64).map_or_else(
                || if is_this { String::new() } else { "never".into() },
                |ms| format!("{} ms ago", screen::grouped(ms)),
            );
            let head = [text("index"), text("name"), text("power"), connected.to_owned()];
            head.into_iter().chain([text("last_height"), seen]).collect()
        })
        .collect();
    screen::table(&head, &rows)
}

/// Members of objects as columns; the first is titled.
fn table(title: &str, columns: &[&str], items: &[Json]) -> String {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            columns.iter().map(|name| plain(item.get(*name).unwrap_or(&Json::Null))).collect()
        })
        .collect();
    let mut head: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    if let Some(first) = head.first_mut() {
        title.clone_into(first);
    }
    screen::table(&head, &rows)
}

fn list<'a>(status: &'a Json, name: &str) -> &'a [Json] {
    status.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn plain(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn document(more: &[(&str, Json)]) -> Json {
        let mut status = json!({
            "name": "ours", "chain": "ab", "version": "0.1.0", "height": 1_234,
            "executed_height": 1_234, "certified_height": 1_233, "pending_bytes": 0,
            "time_us": 1_700_000_000_000_000_u64, "uptime_seconds": 7,
            "rates": { "heights_per_second": 1.0 }, "disk": { "free_bytes": 1_u64 << 30 },
            "lanes": [{ "lane": 0, "term": 1, "seqno": 5, "chunk_index": 2 }],
            "validators": [{ "index": 0, "name": "node0", "power": 1, "this": true }],
        });
        for (name, value) in more {
            status[*name] = value.clone();
        }
        status
    }

    fn validator(index: u64, connected: bool) -> Json {
        json!({
            "index": index, "name": format!("node{index}"), "power": 1, "this": index == 0,
            "connected": connected, "last_height": connected.then_some(1_234),
            "last_seen_ms": (index == 1).then_some(12), "address": format!("10.0.0.{index}:8642"),
        })
    }

    #[test]
    fn a_server_that_says_nothing_of_links_is_reported_as_before() {
        expect![[r#"
            ours  chain ab
            height      1,234  at 2023-11-14T22:13:20Z
            executed    1,234
            certified   1,233
            waiting     0 bytes
            rates       1 heights/s, 0 transactions/s, 0 events/s
            disk free   1,024 MiB
            up          7 s, version 0.1.0

            lane  term  seqno  chunk_index
            ────  ────  ─────  ───────────
               0     1      5            2

            validator  name   power  this
            ─────────  ─────  ─────  ────
                    0  node0      1  true
        "#]]
        .assert_eq(&report(&document(&[])));
    }

    #[test]
    fn who_is_missing_is_named_and_whether_the_rest_suffices() {
        let status = |connected: [bool; 4], has_quorum: bool| {
            let reachable = connected.iter().filter(|yes| **yes).count();
            let validators: Vec<Json> =
                connected.iter().zip(0..).map(|(yes, index)| validator(index, *yes)).collect();
            document(&[
                ("validators", json!(validators)),
                (
                    "quorum",
                    json!({
                        "power_total": 4, "power_reachable": reachable, "has_quorum": has_quorum
                    }),
                ),
                ("waiting", json!((!has_quorum).then_some("peers"))),
            ])
        };
        let first_lines = |status: &Json| {
            let text = report(status);
            text.lines().skip(1).take(2).collect::<Vec<_>>().join("\n")
        };
        expect![[r#"
            quorum      yes, power 4 of 4 reachable
            height      1,234  at 2023-11-14T22:13:20Z"#]]
        .assert_eq(&first_lines(&status([true; 4], true)));
        expect![[r#"
            quorum      yes, power 3 of 4 reachable; missing node3 (10.0.0.3:8642)
            height      1,234  at 2023-11-14T22:13:20Z"#]]
        .assert_eq(&first_lines(&status([true, true, true, false], true)));
        let alone = status([true, true, false, false], false);
        expect![[r#"
            no quorum: missing node2 (10.0.0.2:8642), node3 (10.0.0.3:8642); power 2 of 4 reachable, more than two thirds are needed
            waits for   peers"#]]
        .assert_eq(&first_lines(&alone));
        expect![[r#"
            validator  name   power  connected  height  seen
            ─────────  ─────  ─────  ─────────  ──────  ─────────
                    0  node0      1  this one     1234
                    1  node1      1  yes          1234  12 ms ago
                    2  node2      1  no                 never
                    3  node3      1  no                 never"#]]
        .assert_eq(&validators(list(&alone, "validators")));
    }
}
