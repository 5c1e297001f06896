//! Appends to, and reads from, other event logs over their own protocols, spoken by hand so that the client costs nearly
//! nothing: a batch's bytes are made once, written whole, and only its acknowledgements are counted.
//!
//! ```text
//!  events produce redis|nats|postgres ADDRESS --producers P --batch B --in-flight W --seconds S --size BYTES
//!  events consume redis|nats|postgres ADDRESS --events N
//! ```
//! One line of JSON comes out. A batch's latency counts from before its first byte is written until its last
//! acknowledgement is read. `produce` begins with an empty stream.

mod measure;
mod nats;
mod postgres;
mod redis;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Load, consume, produce};

/// What goes wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<String> {
    let [what, peer, address, rest @ ..] = words else {
        return Err("usage: events produce|consume PEER ADDRESS [--OPTION VALUE]...".into());
    };
    let option = |name: &str, otherwise: usize| -> Result<usize> {
        let place = rest.iter().position(|word| word.strip_prefix("--") == Some(name));
        match place.and_then(|place| rest.get(place + 1)) {
            Some(value) => value.parse().map_err(|error| format!("--{name}: {error}").into()),
            None => Ok(otherwise),
        }
    };
    let load = Load {
        producers: option("producers", 1)?,
        batch: option("batch", 1)?,
        in_flight: option("in-flight", 1)?.max(1),
        size: option("size", 200)?,
        time: Duration::from_secs(u64::try_from(option("seconds", 3)?)?),
    };
    let events = option("events", 0)?;
    match (what.as_str(), peer.as_str()) {
        ("produce", "redis") => produce(&load, &redis::Redis::new(address)?),
        ("produce", "nats") => produce(&load, &nats::Nats::new(address)?),
        ("produce", "postgres") => produce(&load, &postgres::Postgres::new(address)?),
        ("consume", "redis") => consume(events, |events| redis::read(address, events)),
        ("consume", "nats") => consume(events, |events| nats::read(address, events)),
        ("consume", "postgres") => consume(events, |events| postgres::read(address, events)),
        _ => Err(format!("nobody knows how to {what} {peer}").into()),
    }
}
