//! What is copied out is copied in again; bytes are read the same however they are cut; nothing makes it panic.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use datafusion::physical_plan::memory::MemoryStream;
use expect_test::expect;
use proptest::prelude::*;
use quipu_types::{Schema, Value};

use super::{Copy, CopyIn, CopyOut, Options};
use crate::engine::Rows;
use crate::error::SqlError;
use crate::statement;
use crate::wire::{self, Encoder};

fn parsed(text: &str) -> Result<Copy, SqlError> {
    let parser = datafusion_pg_catalog::sql::PostgresCompatibilityParser::new();
    match statement::parse(text, &parser)?.pop().map(|parsed| parsed.kind) {
        Some(statement::Kind::Copy(copy)) => Ok(*copy),
        other => panic!("{other:?}"),
    }
}

fn options(text: &str) -> Options {
    let way = if text.contains("quote b") { "to stdout" } else { "from stdin" };
    parsed(&format!("copy t {way} {text}")).unwrap().options
}

/// A row as text: its values, or why there is none and where.
fn read(schema: &str, with: &str, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, SqlError> {
    let schema = Schema::parse(schema).unwrap();
    let mut copy = CopyIn::new("t".into(), schema, &[], &options(with), None)?;
    for piece in pieces {
        copy.push(piece);
        assert!(copy.advance(false)?.is_none());
    }
    assert!(copy.advance(true)?.is_none());
    Ok(copy.take().rows)
}

fn told(schema: &str, with: &str, data: &[u8]) -> String {
    let types = Schema::parse(schema).unwrap();
    let shown = |row: &Vec<u8>| format!("{:?}\n", types.decode_row(row).unwrap());
    match read(schema, with, &[data]) {
        Ok(rows) => rows.iter().map(shown).collect(),
        Err(error) => {
            let context = error.more.and_then(|more| more.context).unwrap_or_default();
            format!("{} {} | {context}\n", error.sqlstate, error.message)
        }
    }
}

#[test]
fn statements_of_every_form_are_read_and_wrong_ones_are_refused_by_name() {
    let texts = [
        "copy t from stdin",
        "COPY s.\"T\" (a, \"B\") FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'x', QUOTE '''', ESCAPE '\\')",
        "copy t to stdout csv header delimiter as '|' null as ''",
        "copy binary t to stdout",
        "copy pgbench_accounts from stdin with (freeze on)",
        "copy t from stdin with (format csv, header match);",
        "copy t from stdin with csv header",
        "copy t to stdout using delimiters ':'",
        "copy (select a, (1) from t where b = ')') to stdout (format binary)",
        "copy t from stdin (delimiter E'\\x01')",
        "copy (select 1) from stdin",
        "copy t from '/etc/passwd'",
        "copy t to program 'sh'",
        "copy t from stdin where a = 1",
        "copy t from stdin (format xml)",
        "copy t from stdin (delimiter 'ab')",
        "copy t from stdin (delimiter 'a')",
        "copy t from stdin (format csv, format csv)",
        "copy t from stdin (nope)",
        "copy t from stdin (format csv, force_null (a), force_not_null (b, \"C\"))",
        "copy t to stdout csv force quote *",
        "copy t from stdin csv force not null a, b force null c",
        "copy t from stdin (force_null (a))",
        "copy t from stdin (format csv, force_quote *)",
        "copy t to stdout (format csv, force_null (a))",
        "copy t from stdin (encoding 'latin1')",
        "copy t from stdin (format binary, null 'x')",
        "copy t from",
        "copy t from stdin extra",
    ];
    let said: String = texts
        .iter()
        .map(|text| match parsed(text) {
            Ok(Copy { what, is_input, options }) => {
                let way = if is_input { "in" } else { "out" };
                format!("{text}\n  {way} {what:?} {options:?}\n")
            }
            Err(error) => format!("{text}\n  {} {}\n", error.sqlstate, error.message),
        })
        .collect();
    expect![[r#""#]].assert_eq(&said);
}

#[test]
fn what_is_no_row_is_named_with_its_place() {
    let columns = "a int4 not null, b text";
    let csv = "csv header";
    let said = [
        told(columns, "", b"1\tx\n2\t\\N\n\\.\nrubbish"),
        told(columns, "", b"1\tx\r\n2\ty\\\r\n"),
        told(columns, "", b"1\n"),
        told(columns, "", b"1\tx\ty\n"),
        told(columns, "", b"1\tx\n\\N\ty\n"),
        told(columns, "", b"1\tx\none\ty\n"),
        told(columns, "", b"99999999999\ty\n"),
        told(columns, "", b"1\tx\r2\ty\n"),
        told(columns, "", b"1\t\xff\n"),
        told(columns, "", b"1\ta\\tb\\\\c\\x41\\101\\q\\\nd\n"),
        told(columns, csv, b"a,b\n1,\"x,\"\"y\"\"\nz\"\n2,\n3,\"\"\n"),
        told(columns, csv, b"a,b\n1,\"x\n"),
        told(columns, "(format csv, header match)", b"a,c\n1,x\n"),
        told(columns, "(format csv, header match)", b"a\n1,x\n"),
        told(columns, "(format csv, force_null (b))", b"1,\"\"\n2,\n3,x\n"),
        told(columns, "(format csv, force_not_null (b), null 'x')", b"1,\"\"\n2,\n3,x\n"),
        told(columns, "(format csv, force_null (z))", b"1,x\n"),
        told(columns, "(format binary)", b"1\tx\n"),
        told(columns, "(format binary)", b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01"),
        told(
            columns,
            "(format binary)",
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01z\xff\xff",
        ),
        told(
            columns,
            "(format binary)",
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\x07\0\0\0\x01z\xff\xff",
        ),
        told(columns, "(format binary)", b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0"),
    ];
    expect![[r#""#]].assert_eq(&said.concat());
}

#[test]
fn values_of_every_type_are_read_as_postgresql_reads_them() {
    let of = |kind: &str, texts: &[&str]| -> String {
        let schema = format!("a {kind}");
        texts.iter().map(|text| format!("{text}: {}", told(&schema, "", text.as_bytes()))).collect()
    };
    let said = [
        of("bool", &["t", "YES", "of", "o", "1"]),
        of("int2", &[" 7 ", "+7", "40000", "7.0"]),
        of("numeric(4,1)", &["1.25", "-1.25", "1e2", "999.95", ".5", "1e-9", "x", "NaN"]),
        of("bytea", &["\\\\x0aFF", "\\\\x0", "a\\\\\\\\b\\\\001", "\\\\9"]),
        of("date", &["2013-01-31", "2013-02-30", "today"]),
        of("timestamptz", &["2013-01-31 06:00:00.5+02", "infinity"]),
        of("uuid", &["{00112233-44556677-8899aabb-ccddeeff}", "0011"]),
        of("jsonb", &["{\"b\": 1, \"a\": [2]}", "{"]),
        of("float8", &["1.5", "-Infinity", "NaN", "1e400", "1e-400", "one"]),
    ];
    expect![[r#""#]].assert_eq(&said.concat());
}

const COLUMNS: &str = "a int4, b text, c bytea";

type Row = (Option<i32>, Option<String>, Option<Vec<u8>>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // Characters that the formats give a meaning, beside all others.
    let text = "([\\\\\"',.;NAx\t\n\r\u{8}\u{b}é𝄞]|\\\\\\.|\\\\N|\\PC){0,8}";
    let bytes = proptest::collection::vec(any::<u8>(), 0..6);
    let row = (any::<Option<i32>>(), proptest::option::of(text), proptest::option::of(bytes));
    proptest::collection::vec(row, 0..8)
}

fn encoded(rows: &[Row]) -> Vec<Vec<u8>> {
    let schema = Schema::parse(COLUMNS).unwrap();
    rows.iter()
        .map(|(a, b, c)| {
            schema.encode_row(&[
                a.map_or(Value::Null, Value::Int4),
                b.clone().map_or(Value::Null, Value::Text),
                c.clone().map_or(Value::Null, Value::Bytea),
            ])
        })
        .collect::<Result<_, _>>()
        .unwrap()
}

/// What `COPY … TO` sends of these rows, message by message.
fn copied_out(rows: &[Row], options: &Options) -> Vec<Vec<u8>> {
    let schema = Arc::new(ArrowSchema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Binary, true),
    ]));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.2.as_deref()).collect::<BinaryArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let columns = wire::columns(&schema, &[]).unwrap();
    let stream = MemoryStream::try_new(Vec::new(), Arc::clone(&schema), None).unwrap();
    let source = Rows::of_stream(columns, Box::pin(stream), &schema);
    let mut encoder = Encoder::new(&batch, source.columns()).unwrap();
    let mut copy = CopyOut::new(source, options.clone()).unwrap();
    let mut messages = vec![Vec::new()];
    copy.begin(&mut messages[0]);
    for row in 0..encoder.row_count() {
        let mut message = Vec::new();
        copy.row(&mut encoder, row, &mut message).unwrap();
        messages.push(message);
    }
    let mut end = Vec::new();
    copy.end(&mut end);
    messages.push(end);
    messages
}

fn any_options() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("(delimiter '|', null 'NULL', header)".into()),
        Just("csv".into()),
        Just("csv force quote b".into()),
        Just("csv header delimiter ';' null 'x' quote '''' escape '\\'".into()),
        Just("(format binary)".into()),
    ]
}

proptest! {
    #[test]
    fn what_is_copied_out_is_copied_in_again(rows in rows(), with in any_options()) {
        let sent = copied_out(&rows, &options(&with));
        let pieces: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(read(COLUMNS, &with, &pieces).unwrap(), encoded(&rows));
    }

    #[test]
    fn it_matters_not_how_the_input_is_cut(
        rows in rows(),
        with in any_options(),
        cuts in proptest::collection::vec(0_usize..40, 0..12),
        broken in proptest::option::of((0_usize..400, any::<u8>())),
    ) {
        let mut whole = copied_out(&rows, &options(&with)).concat();
        if let Some((at, byte)) = broken
            && let Some(place) = whole.get_mut(at)
        {
            *place = byte;
        }
        let mut rest = whole.as_slice();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(read(COLUMNS, &with, &pieces), read(COLUMNS, &with, &[&whole]));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        with in any_options(),
    ) {
        let schema = "a int4, b text, c bytea, d bool, e numeric(9,2), f date, g timestamptz, h uuid, i jsonb, j float8";
        let _ = read(schema, &with, &[&bytes]);
        let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x0a";
        let _ = read(schema, "(format binary)", &[head, &bytes]);
        let text: String = bytes.iter().map(|byte| char::from(byte & 0x7f)).collect();
        let _ = read("a numeric(9,2)", "", &[text.as_bytes()]);
        let _ = read("a float8", "", &[text.as_bytes()]);
    }

    #[test]
    fn no_statement_makes_the_reader_panic(text in "copy [a-z(),.'\" \\\\;é]{0,60}") {
        let parser = datafusion_pg_catalog::sql::PostgresCompatibilityParser::new();
        let _ = statement::parse(&text, &parser);
    }
}
