//! Events that come one by one, while validators of four are killed: each lands once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quipu_client::{Appending, Batcher, Client, Limits, NewEvent};
use quipu_crypto::SecretKey;
use quipu_types::{Schema, Value};
use tokio::sync::mpsc;

use crate::fleet::{COUNT, Fleet, until};
use crate::harness::tail;

const ROUTES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Answers that must come before and after each kill.
const ANSWER_COUNT: u64 = 2_000;

/// Sends until it is told to stop; gives how many events of each route there are.
async fn send(batcher: Batcher, answers: mpsc::Sender<Appending>, stops: Arc<AtomicBool>) -> i64 {
    let schema = Schema::parse("who text not null, n int8 not null").unwrap();
    let mut number = 0;
    while !stops.load(Ordering::SeqCst) {
        for route in ROUTES {
            let row = [Value::Text(route.to_owned()), Value::Int8(number)];
            let event = NewEvent { key: Vec::new(), payload: schema.encode_row(&row).unwrap() };
            answers.send(batcher.send("load", event).await.unwrap()).await.unwrap();
        }
        number += 1;
    }
    batcher.close().await.unwrap();
    number
}

#[test]
fn events_sent_one_by_one_land_once_in_order_though_validators_are_killed() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let urls: Vec<&str> = (0..COUNT).map(|index| fleet.url(index)).collect();
    let client = Arc::new(Client::new(&urls.join(",")).unwrap().with_compression(true));
    let limits = Limits { batch_count: 50, ..Limits::default() };
    let batcher = Batcher::new(client, Arc::new(SecretKey::generate()), limits);
    let batcher = fleet.runtime.block_on(batcher).unwrap();
    // Few, so that what is sent is what is answered soon.
    let (sender, mut answers) = mpsc::channel::<Appending>(5_000);
    let (stops, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sending = fleet.runtime.spawn(send(batcher, sender, Arc::clone(&stops)));
    let counter = Arc::clone(&count);
    let counting = fleet.runtime.spawn(async move {
        while let Some(answer) = answers.recv().await {
            assert!(answer.await.unwrap().position().is_some());
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let until_answered = || {
        let goal = count.load(Ordering::SeqCst) + ANSWER_COUNT;
        until("more answers", || count.load(Ordering::SeqCst) >= goal);
    };
    for victim in 0..COUNT {
        until_answered();
        fleet.kill(victim);
        until_answered();
        fleet.start(victim);
        fleet.until_linked();
        fleet.until_caught_up(victim);
    }
    stops.store(true, Ordering::SeqCst);
    let sent = fleet.runtime.block_on(sending).unwrap();
    fleet.runtime.block_on(counting).unwrap();
    fleet.until_caught_up(0);
    let events = tail(fleet.server(0), "load");
    for route in ROUTES {
        let of_route = events.iter().filter(|event| event["data"]["who"] == route);
        let numbers: Vec<i64> = of_route
            .map(|event| event["data"]["n"].to_string().trim_matches('"').parse().unwrap())
            .collect();
        let expected: Vec<i64> = (0..sent).collect();
        assert!(numbers == expected, "{route}: {} of {sent}", numbers.len());
    }
}
