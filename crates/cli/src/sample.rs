//! The sample: 336,776 flights and three small tables, as signed transactions.
//!
//! ```text
//!  data/*.csv ─> rows ─> one list of transactions a lane, always the same for one key and lane count
//!                          │
//!      next sequence of the key in that lane says how many are there already ─> load the rest
//! ```
//! So a load that was broken off goes on where it was, and nothing is appended twice. Flights are routed by
//! carrier; the small tables by who signs. The origin of the data stands in `data/README.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use quipu_client::{Client, ClientError, SubmitAnswer};
use quipu_crypto::SecretKey;
use quipu_proof::names::{lane_of, signed_bytes};
use quipu_types::{
    Action, ColumnType, Hash, Lane, RouteRule, Schema, StreamSpec, Unsigned, Value, Writers, code,
};
use ruzstd::decoding::StreamingDecoder;

use crate::failure::{Failure, Result};
use crate::tools;

/// Rows of one transaction.
const BATCH_COUNT: usize = 1_000;
/// Transactions of one request.
const REQUEST_COUNT: usize = 4;
/// How often a lane's place is asked again after it turned out to be behind.
const BEHIND_COUNT_MAX: u32 = 40;
/// Pause before it is asked again.
const BEHIND_PAUSE: Duration = Duration::from_millis(50);

/// One table of the sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The stream it goes into.
    pub(crate) name: &'static str,
    /// The stream's columns.
    pub(crate) schema: &'static str,
    /// The column that routes; the signer does when there is none.
    pub(crate) route_by: Option<&'static str>,
    file: File,
}

#[derive(Clone, Copy, Debug)]
enum File {
    Plain(&'static [u8]),
    Zstd(&'static [u8]),
}

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/", $name))
    };
}

/// The tables, in the order in which they are loaded.
pub(crate) const TABLES: [Table; 4] = [
    Table {
        name: "airlines",
        schema: "carrier text not null, name text not null",
        route_by: None,
        file: File::Plain(data!("airlines.csv")),
    },
    Table {
        name: "airports",
        schema: "faa text not null, name text not null, lat numeric(18,15), lon numeric(18,15), \
                 alt int4, tz int2, dst text, tzone text",
        route_by: None,
        file: File::Plain(data!("airports.csv")),
    },
    Table {
        name: "planes",
        schema: "tailnum text not null, year int2, type text, manufacturer text, model text, \
                 engines int2, seats int2, speed int2, engine text",
        route_by: None,
        file: File::Plain(data!("planes.csv")),
    },
    Table {
        name: "flights",
        schema: "year int2, month int2, day int2, dep_time int2, sched_dep_time int2, dep_delay int4, \
                 arr_time int2, sched_arr_time int2, arr_delay int4, carrier text not null, flight int4, \
                 tailnum text, origin text not null, dest text, air_time int4, distance int4, hour int2, \
                 minute int2, time_hour timestamptz",
        route_by: Some("carrier"),
        file: File::Zstd(data!("flights.csv.zst")),
    },
];

/// A row's route and its canonical bytes.
type Row = (Option<Vec<u8>>, Vec<u8>);

impl Table {
    /// The parsed schema.
    fn columns(&self) -> Result<Schema> {
        Ok(Schema::parse(self.schema)?)
    }

    /// What creates its stream.
    fn spec(&self) -> Result<StreamSpec> {
        let route =
            self.route_by.map_or(RouteRule::Signer, |column| RouteRule::Column(column.into()));
        let schema = self.columns()?;
        let (name, writers) = (self.name.into(), Writers::Creator);
        Ok(StreamSpec { name, schema, route, writers, compacted: false })
    }

