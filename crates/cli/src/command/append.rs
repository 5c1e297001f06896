//! `quipu append`: one row, or a file of rows, checked whole before anything is signed.

use std::collections::BTreeMap;

use quipu_client::producer::batches;
use quipu_client::{NewEvent, Producer, SubmitAnswer};
use quipu_types::transaction::ROUTE_SIZE_MAX;
use quipu_types::{Schema, code};
use serde_json::Value as Json;

use crate::args::Append;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// The events of one route, in the order of their lines.
type Routes = BTreeMap<Option<Vec<u8>>, Vec<NewEvent>>;

/// Appends events.
pub(crate) async fn run(args: Append) -> Result<()> {
    let key_bytes = args.event_key.as_bytes();
    if key_bytes.len() > ROUTE_SIZE_MAX {
        return Err(Failure::usage(format!(
            "--event-key has {} bytes, the most is {ROUTE_SIZE_MAX}",
            key_bytes.len()
        )));
    }
    let client = tools::client(&args.server)?.with_ack(args.ack.into());
    let key = tools::signer(&args.signer.signer)?;
    let info = client.stream(&args.stream).await?;
    let schema = Schema::parse(&info.schema)?;
    let route_by = info.route_by.as_deref().and_then(|column| schema.index_of(column));
    let mut routes = Routes::new();
    match (&args.data, &args.file) {
        (Some(data), _) => {
            let (route, event) = read_row(&schema, route_by, key_bytes, data)
                .map_err(|reason| Failure::new(code::BAD_INPUT, format!("--data: {reason}")))?;
            routes.entry(route).or_default().push(event);
        }
        (None, Some(path)) => {
            let text = tools::read_text(path, "file")?;
            read_lines(&text, |line| read_row(&schema, route_by, key_bytes, line), &mut routes)
                .map_err(|(line, reason)| {
                    let message = format!("{}: line {line}: {reason}", path.display());
                    Failure::new(code::BAD_INPUT, message)
                })?;
        }
        (None, None) => return Err(Failure::usage("give --data or --file")),
    }
    let mut producer = Producer::new(&client, &key).await?;
    let count: usize = routes.values().map(Vec::len).sum();
    let bar = screen::bar("appending", u64::try_from(count).unwrap_or(u64::MAX));
    for (route, events) in routes {
        for batch in batches(&args.stream, events, args.batch)? {
            let size = batch.len();
            let answer = producer.submit(route.clone(), batch).await?;
            if let Some(failure) = tools::refusal(&answer) {
                bar.finish_and_clear();
                return Err(failure);
            }
            bar.inc(u64::try_from(size).unwrap_or(u64::MAX));
            bar.suspend(|| report(&answer, size, args.json))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Groups a file's rows by route; the first bad line, 1-based, ends it.
fn read_lines(
    text: &str,
    read: impl Fn(&str) -> Result<(Option<Vec<u8>>, NewEvent), String>,
    routes: &mut Routes,
) -> Result<(), (usize, String)> {
    for (line, index) in text.lines().zip(1_usize..) {
        if line.trim().is_empty() {
            continue;
        }
        let (route, event) = read(line).map_err(|reason| (index, reason))?;
        routes.entry(route).or_default().push(event);
    }
    Ok(())
}

fn read_row(
    schema: &Schema,
    route_by: Option<usize>,
    key: &[u8],
    text: &str,
) -> Result<(Option<Vec<u8>>, NewEvent), String> {
    let row: Json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let payload = schema.row_from_json(&row).map_err(|error| error.to_string())?;
    let route = match route_by {
        None => None,
        Some(column) => {
            let route = schema.route_bytes(&payload, column).map_err(|error| error.to_string())?;
            if route.len() > ROUTE_SIZE_MAX {
                return Err(format!(
                    "route has {} bytes, the most is {ROUTE_SIZE_MAX}",
                    route.len()
                ));
            }
            Some(route)
        }
    };
    Ok((route, NewEvent { key: key.to_vec(), payload }))
}

fn report(answer: &SubmitAnswer, event_count: usize, json: bool) -> Result<()> {
    if json {
        let mut line = serde_json::json!(answer);
        if let Json::Object(line) = &mut line {
            line.insert("events".into(), event_count.into());
        }
        return tools::print(&line.to_string());
    }
    let events = if event_count == 1 { String::new() } else { format!("  {event_count} events") };
    tools::print(&format!(
        "position {}  height {}  tx {}{events}",
        answer.position.as_deref().unwrap_or_default(),
        answer.height.unwrap_or_default(),
        answer.tx
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named_with_its_number_and_reason() {
        let schema = Schema::parse("name text not null, age int2").expect("a schema");
        let read = |line: &str| read_row(&schema, Some(0), b"", line);
        let mut routes = Routes::new();
        let text = "{\"name\":\"a\"}\n\n{\"name\":\"b\",\"age\":70000}\n";
        let (line, reason) = read_lines(text, read, &mut routes).expect_err("age is too large");
        assert_eq!((line, reason.as_str()), (3, "column \"age\": 70000 is not of type int2"));
        let (line, reason) = read_lines("{\"nam\":1}", read, &mut routes).expect_err("unknown");
        assert_eq!((line, reason.as_str()), (1, "no column \"nam\""));
        assert!(read_lines("{", read, &mut routes).is_err());
    }

    #[test]
    fn rows_of_one_route_stay_in_order() {
        let schema = Schema::parse("name text not null, age int2").expect("a schema");
        let mut routes = Routes::new();
        let text = "{\"name\":\"a\",\"age\":1}\n{\"name\":\"b\"}\n{\"name\":\"a\",\"age\":2}\n";
        read_lines(text, |line| read_row(&schema, Some(0), b"k", line), &mut routes)
            .expect("good rows");
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[&Some(b"a".to_vec())].len(), 2);
    }
}
