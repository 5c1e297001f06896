//! `quipu status`: how a validator is.

use serde_json::Value as Json;

use crate::args::Status;
use crate::failure::Result;
use crate::{screen, tools};

/// Prints the status.
pub(crate) async fn run(args: Status) -> Result<()> {
    let client = tools::client(&args.server)?;
    if args.json {
        let status: Json = client.get("/v1/status").await?;
        return tools::print(&status.to_string());
    }
    let status: Json = client.get("/v1/status").await?;
    let text = |name: &str| plain(status.get(name).unwrap_or(&Json::Null));
    let number =
        |name: &str| screen::grouped(status.get(name).and_then(Json::as_u64).unwrap_or_default());
    let time = status.get("time_us").and_then(Json::as_u64).unwrap_or_default();
    tools::print(&format!(
        "{}  {}",
        screen::bold(&text("name")),
        screen::dim(&format!("chain {}", text("chain")))
    ))?;
    tools::print(&format!("height      {}  at {}", number("height"), tools::time_text(time)))?;
    tools::print(&format!("executed    {}", number("executed_height")))?;
    tools::print(&format!("certified   {}", number("certified_height")))?;
    tools::print(&format!("waiting     {} bytes", number("pending_bytes")))?;
    let rate = |name: &str| {
        status.pointer(&format!("/rates/{name}")).and_then(Json::as_f64).unwrap_or_default()
    };
    tools::print(&format!(
        "rates       {:.0} heights/s, {:.0} transactions/s, {:.0} events/s",
        rate("heights_per_second"),
        rate("transactions_per_second"),
        rate("events_per_second")
    ))?;
    let free = status.pointer("/disk/free_bytes").and_then(Json::as_u64).unwrap_or_default();
    tools::print(&format!("disk free   {} MiB", screen::grouped(free >> 20)))?;
    tools::print(&format!(
        "up          {} s, version {}",
        number("uptime_seconds"),
        text("version")
    ))?;
    for (title, columns) in [
        ("lanes", ["lane", "term", "seqno", "chunk_index"]),
        ("validators", ["index", "name", "power", "this"]),
    ] {
        tools::print("")?;
        let rows: Vec<Vec<String>> = list(&status, title)
            .iter()
            .map(|item| {
                columns.iter().map(|name| plain(item.get(*name).unwrap_or(&Json::Null))).collect()
            })
            .collect();
        let mut head: Vec<String> = columns.map(str::to_owned).to_vec();
        if let Some(first) = head.first_mut() {
            *first = title.trim_end_matches('s').to_owned();
        }
        tools::print(&screen::table(&head, &rows))?;
    }
    Ok(())
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