    /// Calls `visit` with every row, in the file's order.
    fn each_row(&self, mut visit: impl FnMut(Row)) -> Result<()> {
        let schema = self.columns()?;
        let route = self.route_by.and_then(|column| schema.index_of(column));
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::new(code::BAD_INPUT, format!("sample table {}: {error}", self.name))
        };
        let source: Box<dyn std::io::Read> = match self.file {
            File::Plain(bytes) => Box::new(bytes),
            File::Zstd(bytes) => {
                Box::new(StreamingDecoder::new(bytes).map_err(|error| wrong(&error))?)
            }
        };
        let mut times = Times::new()?;
        let mut reader =
            csv::Reader::from_reader(std::io::BufReader::with_capacity(1 << 16, source));
        let mut record = csv::StringRecord::new();
        let mut values = Vec::with_capacity(schema.columns().len());
        while reader.read_record(&mut record).map_err(|error| wrong(&error))? {
            values.clear();
            for (column, text) in schema.columns().iter().zip(&record) {
                let value = value(column.kind, text, &mut times).ok_or_else(|| {
                    wrong(&format!(
                        "{text:?} is not of type {} in column {}",
                        column.kind, column.name
                    ))
                })?;
                values.push(value);
            }
            let payload = schema.encode_row(&values)?;
            let route = match route {
                None => None,
                Some(column) => Some(schema.route_bytes(&payload, column)?),
            };
            visit((route, payload));
        }
        Ok(())
    }
}

/// Reads times, each distinct text once: the flights have 6,936 of them.
struct Times {
    schema: Schema,
    seen: BTreeMap<String, i64>,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { schema: Schema::parse("time timestamptz")?, seen: BTreeMap::new() })
    }

    fn read(&mut self, text: &str) -> Option<i64> {
        if let Some(micros) = self.seen.get(text) {
            return Some(*micros);
        }
        let row = serde_json::json!({ "time": text });
        let Value::Timestamptz(micros) = self.schema.values_from_json(&row).ok()?.pop()? else {
            return None;
        };
        self.seen.insert(text.to_owned(), micros);
        Some(micros)
    }
}

/// A cell; `NA` is null.
fn value(kind: ColumnType, text: &str, times: &mut Times) -> Option<Value> {
    if text == "NA" {
        return Some(Value::Null);
    }
    Some(match kind {
        ColumnType::Int2 => Value::Int2(text.parse().ok()?),
        ColumnType::Int4 => Value::Int4(text.parse().ok()?),
        ColumnType::Text => Value::Text(text.into()),
        ColumnType::Numeric { scale, .. } => {
            Value::Numeric(quipu_types::row_json::numeric_from_text(text, scale)?)
        }
        ColumnType::Timestamptz => Value::Timestamptz(times.read(text)?),
        _ => return None,
    })
}

/// One transaction of the plan, not signed yet.
#[derive(Debug)]
struct Planned {
    route: Option<Vec<u8>>,
    actions: Vec<Action>,
    /// Rows, for the bar; 0 for what creates the streams.
    row_count: usize,
}

/// What the sample is made of, lane by lane, for one key.
#[derive(Debug)]
pub(crate) struct Plan {
    lanes: BTreeMap<Lane, Vec<Planned>>,
    row_count: usize,
}

impl Plan {
    /// Reads the tables and cuts them into transactions.
    pub(crate) fn new(key: &SecretKey, lane_count: u16) -> Result<Self> {
        let mut lanes: BTreeMap<Lane, Vec<Planned>> = BTreeMap::new();
        let own = key.public();
        let lane_of = |route: Option<&[u8]>| lane_of(route.unwrap_or(own.bytes()), lane_count);
        let create: Vec<Action> = TABLES
            .iter()
            .map(|table| table.spec().map(Action::CreateStream))
            .collect::<Result<_>>()?;
        let first = Planned { route: None, actions: create, row_count: 0 };
        lanes.entry(lane_of(None)).or_default().push(first);
        let mut row_count = 0_usize;
        for table in &TABLES {
            let mut routes: BTreeMap<Option<Vec<u8>>, Vec<Planned>> = BTreeMap::new();
            table.each_row(|(route, payload)| {
                row_count = row_count.saturating_add(1);
                let batches = routes.entry(route.clone()).or_default();
                if batches.last().is_none_or(|batch| batch.row_count >= BATCH_COUNT) {
                    batches.push(Planned { route, actions: Vec::new(), row_count: 0 });
                }
                if let Some(batch) = batches.last_mut() {
                    let stream = table.name.to_owned();
                    batch.actions.push(Action::Append { stream, key: Vec::new(), payload });
                    batch.row_count = batch.row_count.saturating_add(1);
                }
            })?;
            for (route, batches) in routes {
                lanes.entry(lane_of(route.as_deref())).or_default().extend(batches);
            }
        }
        Ok(Self { lanes, row_count })
    }

