//! A compacted stream over HTTP and SQL, its pages checked with the genesis alone; the ledger's order as a column.

use std::collections::BTreeMap;

use quipu_proof::compacted::Page;
use quipu_types::{Action, Decode, Hash, RouteRule, Schema, StreamSpec, Writers};
use serde_json::{Value as Json, json};

use crate::world::{Producer, Served, World};

const STREAM: &str = "prices";

fn schema() -> Schema {
    Schema::parse("place text, n int8").unwrap()
}

fn create(name: &str, compacted: bool) -> Action {
    let (name, route) = (name.into(), RouteRule::Column("place".into()));
    let (schema, writers) = (schema(), Writers::Anyone);
    Action::CreateStream(StreamSpec { name, schema, route, writers, compacted })
}

fn row(place: Option<&str>, n: Option<i64>) -> Vec<u8> {
    schema().row_from_json(&json!({ "place": place, "n": n })).unwrap()
}

fn event(key: &[u8], place: Option<&str>, n: Option<i64>) -> Action {
    Action::Append { stream: STREAM.into(), key: key.to_vec(), payload: row(place, n) }
}

fn route(place: Option<&str>) -> Vec<u8> {
    schema().route_bytes(&row(place, None), 0).unwrap()
}

fn sql(served: &Served, query: &str) -> Json {
    let body = json!({ "query": query }).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer =
        crate::world::request(served.at.http, "POST", "/v1/sql", &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["rows"].clone()
}

/// A value of an answer as text.
fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Several lanes, transactions of several events, keys that come again and keys that are removed.
fn fill(served: &Served, producer: &mut Producer) {
    let made =
        served.submit(&[producer.sign(None, vec![create(STREAM, true), create("plain", false)])]);
    assert_eq!(made[0]["applied"], true, "{made:?}");
    let places = ["Oslo", "Lima", "Rome", "Kyiv", "Bern"];
    let mut batch = Vec::new();
    for n in 0..60_i64 {
        let place = places[usize::try_from(n).unwrap() % places.len()];
        let key = |number: i64| format!("k{}", number % 23).into_bytes();
        let actions = vec![
            event(&key(n), Some(place), Some(n)),
            event(&key(n * 7 + 1), Some(place), Some(1_000 + n)),
        ];
        batch.push(producer.sign(Some(&route(Some(place))), actions));
    }
    batch.push(producer.sign(Some(&route(None)), vec![event(b"k5", None, None)]));
    for part in batch.chunks(9) {
        let answers = served.submit(part);
        assert!(answers.iter().all(|answer| answer["applied"] == true), "{answers:?}");
    }
}

/// All pages of at most so many keys, checked: key, position, action, row.
fn pages(world: &World, served: &Served, limit: usize) -> (usize, BTreeMap<String, Json>) {
    let (mut next, mut count, mut found) = (Hash::ZERO, 0, BTreeMap::new());
    loop {
        let path = format!("/v1/streams/{STREAM}/compacted?limit={limit}&from={next}");
        let body = served.get_json(&path);
        let page = hex::decode(body["proof"].as_str().unwrap()).unwrap();
        let page = Page::from_bytes(&page).unwrap();
        let shown = page.verify(&world.genesis, STREAM, &next).unwrap();
        assert_eq!(body["height"], shown.height.get());
        assert_eq!(body["key_count"], shown.keys.count);
        count += 1;
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), page.entries.len());
        for (event, entry) in events.iter().zip(&page.entries) {
            assert_eq!(event["position"], entry.newest.position.to_string());
            assert_eq!(event["data"], schema().row_to_json(&entry.payload).unwrap());
            found.insert(event["key"].as_str().unwrap().to_owned(), event.clone());
        }
        match shown.next {
            Some(behind) => {
                assert_eq!(body["next"], behind.to_string());
                next = behind;
            }
            None => {
                assert!(body["next"].is_null());
                return (count, found);
            }
        }
    }
}

