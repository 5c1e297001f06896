//! What is copied out is copied in again; bytes are read the same however they are cut; nothing makes it panic.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use datafusion::physical_plan::memory::MemoryStream;
use expect_test::expect;
use proptest::prelude::*;
use quipu_types::{Schema, Value};

use super::{Copy, CopyIn, CopyOut, Options, Sink};
use crate::engine::Rows;
use crate::error::SqlError;
use crate::statement;
use crate::transaction::Act;
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
    let sink = Sink::of_stream("t", schema);
    let mut copy = CopyIn::new(sink, &[], &options(with), None)?;
    for piece in pieces {
        copy.push(piece);
        assert!(copy.advance(false)?.is_none());
    }
    assert!(copy.advance(true)?.is_none());
    match copy.take() {
        Act::Append(append) => Ok(append.rows),
        other => panic!("{other:?}"),
    }
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
#[expect(clippy::too_many_lines, reason = "what is read of many statements is long")]
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
        "copy t to stdout (header match)",
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
    expect![[r#"
        copy t from stdin
          in Table { name: ["t"], columns: [] } Options { format: Text, delimiter: 9, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        COPY s."T" (a, "B") FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'x', QUOTE '''', ESCAPE '\')
          in Table { name: ["s", "T"], columns: ["a", "B"] } Options { format: Csv, delimiter: 59, null: "x", header: Yes, quote: 39, escape: 92, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy t to stdout csv header delimiter as '|' null as ''
          out Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 124, null: "", header: Yes, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy binary t to stdout
          out Table { name: ["t"], columns: [] } Options { format: Binary, delimiter: 9, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy pgbench_accounts from stdin with (freeze on)
          in Table { name: ["pgbench_accounts"], columns: [] } Options { format: Text, delimiter: 9, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy t from stdin with (format csv, header match);
          in Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 44, null: "", header: Match, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy t from stdin with csv header
          in Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 44, null: "", header: Yes, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy t to stdout using delimiters ':'
          out Table { name: ["t"], columns: [] } Options { format: Text, delimiter: 58, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy (select a, (1) from t where b = ')') to stdout (format binary)
          out Query("select a, (1) from t where b = ')'") Options { format: Binary, delimiter: 9, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy t from stdin (delimiter E'\x01')
          in Table { name: ["t"], columns: [] } Options { format: Text, delimiter: 1, null: "\\N", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: [], force_null: [] }
        copy (select 1) from stdin
          42601 syntax error at or near "stdin"
        copy t from '/etc/passwd'
          42501 must be superuser or have privileges of the pg_read_server_files role to COPY from a file: this server does neither for anybody
        copy t to program 'sh'
          42501 must be superuser or have privileges of the pg_execute_server_program role to COPY to an external program: this server does neither for anybody
        copy t from stdin where a = 1
          0A000 COPY … WHERE is not supported
        copy t from stdin (format xml)
          22023 COPY format "xml" not recognized
        copy t from stdin (delimiter 'ab')
          0A000 COPY delimiter must be a single one-byte character
        copy t from stdin (delimiter 'a')
          22023 COPY delimiter cannot be "a"
        copy t from stdin (format csv, format csv)
          42601 conflicting or redundant options
        copy t from stdin (nope)
          42601 option "nope" not recognized
        copy t to stdout (header match)
          0A000 cannot use "match" with HEADER in COPY TO
        copy t from stdin (format csv, force_null (a), force_not_null (b, "C"))
          in Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 44, null: "", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: ["b", "C"], force_null: ["a"] }
        copy t to stdout csv force quote *
          out Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 44, null: "", header: No, quote: 34, escape: 34, force_quote: All, force_not_null: [], force_null: [] }
        copy t from stdin csv force not null a, b force null c
          in Table { name: ["t"], columns: [] } Options { format: Csv, delimiter: 44, null: "", header: No, quote: 34, escape: 34, force_quote: Named([]), force_not_null: ["a", "b"], force_null: ["c"] }
        copy t from stdin (force_null (a))
          0A000 COPY force null available only in CSV mode
        copy t from stdin (format csv, force_quote *)
          0A000 COPY force quote only available using COPY TO
        copy t to stdout (format csv, force_null (a))
          0A000 COPY force null only available using COPY FROM
        copy t from stdin (encoding 'latin1')
          0A000 COPY in encoding "latin1" is not supported
        copy t from stdin (format binary, null 'x')
          42601 cannot specify NULL in BINARY mode
        copy t from
          42601 syntax error at end of input
        copy t from stdin extra
          42601 syntax error at or near "extra"
    "#]].assert_eq(&said);
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
    expect![[r#"
        [Int4(1), Text("x")]
        [Int4(2), Null]
        22P04 literal newline found in data | COPY t, line 2
        22P04 missing data for column "b" | COPY t, line 1: "1"
        22P04 extra data after last expected column | COPY t, line 1: "1	x	y"
        23502 null value in column "a" of relation "t" violates not-null constraint | COPY t, line 2: "\N	y"
        22P02 invalid input syntax for type integer: "one" | COPY t, line 2, column a: "one"
        22003 value "99999999999" is out of range for type integer | COPY t, line 1, column a: "99999999999"
        22P04 literal newline found in data | COPY t, line 2
        22021 invalid byte sequence for encoding "UTF8": 0xff | COPY t, line 1, column b: "�"
        [Int4(1), Text("a\tb\\cAAq\nd")]
        [Int4(1), Text("x,\"y\"\nz")]
        [Int4(2), Null]
        [Int4(3), Text("")]
        22P04 unterminated CSV quoted field | COPY t, line 3: "1,"x
        "
        22P04 column name mismatch in header line field 2: got "c", expected "b" | COPY t, line 1: "a,c"
        22P04 wrong number of fields in header line: got 1, expected 2 | COPY t, line 1: "a"
        [Int4(1), Null]
        [Int4(2), Null]
        [Int4(3), Text("x")]
        [Int4(1), Text("")]
        [Int4(2), Text("")]
        [Int4(3), Text("x")]
        42P10 FORCE_NULL column "z" not referenced by COPY | 
        22P04 COPY file signature not recognized | 
        22P04 row field count is 1, expected 2 | COPY t, line 1
        [Int4(7), Text("z")]
        22P03 incorrect binary data format for type int4 | COPY t, line 1, column a
        22P04 unexpected EOF in COPY data | 
    "#]].assert_eq(&said.concat());
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
        of("bytea", &["\\\\xzz", "\\\\x0aFF", "\\\\x0", "a\\\\\\\\b\\\\001", "\\\\9"]),
        of("date", &["2013-01-31", "2013-02-30", "today"]),
        of("timestamptz", &["2013-01-31 06:00:00.5+02", "infinity"]),
        of("uuid", &["{00112233-44556677-8899aabb-ccddeeff}", "0011"]),
        of("jsonb", &["{\"b\": 1, \"a\": [2]}", "{"]),
        of("float8", &["1.5", "-Infinity", "NaN", "1e400", "1e-400", "one"]),
    ];
    expect![[r#"
        t: [Bool(true)]
        YES: [Bool(true)]
        of: [Bool(false)]
        o: 22P02 invalid input syntax for type boolean: "o" | COPY t, line 1, column a: "o"
        1: [Bool(true)]
         7 : [Int2(7)]
        +7: [Int2(7)]
        40000: 22003 value "40000" is out of range for type smallint | COPY t, line 1, column a: "40000"
        7.0: 22P02 invalid input syntax for type smallint: "7.0" | COPY t, line 1, column a: "7.0"
        1.25: [Numeric(13)]
        -1.25: [Numeric(-13)]
        1e2: [Numeric(1000)]
        999.95: 22003 numeric field overflow | COPY t, line 1, column a: "999.95"
        .5: [Numeric(5)]
        1e-9: [Numeric(0)]
        x: 22P02 invalid input syntax for type numeric: "x" | COPY t, line 1, column a: "x"
        NaN: 22P02 invalid input syntax for type numeric: "NaN" | COPY t, line 1, column a: "NaN"
        \\xzz: 22023 invalid hexadecimal digit: "z" | COPY t, line 1, column a: "\xzz"
        \\x0aFF: [Bytea([10, 255])]
        \\x0: 22023 invalid hexadecimal data: odd number of digits | COPY t, line 1, column a: "\x0"
        a\\\\b\\001: [Bytea([97, 92, 98, 1])]
        \\9: 22P02 invalid input syntax for type bytea | COPY t, line 1, column a: "\9"
        2013-01-31: [Date(15736)]
        2013-02-30: 22008 date/time field value out of range: "2013-02-30" | COPY t, line 1, column a: "2013-02-30"
        today: 22007 invalid input syntax for type date: "today" | COPY t, line 1, column a: "today"
        2013-01-31 06:00:00.5+02: [Timestamptz(1359604800500000)]
        infinity: 22007 invalid input syntax for type timestamp with time zone: "infinity" | COPY t, line 1, column a: "infinity"
        {00112233-44556677-8899aabb-ccddeeff}: [Uuid([0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255])]
        0011: 22P02 invalid input syntax for type uuid: "0011" | COPY t, line 1, column a: "0011"
        {"b": 1, "a": [2]}: [Jsonb("{\"a\":[2],\"b\":1}")]
        {: 22P02 invalid input syntax for type json: "{" | COPY t, line 1, column a: "{"
        1.5: [Float8(4609434218613702656)]
        -Infinity: [Float8(18442240474082181120)]
        NaN: [Float8(9221120237041090560)]
        1e400: 22003 "1e400" is out of range for type double precision | COPY t, line 1, column a: "1e400"
        1e-400: 22003 "1e-400" is out of range for type double precision | COPY t, line 1, column a: "1e-400"
        one: 22P02 invalid input syntax for type double precision: "one" | COPY t, line 1, column a: "one"
    "#]].assert_eq(&said.concat());
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
