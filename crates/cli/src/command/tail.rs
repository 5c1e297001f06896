//! `quipu tail`: a stream's events, as they were or as they come.

use quipu_client::{Event, Follow, FollowFrom};

use crate::args::Tail;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Prints events.
pub(crate) async fn run(args: Tail) -> Result<()> {
    let client = tools::client(&args.server)?;
    let from = match &args.from {
        None => FollowFrom::Start,
        Some(text) => FollowFrom::After(text.parse().map_err(|_| {
            Failure::usage(format!("--from {text:?} is not LANE:SEQNO, for example 3:120"))
        })?),
    };
    let mut follow = Follow::new(&client, &args.stream, from, args.follow);
    loop {
        let event = tokio::select! {
            event = follow.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        tools::print(&if args.json { serde_json::json!(event).to_string() } else { line(&event) })?;
    }
}

fn line(event: &Event) -> String {
    let place = format!("{}.{}", event.position, event.action);
    let key = if event.key.is_empty() { String::new() } else { format!(" key={}", event.key) };
    format!("{place:<12} {}{key} {}", screen::dim(&tools::time_text(event.time_us)), event.data)
}