#[test]
fn the_newest_event_of_each_key_is_proven_and_the_same_in_sql_and_after_a_restart() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    fill(&served, &mut producer);
    let (count, found) = pages(&world, &served, 4);
    assert!(count > 4, "{count} pages");
    assert_eq!(found.len(), 22, "k5 was removed");
    let own = "select distinct on (_key) * from prices order by _key, _order desc, _action desc";
    let own = format!("({own}) as t where n is not null or place is not null");
    for from in [own.as_str(), "compacted('prices')"] {
        let columns = "select _key, n, _lane, _seqno, _action";
        let rows = sql(&served, &format!("{columns} from {from} order by _key"));
        let rows = rows.as_array().unwrap().iter();
        let rows = rows.map(|row| row.as_array().unwrap().iter().map(text).collect::<Vec<_>>());
        let by_sql: BTreeMap<String, Vec<String>> = rows.map(|row| (row[0].clone(), row)).collect();
        assert_eq!(by_sql.len(), found.len(), "{from}");
        for (key, event) in &found {
            let row = &by_sql[&format!("\\x{}", hex::encode(key))];
            assert_eq!(row[1], event["data"]["n"].to_string(), "{key}");
            assert_eq!(format!("{}:{}", row[2], row[3]), text(&event["position"]), "{key}");
            assert_eq!(row[4], event["action"].to_string(), "{key}");
        }
    }
    served.stop().unwrap();

    let served = world.start();
    assert_eq!(pages(&world, &served, 1_024), (1, found.clone()));
    let one = served.get_json("/v1/streams/prices/compacted?key=k7");
    assert_eq!(one["events"], json!([found["k7"]]));
    let none = served.get_json("/v1/streams/prices/compacted?key=k5");
    assert_eq!(none["events"], json!([]));
    served.stop().unwrap();
}

#[test]
fn the_order_column_is_the_order_in_which_a_stream_is_followed() {
    let world = World::new();
    let served = world.start();
    fill(&served, &mut world.producer(2));
    let followed = served.get("/v1/streams/prices/events").text();
    let followed: Vec<String> = followed
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .map(|event| format!("{}.{}", event["position"].as_str().unwrap(), event["action"]))
        .collect();
    let rows = sql(&served, "select _lane, _seqno, _action from prices order by _order, _action");
    let place = |row: &Json| format!("{}:{}.{}", text(&row[0]), text(&row[1]), text(&row[2]));
    let ordered: Vec<String> = rows.as_array().unwrap().iter().map(place).collect();
    assert_eq!(ordered, followed);
    let rows = sql(
        &served,
        "select count(distinct _lane) > 2, count(distinct _order), min(_order), max(_order) from prices",
    );
    assert_eq!(rows, json!([["t", "61", "1", "61"]]), "the first created the stream");
    served.stop().unwrap();
}

#[test]
fn what_is_wrong_with_a_compacted_stream_is_said_by_code() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    fill(&served, &mut producer);
    let at = route(Some("Oslo"));
    let answers = served.submit(&[
        producer.sign(
            Some(&at),
            vec![event(b"x", Some("Oslo"), Some(1)), event(b"", Some("Oslo"), Some(1))],
        ),
        producer.sign(Some(&at), vec![event(&[b'x'; 257], Some("Oslo"), Some(1))]),
    ]);
    assert_eq!(answers[0]["code"], "QP0245", "{answers:?}");
    assert_eq!(answers[0]["action"], 1);
    assert_eq!(answers[1]["code"], "QP0001", "{answers:?}");
    let refused = |path: &str| {
        let answer = served.get(&format!("/v1/streams/{path}"));
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        (answer.status, code)
    };
    assert_eq!(refused("plain/compacted"), (400, "QP0702".into()));
    assert_eq!(refused("none/compacted"), (404, "QP0203".into()));
    assert_eq!(refused("prices/compacted?limit=0"), (400, "QP0702".into()));
    assert_eq!(refused("prices/compacted?limit=1025"), (400, "QP0702".into()));
    assert_eq!(refused("prices/compacted?from=zz"), (400, "QP0702".into()));
    assert_eq!(refused("prices/compacted?key=a&from=b"), (400, "QP0702".into()));
    assert_eq!(served.get_json("/v1/streams/prices")["compacted"], true);
    assert_eq!(served.get_json("/v1/streams/plain")["compacted"], false);
    served.stop().unwrap();
}