    /// Rows of all tables.
    pub(crate) fn row_count(&self) -> u64 {
        u64::try_from(self.row_count).unwrap_or(u64::MAX)
    }

    /// Signs and appends what is not there yet; says how many rows that were. The bar counts all rows.
    pub(crate) async fn load(
        self,
        client: &Client,
        key: &SecretKey,
        bar: &ProgressBar,
    ) -> Result<u64> {
        let anchor = anchor(client).await?;
        let own = lane_of(key.public().bytes(), lane_count(client).await?);
        let mut loads: Vec<LaneLoad<'_>> = self
            .lanes
            .into_iter()
            .map(|(lane, planned)| LaneLoad {
                client,
                key,
                bar,
                lane,
                planned,
                anchor,
                next: 0,
                appended: 0,
            })
            .collect();
        // The streams exist before any other lane appends to them.
        if let Some(first) = loads.iter_mut().find(|load| load.lane == own) {
            first.run(Some(1)).await?;
        }
        {
            let mut running: FuturesUnordered<_> =
                loads.iter_mut().map(|load| load.run(None)).collect();
            while let Some(done) = running.next().await {
                done?;
            }
        }
        Ok(loads.iter().map(|load| load.appended).sum())
    }
}

async fn lane_count(client: &Client) -> Result<u16> {
    let genesis: quipu_types::Genesis = client.get("/v1/genesis").await?;
    Ok(genesis.lane_count)
}

/// The newest header, checked, or the genesis when there is none: with the chain, all that signing needs.
async fn anchor(client: &Client) -> Result<Anchor> {
    let chain = client.chain().await?;
    let hash = client.anchor(chain).await?;
    Ok(Anchor { chain, hash })
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    chain: Hash,
    hash: Hash,
}

/// The load of one lane.
struct LaneLoad<'a> {
    client: &'a Client,
    key: &'a SecretKey,
    bar: &'a ProgressBar,
    lane: Lane,
    planned: Vec<Planned>,
    anchor: Anchor,
    /// Index of the first transaction that is not known to be there.
    next: usize,
    /// Rows that this load appended.
    appended: u64,
}

impl LaneLoad<'_> {
    /// Appends the lane's transactions that are not there yet, at most the first `limit`.
    async fn run(&mut self, limit: Option<usize>) -> Result<()> {
        let end = limit.unwrap_or(self.planned.len()).min(self.planned.len());
        let mut behind = 0_u32;
        self.find_place().await?;
        while self.next < end {
            let last = self.next.saturating_add(REQUEST_COUNT).min(end);
            let transactions: Vec<Bytes> =
                (self.next..last).filter_map(|index| self.sign(index)).collect();
            let answers = self.client.submit_until_final(&transactions).await?;
            for answer in &answers {
                if answer.position.is_none() && is_behind(answer) && behind < BEHIND_COUNT_MAX {
                    behind = behind.saturating_add(1);
                    tokio::time::sleep(BEHIND_PAUSE).await;
                    self.find_place().await?;
                    break;
                }
                if let Some(failure) = tools::refusal(answer) {
                    return Err(failure);
                }
                self.appended = self.appended.saturating_add(self.step());
            }
        }
        Ok(())
    }

    /// Skips what the ledger has already.
    async fn find_place(&mut self) -> Result<()> {
        let route = self.planned.first().and_then(|planned| planned.route.as_deref());
        let place = self.client.producer(&self.key.public(), route).await?;
        let there = usize::try_from(place.next_sequence).unwrap_or(usize::MAX).saturating_sub(1);
        if there > self.planned.len() {
            let message = format!(
                "lane {} has {there} transactions of the sample's key, the sample has {}",
                self.lane,
                self.planned.len()
            );
            return Err(Failure::new(code::SEQUENCE_USED, message).with_help(
                "Another sample was loaded here. Use another directory, or --no-sample.",
            ));
        }
        while self.next < there {
            self.step();
        }
        Ok(())
    }

    /// Goes one transaction further; gives its rows.
    fn step(&mut self) -> u64 {
        let row_count = self.planned.get(self.next).map_or(0, |planned| planned.row_count);
        let row_count = u64::try_from(row_count).unwrap_or(u64::MAX);
        self.bar.inc(row_count);
        self.next = self.next.saturating_add(1);
        row_count
    }

    fn sign(&self, index: usize) -> Option<Bytes> {
        let planned = self.planned.get(index)?;
        let unsigned = Unsigned {
            signer: self.key.public(),
            incarnation: 0,
            sequence: u64::try_from(index).ok()?.checked_add(1)?,
            anchor: self.anchor.hash,
            route: planned.route.as_deref(),
            actions: &planned.actions,
        };
        Some(signed_bytes(self.key, &self.anchor.chain, &unsigned).into())
    }
}

