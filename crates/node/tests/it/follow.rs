//! Streams read as lines and as server-sent events, whole, in parts, and while they grow.

use crate::world::{
    Served, World, append, create_stream, open, read_head, read_piece, request, route,
};

const PLACES: [&str; 4] = ["EWR", "JFK", "LGA", "BOS"];

fn filled(world: &World, served: &Served, count: usize) {
    let mut producer = world.producer(2);
    served.submit(&[producer.sign(None, vec![create_stream("readings"), create_stream("others")])]);
    for round in 0..count {
        let bytes: Vec<Vec<u8>> = PLACES
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let n = i64::try_from(round * 10 + place).unwrap();
                let actions = vec![
                    append("readings", n, name),
                    append("others", n, name),
                    append("readings", n + 1, name),
                ];
                producer.sign(Some(&route(name)), actions)
            })
            .collect();
        let answers = served.submit(&bytes);
        assert!(answers.iter().all(|answer| answer["applied"] == true), "{answers:?}");
    }
}

fn position(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["position"].as_str().unwrap().to_owned()
}

#[test]
fn a_reader_that_resumes_anywhere_reads_what_one_that_never_stopped_reads() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 6);
    let all = served.get("/v1/streams/readings/events").text();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 6 * 4 * 2);
    let mut after = 0;
    while after < lines.len() {
        let at = position(lines[after]);
        while after < lines.len() && position(lines[after]) == at {
            after += 1;
        }
        let rest = served.get(&format!("/v1/streams/readings/events?from={at}")).text();
        assert_eq!(rest.lines().collect::<Vec<_>>(), &lines[after..], "from {at}");
    }
    let some = served.get("/v1/streams/readings/events?limit=5").text();
    assert_eq!(some.lines().collect::<Vec<_>>(), &lines[..5]);
    let keyed = served.get("/v1/streams/readings/events?key=k1").text();
    let wanted: Vec<&&str> = lines.iter().filter(|line| line.contains("\"key\":\"k1\"")).collect();
    assert!(!wanted.is_empty());
    assert_eq!(keyed.lines().collect::<Vec<_>>().iter().collect::<Vec<_>>(), wanted);
    for (query, status) in
        [("from=9:1", 404), ("from=0:999", 404), ("from=x", 400), ("nonsense=1", 400)]
    {
        let answer = served.get(&format!("/v1/streams/readings/events?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        assert!(answer.json()["code"].as_str().unwrap().starts_with("QP"));
    }
    served.stop().unwrap();
}

#[test]
fn a_follower_sees_new_events_without_asking_and_ends_when_the_validator_stops() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 1);
    let path = "/v1/streams/readings/events?follow=true";
    let mut stream = open(served.at.http, "GET", path, &[], &[]);
    assert_eq!(read_head(&mut stream), (200, true));
    let mut seen = String::new();
    while seen.lines().count() < 8 {
        seen.push_str(&String::from_utf8(read_piece(&mut stream).unwrap()).unwrap());
    }
    let mut producer = world.producer(5);
    let fresh = producer.sign(Some(&route("BOS")), vec![append("readings", 99, "BOS")]);
    served.submit(&[fresh]);
    while !seen.contains("event 99") {
        seen.push_str(&String::from_utf8(read_piece(&mut stream).unwrap()).unwrap());
    }
    served.stop().unwrap();
    assert!(read_piece(&mut stream).is_none(), "the stream ends");
    assert_eq!(seen.lines().filter(|line| !line.is_empty()).count(), 9);
}

#[test]
fn server_sent_events_resume_by_their_ids() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served, 2);
    let read = |headers: &[(&str, &str)]| {
        let mut headers = headers.to_vec();
        headers.push(("Accept", "text/event-stream"));
        request(served.at.http, "GET", "/v1/streams/readings/events", &headers, &[]).text()
    };
    let all = read(&[]);
    assert_eq!(all.matches("data: ").count(), 16);
    assert_eq!(all.matches("id: ").count(), 8, "only a transaction's last event has an id");
    let (head, _) = all.split_at(all.match_indices("id: ").nth(3).unwrap().0);
    let id = head.rsplit("id: ").next().unwrap().lines().next().unwrap();
    let rest = read(&[("Last-Event-ID", id)]);
    assert!(all.ends_with(&rest), "{id}: {rest}");
    assert_eq!(rest.matches("data: ").count(), 10);
    served.stop().unwrap();
}
