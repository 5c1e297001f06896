//! Round trips and totality of rows and schemas.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

const ALL: &str = "a bool, b int2, c int4, d int8, e numeric(12,2), f numeric(30,5), g text, h bytea, i date, j timestamptz, k uuid, l jsonb, m float8, n timestamp";

fn any_row() -> impl Strategy<Value = Vec<Value>> {
    let fixed = (
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::Int2),
        any::<i32>().prop_map(Value::Int4),
        any::<i64>().prop_map(Value::Int8),
        (-999_999_999_999_i128..1_000_000_000_000).prop_map(Value::Numeric),
        any::<i64>()
            .prop_map(|value| Value::Numeric(i128::from(value).saturating_mul(1_000_000_007))),
        ".{0,12}".prop_map(Value::Text),
    );
    let rest = (
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytea),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Timestamptz),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        prop::collection::btree_map("[a-z]{1,3}", any::<i64>(), 0..4).prop_map(|map| {
            Value::Jsonb(serde_json::to_string(&map).expect("a map of numbers is JSON"))
        }),
        any::<u64>().prop_map(Value::Float8),
        any::<i64>().prop_map(Value::Timestamp),
        any::<u16>(),
    );
    (fixed, rest).prop_map(|((a, b, c, d, e, f, g), (h, i, j, k, l, m, n, nulls))| {
        let mut row = vec![a, b, c, d, e, f, g, h, i, j, k, l, m, n];
        for (index, value) in row.iter_mut().enumerate() {
            if nulls >> index & 1 == 1 {
                *value = Value::Null;
            }
        }
        row
    })
}

proptest! {
    #[test]
    fn a_row_reads_back_as_it_was_written(row in any_row()) {
        let schema = Schema::parse(ALL).unwrap();
        let bytes = schema.encode_row(&row).unwrap();
        let back: Vec<_> = schema.decode_row(&bytes).unwrap().iter().map(ValueRef::to_owned).collect();
        prop_assert_eq!(&back, &row);
        let json = schema.row_to_json(&bytes).unwrap();
        prop_assert_eq!(schema.row_from_json(&json).unwrap(), bytes);
    }

    #[test]
    fn no_bytes_make_a_row_panic_and_what_reads_is_canonical(
        bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let schema = Schema::parse(ALL).unwrap();
        if let Ok(values) = schema.decode_row(&bytes) {
            let owned: Vec<_> = values.iter().map(ValueRef::to_owned).collect();
            prop_assert_eq!(schema.encode_row(&owned).unwrap(), bytes);
        }
    }

    #[test]
    fn no_bytes_make_a_schema_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(schema) = Schema::from_bytes(&bytes) {
            prop_assert_eq!(schema.to_bytes(), bytes);
        }
    }

    #[test]
    fn no_text_makes_a_schema_panic(text in ".{0,60}") {
        if let Ok(schema) = Schema::parse(&text) {
            prop_assert_eq!(Schema::parse(&schema.to_string()).unwrap(), schema);
        }
    }
}

#[test]
fn a_schema_that_breaks_a_rule_is_refused_by_name() {
    let check = |text: &str| match Schema::parse(text) {
        Ok(schema) => format!("ok: {schema}\n"),
        Err(error) => format!("{error}\n"),
    };
    let mut out = String::new();
    for text in [
        "a INT4 not null, b numeric( 5 , 2 )",
        "a",
        "a frob",
        "a int4, a text",
        "_a int4",
        "A-b int4",
        "a numeric(39,1)",
        "",
    ] {
        out.push_str(&check(text));
    }
    expect![[r#"
        ok: a int4 not null, b numeric(5,2)
        schema: "a" is not `name type [not null]`
        schema: no type "frob"; there are bool, int2, int4, int8, numeric(p,s), text, bytea, date, timestamptz, uuid, jsonb, float8, timestamp
        schema: column "a" appears twice
        schema: column "_a": a leading _ is for system columns
        schema: name "a-b": 1 to 63 of a-z, 0-9 and _, no digit first
        schema: column "a": numeric(39,1) is not allowed, at most 38 digits
        schema: "" is not `name type [not null]`
    "#]]
    .assert_eq(&out);
}
