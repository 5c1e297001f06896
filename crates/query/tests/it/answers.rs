//! What queries answer.

use std::collections::BTreeMap;

use expect_test::expect;
use quipu_types::{Schema, Value};

use crate::ledger::{Feeder, SIGNER, append, create, engine, open, runtime, told};

const ALL_TYPES: &str = "a bool, b int2, c int4, d int8, e numeric(10,3), f text, g bytea, h date, \
                         i timestamptz, j uuid, k jsonb, l float8";

fn all_values() -> Vec<Value> {
    vec![
        Value::Bool(true),
        Value::Int2(-2),
        Value::Int4(3),
        Value::Int8(i64::MIN),
        Value::Numeric(-1_234_567),
        Value::Text("it's".into()),
        Value::Bytea(vec![0, 255]),
        Value::Date(15_706),
        Value::Timestamptz(1_357_016_400_000_001),
        Value::Uuid([0xab; 16]),
        Value::Jsonb("{\"a\":1}".into()),
        Value::Float8(0.1_f64.to_bits()),
    ]
}

#[test]
fn every_type_reads_back_with_its_system_columns() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let schema = Schema::parse(ALL_TYPES).unwrap();
    let mut feeder = Feeder::new();
    feeder.feed(&store, &[vec![create("t", ALL_TYPES)]]);
    feeder.feed(
        &store,
        &[
            vec![append("t", &schema, &all_values()), append("t", &schema, &vec![Value::Null; 12])],
            vec![append("t", &schema, &vec![Value::Null; 12])],
        ],
    );
    feeder.feed(&store, &[]);
    let mut session = engine(&store).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            a|b|c|d|e|f|g|h|i|j|k|l|_lane|_seqno|_action|_height|_time_min|_time_max|_signer|_tx|_key|_order
            t|-2|3|-9223372036854775808|-1234.567|it's|\x00ff|2013-01-01|2013-01-01 05:00:00.000001+00|abababab-abab-abab-abab-abababababab|{"a":1}|0.1|2|2|0|2|2023-11-14 22:13:20.5+00|2023-11-14 22:13:23+00|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:0|\x6b|1
            ~|~|~|~|~|~|~|~|~|~|~|~|2|2|1|2|2023-11-14 22:13:20.5+00|2023-11-14 22:13:23+00|010101010101010101010101010101010101010101010101010101010101010101|0000000000000002000000000000000000000000000000000000000000000000:1|\x6b|1
            ~|~|~|~|~|~|~|~|~|~|~|~|2|3|0|2|2023-11-14 22:13:20.5+00|2023-11-14 22:13:23+00|010101010101010101010101010101010101010101010101010101010101010101|0000000000000003000000000000000000000000000000000000000000000000|\x6b|2"#]].assert_eq(&told(&mut session, "select * from t order by _seqno, _action").await);
        expect![[r#"
            stream|_seqno|_action|_tx
            t|2|0|0000000000000002000000000000000000000000000000000000000000000000:0
            t|2|1|0000000000000002000000000000000000000000000000000000000000000000:1
            t|3|0|0000000000000003000000000000000000000000000000000000000000000000"#]].assert_eq(&told(&mut session, "select stream, _seqno, _action, _tx from quipu.events order by 2, 3").await);
        expect![[r#"
            lane|seqno|height|tx|action_count|fee|outcome|code|action
            2|1|1|0000000000000001000000000000000000000000000000000000000000000000|1|5|applied|~|~
            2|2|2|0000000000000002000000000000000000000000000000000000000000000000|2|5|applied|~|~
            2|3|2|0000000000000003000000000000000000000000000000000000000000000000|1|5|applied|~|~"#]].assert_eq(&told(&mut session, "select * from quipu.receipts order by seqno").await);
        expect![[r#"
            height|transactions|time
            1|1|2023-11-14 22:13:21+00
            2|2|2023-11-14 22:13:22+00
            3|0|2023-11-14 22:13:23+00"#]].assert_eq(&told(&mut session, "select height, transactions, time from quipu.headers order by height").await);
        expect![[r#"
            lane|term|chunk|seqno|height
            2|1|3|3|3"#]].assert_eq(&told(&mut session, "select lane, term, chunk, seqno, height from quipu.lanes").await);
        expect![[r#"
            name|columns|route|writers
            t|a bool, b int2, c int4, d int8, e numeric(10,3), f text, g bytea, h date, i timestamptz, j uuid, k jsonb, l float8|signer|anyone"#]].assert_eq(&told(&mut session, "select name, columns, route, writers from quipu.streams").await);
        expect![[r#"
            account|balance
            0707070707070707070707070707070707070707070707070707070707070707|18446744073709551615"#]].assert_eq(&told(&mut session, "select * from quipu.accounts").await);
        expect![[r#"
            index|name|power|power_next|bond|locked|deposed|stale|share_key|state_vote_p99_us|owner|address|epoch
            0|node0|1|0|3|2|t|f|f|1500|0707070707070707070707070707070707070707070707070707070707070707|~|4"#]].assert_eq(&told(&mut session, "select index, name, power, power_next, bond, locked, deposed, stale, share_key, state_vote_p99_us, owner, address, epoch from quipu.validators").await);
        expect![[r#"
            epoch|height|kind|place|validator|slashed|by|tx
            3|9|prevotes|height 5, round 0|0|1|0808080808080808080808080808080808080808080808080808080808080808|0606060606060606060606060606060606060606060606060606060606060606"#]].assert_eq(&told(&mut session, "select epoch, height, kind, place, validator, slashed, \"by\", tx from quipu.evidence").await);
        expect![[r#"
            epoch|validators|power|coin|began|ended
            3|1|2361183241434822606720|f|2023-11-14 22:13:20+00|2023-11-14 22:13:20.000001+00
            4|1|2361183241434822606720|f|2023-11-14 22:13:20.000001+00|~
            5|1|2361183241434822606720|f|~|~"#]].assert_eq(&told(&mut session, "select * from quipu.epochs order by epoch").await);
    });
}

#[test]
fn averages_and_sums_are_exact_and_named_as_postgresql_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let columns = "carrier text not null, delay int4, big int8, price numeric(8,2)";
    let schema = Schema::parse(columns).unwrap();
    let mut feeder = Feeder::new();
    feeder.feed(&store, &[vec![create("flights", columns)]]);
    let row = |carrier: &str, delay: Option<i32>, big: i64, price: i128| {
        let delay = delay.map_or(Value::Null, Value::Int4);
        let values = [Value::Text(carrier.into()), delay, Value::Int8(big), Value::Numeric(price)];
        append("flights", &schema, &values)
    };
    feeder.feed(
        &store,
        &[vec![
            row("AA", Some(1), i64::MAX, 100),
            row("AA", Some(2), i64::MAX, 101),
            row("BB", Some(-1), 1, 5),
            row("BB", None, 2, 6),
            row("CC", None, 3, 7),
        ]],
    );
    let mut session = engine(&store).session("ann", SIGNER);
    runtime().block_on(async {
        expect![[r#"
            carrier|count|round|avg|sum|sum|avg|avg|sum
            AA|2|1.50|1.5000000000000000|3|18446744073709551614|9223372036854775807.0000000000000000|1.0050000000000000|2.01
            BB|2|-1.00|-1.0000000000000000|-1|3|1.5000000000000000|0.0550000000000000|0.11
            CC|1|~|~|~|3|3.0000000000000000|0.0700000000000000|0.07"#]].assert_eq(
            &told(
                &mut session,
                "select carrier, count(*), round(avg(delay), 2), avg(delay), sum(delay), sum(big), avg(big), avg(price), sum(price) \
                 from flights group by 1 order by count desc, 1",
            )
            .await,
        );
        expect![[r#"
            avg|sum|avg|?column?|?column?|?column?|sum
            0.6666666666666667|2|1.5000000000000000|2|0.3333333333333333|3|3"#]].assert_eq(
            &told(&mut session, "select avg(distinct delay), sum(distinct delay), avg(1.5), 5/2, 1.0/3, 7 % 4, sum(delay) filter (where carrier = 'AA') from flights").await,
        );
        expect![[r#"
            carrier|a
            AA|1.0000000000000000
            AA|1.5000000000000000
            BB|0.5000000000000000
            BB|-1.0000000000000000
            CC|~"#]].assert_eq(
            &told(&mut session, "select carrier, avg(delay) over (order by carrier, delay rows between 1 preceding and current row) a from flights order by carrier, delay").await,
        );
    });
}

#[test]
fn an_aggregate_over_many_rows_equals_the_one_by_hand_on_disk_and_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let columns = "carrier text not null, delay int4, note text";
    let schema = Schema::parse(columns).unwrap();
    let mut feeder = Feeder::new();
    feeder.feed(&store, &[vec![create("flights", columns)]]);
    let mut random = fastrand::Rng::with_seed(11);
    let mut wanted: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for _ in 0..170 {
        let actions: Vec<_> = (0..1000)
            .map(|_| {
                let carrier = format!("C{}", random.u8(..12));
                let delay = random.bool().then(|| random.i32(-90..900));
                let entry = wanted.entry(carrier.clone()).or_default();
                entry.0 += 1;
                if let Some(delay) = delay {
                    entry.1 += 1;
                    entry.2 += i64::from(delay);
                }
                let delay = delay.map_or(Value::Null, Value::Int4);
                append(
                    "flights",
                    &schema,
                    &[Value::Text(carrier), delay, Value::Text("x".repeat(60))],
                )
            })
            .collect();
        feeder.feed(&store, &[actions]);
    }
    assert!(store.watermark().get() > 60, "most of it is on disk");
    let mut lines = vec!["carrier|count|round".to_owned()];
    for (carrier, (count, known, sum)) in &wanted {
        // Half away from zero at two digits: PostgreSQL's round.
        let scaled = sum * 100;
        let rounded = (scaled.abs() * 2 + known) / (2 * known) * scaled.signum();
        let sign = if rounded < 0 { "-" } else { "" };
        lines.push(format!(
            "{carrier}|{count}|{sign}{}.{:02}",
            rounded.abs() / 100,
            rounded.abs() % 100
        ));
    }
    let mut session = engine(&store).session("ann", SIGNER);
    let sql = "select carrier, count(*), round(avg(delay), 2) from flights group by 1 order by 1";
    runtime().block_on(async {
        assert_eq!(told(&mut session, sql).await, lines.join("\n"));
        assert_eq!(told(&mut session, "select count(*) from flights").await, "count\n170000");
    });
}