fn is_behind(answer: &SubmitAnswer) -> bool {
    matches!(answer.refusal(), Some(code::SEQUENCE_USED | code::SEQUENCE_GAP))
}

/// Whether a stream exists.
pub(crate) async fn has_stream(client: &Client, name: &str) -> Result<bool> {
    match client.stream(name).await {
        Ok(_) => Ok(true),
        Err(ClientError::Refused { code, .. }) if code == code::NO_STREAM.to_string() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quipu_types::Encode as _;

    use super::*;

    #[test]
    fn every_row_of_every_table_is_in_the_plan_once() {
        let counts: Vec<String> = TABLES
            .iter()
            .map(|table| {
                let mut count = 0_u64;
                table.each_row(|_| count = count.saturating_add(1)).unwrap();
                format!("{} {count}", table.name)
            })
            .collect();
        expect!["airlines 16, airports 1458, planes 3322, flights 336776"]
            .assert_eq(&counts.join(", "));
        let key = SecretKey::generate();
        let plan = Plan::new(&key, 16).unwrap();
        let planned = plan.lanes.values().flatten();
        assert_eq!(planned.clone().map(|planned| planned.row_count).sum::<usize>(), plan.row_count);
        assert_eq!(plan.row_count(), 341_572);
        for planned in planned {
            let size: usize = planned.actions.iter().map(|action| action.to_bytes().len()).sum();
            assert!(size < 500_000 && planned.actions.len() <= BATCH_COUNT);
        }
        assert!(plan.lanes.len() > 4, "several lanes carry the sample");
    }

    #[test]
    fn rows_read_back_as_the_file_says() {
        let first = |index: usize| {
            let table = TABLES[index];
            let mut rows = Vec::new();
            table
                .each_row(|(route, payload)| {
                    if rows.is_empty() {
                        rows.push((route, payload))
                    }
                })
                .unwrap();
            let (route, payload) = rows.remove(0);
            let json = table.columns().unwrap().row_to_json(&payload).unwrap();
            format!(
                "{} {json}",
                route.map_or("-".into(), |route| String::from_utf8(route).unwrap())
            )
        };
        expect![[r#"- {"alt":1044,"dst":"A","faa":"04G","lat":"41.130472200000000","lon":"-80.619583300000000","name":"Lansdowne Airport","tz":-5,"tzone":"America/New_York"}"#]]
            .assert_eq(&first(1));
        expect![[r#"UA {"air_time":227,"arr_delay":11,"arr_time":830,"carrier":"UA","day":1,"dep_delay":2,"dep_time":517,"dest":"IAH","distance":1400,"flight":1545,"hour":5,"minute":15,"month":1,"origin":"EWR","sched_arr_time":819,"sched_dep_time":515,"tailnum":"N14228","time_hour":"2013-01-01T10:00:00Z","year":2013}"#]]
            .assert_eq(&first(3));
    }
}
