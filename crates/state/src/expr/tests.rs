//! Expressions: PostgreSQL's results as examples, and small oracles for what can be counted otherwise.

#![expect(clippy::arithmetic_side_effects, reason = "a test may fail loudly")]

use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::value::text_of;

const STEPS: u64 = 1 << 25;

fn run_with(steps: u64, expr: &Expr, row: &[Typed]) -> Result<Typed> {
    let steps = Cell::new(steps);
    let seed = Seed { tx: Hash([7; 32]), row: 1, part: 0 };
    eval(
        expr,
        &Scope {
            row,
            excluded: &[],
            parameters: &[],
            time: Time::new(1_000_000),
            seed,
            steps: &steps,
        },
    )
}

fn run(expr: &Expr) -> Result<Typed> {
    run_with(STEPS, expr, &[])
}

fn decimal(value: i128, scale: u8) -> Expr {
    Expr::Const(ColumnType::Numeric { precision: 38, scale }, Value::Numeric(value))
}

/// `7` int4 · `7s` int2 · `7L` int8 · `7.0` numeric · `'x'` text · `null` · `true` · `now` · `'x'::type` any of these as a type.
fn operand(text: &str) -> Expr {
    if let Some((value, kind)) = text.rsplit_once("::") {
        return Expr::Cast(Box::new(operand(value)), kind.parse().expect("a type"));
    }
    let constant = |kind, value| Expr::Const(kind, value);
    match text {
        "null" => return constant(ColumnType::Int4, Value::Null),
        "unknown" => return constant(ColumnType::Bool, Value::Null),
        "true" => return constant(ColumnType::Bool, Value::Bool(true)),
        "false" => return constant(ColumnType::Bool, Value::Bool(false)),
        "now" => return Expr::Now,
        _ => {}
    }
    if let Some(text) = text.strip_prefix('\'') {
        let text = text.strip_suffix('\'').expect("a text ends").replace('~', " ");
        return constant(ColumnType::Text, Value::Text(text));
    }
    if let Some((_, fraction)) = text.split_once('.') {
        let value = text.replace('.', "").parse().expect("digits");
        return decimal(value, u8::try_from(fraction.len()).expect("few"));
    }
    match text.strip_suffix(['s', 'L']) {
        Some(value) if text.ends_with('s') => {
            constant(ColumnType::Int2, Value::Int2(value.parse().expect("an int2")))
        }
        Some(value) => constant(ColumnType::Int8, Value::Int8(value.parse().expect("an int8"))),
        None => constant(ColumnType::Int4, Value::Int4(text.parse().expect("an int4"))),
    }
}

const OPERATORS: [(&str, Binary); 16] = [
    ("+", Binary::Add),
    ("-", Binary::Subtract),
    ("*", Binary::Multiply),
    ("/", Binary::Divide),
    ("%", Binary::Modulo),
    ("||", Binary::Concat),
    ("=", Binary::Equal),
    ("<>", Binary::NotEqual),
    ("<", Binary::Less),
    ("<=", Binary::LessOrEqual),
    (">", Binary::Greater),
    (">=", Binary::GreaterOrEqual),
    ("and", Binary::And),
    ("or", Binary::Or),
    ("same", Binary::NotDistinct),
    ("like", Binary::Like),
];

const FUNCTIONS: [(&str, Function); 11] = [
    ("coalesce", Function::Coalesce),
    ("nullif", Function::NullIf),
    ("greatest", Function::Greatest),
    ("least", Function::Least),
    ("abs", Function::Abs),
    ("lower", Function::Lower),
    ("upper", Function::Upper),
    ("length", Function::Length),
    ("trim", Function::Trim),
    ("substring", Function::Substring),
    ("round", Function::Round),
];

fn named<T: Copy>(all: &[(&str, T)], wanted: &str) -> Option<T> {
    all.iter().find(|(name, _)| *name == wanted).map(|(_, member)| *member)
}

/// `operand`, `operand operator operand`, `operand in operand …`, or `function operand …`; words stand apart.
fn parse(text: &str) -> Expr {
    let words: Vec<&str> = text.split_whitespace().collect();
    let operands = |words: &[&str]| words.iter().map(|word| operand(word)).collect::<Vec<_>>();
    match words.as_slice() {
        [one] => operand(one),
        [left, "in", list @ ..] => Expr::In(Box::new(operand(left)), operands(list)),
        [name, rest @ ..] if let Some(function) = named(&FUNCTIONS, name) => {
            Expr::Call(function, operands(rest))
        }
        [left, op, right] => {
            let op = named(&OPERATORS, op).expect("an operator");
            Expr::Binary(op, Box::new(operand(left)), Box::new(operand(right)))
        }
        other => panic!("no expression: {other:?}"),
    }
}

/// Shows the value and the type of each line's expression, which stands before the arrow.
fn check(lines: &Expect) {
    let mut text = String::new();
    for line in lines.data().lines().filter_map(|line| line.split_once(" ->")) {
        let line = line.0.trim();
        let shown = match run(&parse(line)) {
            Ok(value) if value.is_null() => "null".to_owned(),
            Ok(value) => {
                let kind = value.kind.to_string();
                let kind = if kind.starts_with("numeric") { "numeric" } else { &kind };
                format!("{} {kind}", text_of(&value).expect("it has a text"))
            }
            Err(fault) => fault.code.explanation().title.to_owned(),
        };
        text += &format!("{line} -> {shown}\n");
    }
    lines.assert_eq(&text);
}

#[test]
fn integers_are_postgresqls() {
    check(&expect![[r#"
            5 / 2 -> 2 int4
            -7 / 2 -> -3 int4
            -7 % 3 -> -1 int4
            7 % -3 -> 1 int4
            1s + 1s -> 2 int2
            1s + 1 -> 2 int4
            1 + 1L -> 2 int8
            32767s + 1s -> value out of range
            2147483647 + 1 -> value out of range
            2147483647 + 1L -> 2147483648 int8
            9223372036854775807L + 1L -> value out of range
            -2147483648 - 1 -> value out of range
            -2147483648 / -1 -> value out of range
            -2147483648 % -1 -> 0 int4
            -9223372036854775808L / -1L -> value out of range
            65536 * 65536 -> value out of range
            1 / 0 -> division by zero
            0 / 0 -> division by zero
            1 % 0 -> division by zero
            null / 0 -> null
            abs -5 -> 5 int4
            abs -2147483648 -> value out of range
            abs 'x' -> types do not fit
        "#]]);
}

#[test]
fn decimals_have_postgresqls_digits() {
    check(&expect![[r#"
            1.0 / 3 -> 0.33333333333333333333 numeric
            1 / 3.0 -> 0.33333333333333333333 numeric
            10.0 / 3 -> 3.3333333333333333 numeric
            2 / 1.5 -> 1.3333333333333333 numeric
            100000.0 / 3 -> 33333.333333333333 numeric
            1 / 7.00 -> 0.14285714285714285714 numeric
            0.0001 / 3 -> 0.000033333333333333333333 numeric
            1.0 / 0.0001 -> 10000.0000000000000000 numeric
            22.0 / 7 -> 3.1428571428571429 numeric
            -1.0 / 3 -> -0.33333333333333333333 numeric
            2.0 / 3 -> 0.66666666666666666667 numeric
            0.0 / 3 -> 0.00000000000000000000 numeric
            1.0 / 0 -> division by zero
            1.0 / 0.0 -> division by zero
            7.5 % 2 -> 1.5 numeric
            -7.5 % 2 -> -1.5 numeric
            7.5 % 0 -> division by zero
            1.10 + 2.2 -> 3.30 numeric
            1.10 - 2.2 -> -1.10 numeric
            1.10 * 2.20 -> 2.4200 numeric
            1.5 + 9223372036854775807L -> 9223372036854775808.5 numeric
            9999999999999999999999999999999999999.9 + 0.1 -> value out of range
            0.1 = 0.10 -> true bool
            1 = 1.000 -> true bool
            -0.5 < -0.4 -> true bool
            1.0 / 0.00000000000000000000000000000000000002 -> value out of range
            0.0 / 0.00000000000000000000000000000000000002 -> 0.00000000000000000000000000000000000000 numeric
            12345678901234567890.12 / 3 -> 4115226300411522630.04 numeric
            round 2.5 -> 3 numeric
            round -2.5 -> -3 numeric
            round 2.4 -> 2 numeric
            round 2.345 2 -> 2.35 numeric
            round -2.345 2 -> -2.35 numeric
            round 2.3 3 -> 2.300 numeric
            round 1254.5 -2 -> 1300 numeric
            round -1250.0 -2 -> -1300 numeric
            round 49.9 -2 -> 0 numeric
            round 5 -50 -> 0 numeric
            round 5 1.5 -> types do not fit
            round 5 300 -> value out of range
            round null -> null
        "#]]);
}

#[test]
fn casts_round_and_are_bounded() {
    check(&expect![[r#"
            2.5::int4 -> 3 int4
            -2.5::int4 -> -3 int4
            0.5::int4 -> 1 int4
            1.49::int4 -> 1 int4
            2147483647.4::int4 -> 2147483647 int4
            2147483647.5::int4 -> value out of range
            32768::int2 -> value out of range
            12345.678::numeric(7,2) -> 12345.68 numeric
            12345.675::numeric(7,2) -> 12345.68 numeric
            99999.995::numeric(7,2) -> value out of range
            123456::numeric(5,2) -> value out of range
            '~42~'::int4 -> 42 int4
            '+42'::int8 -> 42 int8
            'x'::int4 -> text is no value of the type
            ''::int4 -> text is no value of the type
            '99999999999'::int4 -> value out of range
            '-12.50'::numeric(6,1) -> -12.5 numeric
            '.5'::numeric(6,1) -> 0.5 numeric
            '.'::numeric(6,1) -> text is no value of the type
            '1.2.3'::numeric(6,1) -> text is no value of the type
            'yes'::bool -> true bool
            'OFF'::bool -> false bool
            'maybe'::bool -> text is no value of the type
            true::int4 -> 1 int4
            true::text -> true text
            2::bool -> true bool
            0::bool -> false bool
            2::text -> 2 text
            -1.50::text -> -1.50 text
            '\x0aFF'::bytea -> \x0aff bytea
            '\x0'::bytea -> text is no value of the type
            '\x+f'::bytea -> text is no value of the type
            '\x'::bytea -> \x bytea
            '2026-02-28'::date -> 2026-02-28 date
            '2026-02-30'::date -> text is no value of the type
            '2026-02-28~23:59:59.5'::date -> 2026-02-28 date
            '2026-02-28abcdef'::date -> text is no value of the type
            '2026-02-28~23:59:59.5'::timestamp -> 2026-02-28 23:59:59.5 timestamp
            '2026-02-28~23:59:59+02'::timestamptz -> 2026-02-28 21:59:59+00 timestamptz
            '2026-02-28'::timestamptz -> 2026-02-28 00:00:00+00 timestamptz
            '{"b":1,~"a":2}'::jsonb -> {"a":2,"b":1} jsonb
            '{'::jsonb -> text is no value of the type
            '00112233-4455-6677-8899-AABBCCDDEEFF'::uuid -> 00112233-4455-6677-8899-aabbccddeeff uuid
            'x'::uuid -> text is no value of the type
            'x'::float8 -> types do not fit
            1::date -> types do not fit
            null::int8 -> null
        "#]]);
}

#[test]
fn texts_and_times_are_postgresqls() {
    check(&expect![[r#"
            length 'héllo' -> 5 int4
            upper 'héllo' -> HéLLO text
            lower 'ÀB' -> Àb text
            trim '~~x~y~~' -> x y text
            substring 'hello' 2 3 -> ell text
            substring 'hello' -1 3 -> h text
            substring 'hello' 0 1 ->  text
            substring 'hello' 2 -> ello text
            substring 'hello' 2 0 ->  text
            substring 'hello' 2 -1 -> value out of range
            substring 'hello' 2147483647 2147483647 ->  text
            substring 'hello' 1.5 -> types do not fit
            'a' || 'b' -> ab text
            'a' || null -> null
            1 || 'x' -> 1x text
            true || 'x' -> truex text
            1.50 || 'x' -> 1.50x text
            'abc' like 'a%' -> true bool
            'abc' like '_b_' -> true bool
            'abc' like '_' -> false bool
            '' like '%' -> true bool
            '' like '_' -> false bool
            'a%c' like 'a\%c' -> true bool
            'abc' like 'a\%c' -> false bool
            'a\' like 'a\' -> true bool
            'aab' like '%ab' -> true bool
            'mississippi' like '%iss%ippi' -> true bool
            'é' like '_' -> true bool
            null like '%' -> null
            1 like '1' -> types do not fit
            '2026-01-31'::date + 1 -> 2026-02-01 date
            1 + '2026-01-31'::date -> 2026-02-01 date
            '2026-03-01'::date - '2026-02-01'::date -> 28 int4
            '2026-03-01'::date - 1 -> 2026-02-28 date
            '2026-03-01'::date + 2147483647 -> value out of range
            '2026-03-01'::date * 2 -> types do not fit
            '2026-03-01'::date < '2026-03-01~00:00:01'::timestamp -> true bool
            now -> 1970-01-01 00:00:01+00 timestamptz
            now > '1970-01-01'::date -> true bool
            'a' < 'B' -> false bool
            'a' < 1 -> types do not fit
        "#]]);
}

#[test]
fn nulls_are_unknown() {
    check(&expect![[r#"
            unknown and false -> false bool
            unknown and true -> null
            unknown or true -> true bool
            unknown or false -> null
            false and unknown -> false bool
            true or unknown -> true bool
            1 and true -> types do not fit
            null = null -> null
            null same null -> true bool
            null same 1 -> false bool
            1 same 1.0 -> true bool
            1 in 1 null -> true bool
            2 in 1 null -> null
            2 in 1 3 -> false bool
            null in 1 -> null
            coalesce null 2 3 -> 2 int4
            coalesce null null -> null
            nullif 1 1 -> null
            nullif 1 2 -> 1 int4
            nullif 1 null -> 1 int4
            greatest 1 null 3 -> 3 int4
            least null null -> null
            least 2.5 1 -> 1 int4
            greatest 'a' 1 -> types do not fit
        "#]]);
}

#[test]
fn what_decides_stops_the_rest() {
    let zero = || Box::new(parse("1 / 0"));
    let truth = |value: bool| Box::new(Expr::Const(ColumnType::Bool, Value::Bool(value)));
    let and = Expr::Binary(Binary::And, truth(false), zero());
    assert_eq!(run(&and), Ok(Typed::boolean(Some(false))));
    let or = Expr::Binary(Binary::Or, truth(true), zero());
    assert_eq!(run(&or), Ok(Typed::boolean(Some(true))));
    let case = Expr::Case(vec![(*truth(true), operand("1"))], Some(zero()));
    assert_eq!(run(&case).map(|value| value.value), Ok(Value::Int4(1)));
    let coalesce = Expr::Call(Function::Coalesce, vec![operand("1"), *zero()]);
    assert_eq!(run(&coalesce).map(|value| value.value), Ok(Value::Int4(1)));
    let case = Expr::Case(vec![(operand("unknown"), operand("1"))], None);
    assert!(run(&case).expect("it runs").is_null());
}

#[test]
fn an_expression_that_would_take_for_ever_is_stopped() {
    let text = |text: String| Box::new(Expr::Const(ColumnType::Text, Value::Text(text)));
    let like = |text, pattern| Expr::Binary(Binary::Like, text, pattern);
    let slow = like(text("a".repeat(200_000)), text(format!("%{}b", "a".repeat(100_000))));
    assert_eq!(run(&slow), Err(Fault::of(code::METER)));
    let fast = like(text("a".repeat(200_000)), text(format!("%{}", "a".repeat(100))));
    assert_eq!(run(&fast), Ok(Typed::boolean(Some(true))));
    let mut expr = operand("1");
    for _ in 0..9 {
        expr = Expr::Binary(Binary::Add, Box::new(expr), Box::new(operand("1")));
    }
    assert_eq!(run_with(18, &expr, &[]), Err(Fault::of(code::METER)));
    assert!(run_with(19, &expr, &[]).is_ok(), "a step a node");
    let column = Typed::text("x".repeat(1_000));
    assert_eq!(
        run_with(15, &Expr::Column(0), std::slice::from_ref(&column)),
        Err(Fault::of(code::METER))
    );
    assert!(run_with(16, &Expr::Column(0), &[column]).is_ok(), "and one for 64 bytes");
}

#[test]
fn random_values_differ_by_transaction_row_column_and_number() {
    let at = |tx: u8, row, part, number| random(Seed { tx: Hash([tx; 32]), row, part }, number);
    let all = [at(1, 0, 0, 0), at(2, 0, 0, 0), at(1, 1, 0, 0), at(1, 0, 1, 0), at(1, 0, 0, 1)];
    for (place, value) in all.iter().enumerate() {
        assert!(!all[..place].contains(value), "{place}");
        let text = text_of(value).expect("a uuid");
        assert_eq!(&text[14..15], "4", "version 4 of RFC 9562: {text}");
    }
}

/// PostgreSQL's scale of a quotient, from its digits as texts.
fn scale_of_quotient(a: (i128, u8), b: (i128, u8)) -> u8 {
    let first = |(value, scale): (i128, u8)| -> (i32, i32) {
        let digits = crate::value::text_of(&Typed {
            kind: ColumnType::Numeric { precision: 38, scale },
            value: Value::Numeric(value.abs()),
        });
        let digits = digits.expect("a number");
        let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
        let groups = [whole.as_bytes(), fraction.as_bytes()].concat();
        let mut weight = i32::try_from(whole.len() / 4).expect("few") - 1;
        for group in groups.chunks(4) {
            let group: i32 = std::str::from_utf8(group).expect("digits").parse().expect("digits");
            if group != 0 {
                return (weight, group);
            }
            weight -= 1;
        }
        (0, 0)
    };
    let ((a_weight, a_first), (b_weight, b_first)) = (first(a), first(b));
    let weight = a_weight - b_weight - i32::from(a_first <= b_first);
    let scale = (16 - 4 * weight).max(i32::from(a.1)).max(i32::from(b.1)).max(0);
    u8::try_from(scale).expect("small")
}

fn three_valued() -> impl Strategy<Value = (Expr, u8)> {
    // 0 false, 1 unknown, 2 true: AND is the least, OR the greatest.
    let constant = |truth: u8| match truth {
        0 => operand("false"),
        1 => operand("unknown"),
        _ => operand("true"),
    };
    let leaf = (0..3_u8).prop_map(move |truth| (constant(truth), truth));
    leaf.prop_recursive(5, 32, 2, |inner| {
        let unary = |op, of: fn(u8) -> u8| {
            inner
                .clone()
                .prop_map(move |(expr, truth)| (Expr::Unary(op, Box::new(expr)), of(truth)))
        };
        let pair = (inner.clone(), inner.clone(), any::<bool>());
        prop_oneof![
            unary(Unary::Not, |truth| 2 - truth),
            unary(Unary::IsNull, |truth| if truth == 1 { 2 } else { 0 }),
            unary(Unary::IsTrue, |truth| if truth == 2 { 2 } else { 0 }),
            unary(Unary::IsFalse, |truth| if truth == 0 { 2 } else { 0 }),
            pair.prop_map(|((left, a), (right, b), is_and)| {
                let (op, truth) =
                    if is_and { (Binary::And, a.min(b)) } else { (Binary::Or, a.max(b)) };
                (Expr::Binary(op, Box::new(left), Box::new(right)), truth)
            }),
        ]
    })
}

fn likes(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skipped| likes(&text[skipped..], rest)),
        ['_', rest @ ..] => !text.is_empty() && likes(&text[1..], rest),
        ['\\', wanted, rest @ ..] | [wanted, rest @ ..] => {
            text.first() == Some(wanted) && likes(&text[1..], rest)
        }
    }
}

fn kind() -> impl Strategy<Value = ColumnType> {
    prop::sample::select(vec![
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Numeric { precision: 38, scale: 38 },
        ColumnType::Numeric { precision: 38, scale: 0 },
        ColumnType::Numeric { precision: 5, scale: 2 },
        ColumnType::Text,
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Timestamptz,
        ColumnType::Timestamp,
        ColumnType::Uuid,
        ColumnType::Jsonb,
        ColumnType::Float8,
    ])
}

/// A value of any type, the largest and the smallest among them.
fn value_of_kind(kind: ColumnType, bits: i128, text: String) -> Value {
    match kind {
        ColumnType::Bool => Value::Bool(bits % 2 == 0),
        ColumnType::Int2 => Value::Int2(i16::try_from(bits % 32_768).unwrap_or(i16::MIN)),
        ColumnType::Int4 => Value::Int4(i32::try_from(bits).unwrap_or(i32::MIN)),
        ColumnType::Int8 => Value::Int8(i64::try_from(bits).unwrap_or(i64::MIN)),
        ColumnType::Numeric { precision, .. } => {
            Value::Numeric(bits % 10_i128.pow(u32::from(precision)))
        }
        ColumnType::Text => Value::Text(text),
        ColumnType::Bytea => Value::Bytea(text.into_bytes()),
        ColumnType::Date => Value::Date(i32::try_from(bits).unwrap_or(i32::MAX)),
        ColumnType::Timestamptz => Value::Timestamptz(i64::try_from(bits).unwrap_or(i64::MAX)),
        ColumnType::Timestamp => Value::Timestamp(i64::try_from(bits).unwrap_or(i64::MIN)),
        ColumnType::Uuid => Value::Uuid(bits.to_le_bytes()),
        ColumnType::Jsonb => Value::Jsonb("{}".into()),
        ColumnType::Float8 => Value::Float8(u64::try_from(bits).unwrap_or(u64::MAX)),
    }
}

fn bits() -> impl Strategy<Value = i128> {
    prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from), -5..5_i128]
}

fn constant() -> impl Strategy<Value = Expr> {
    let text = prop::sample::select(vec!["", "1", "-1.5", "x%_\\", "é", "2026-01-01 10:00:00+02"]);
    (kind(), bits(), text, 0..8_u8).prop_map(|(kind, bits, text, is_null)| {
        let value = value_of_kind(kind, bits, text.into());
        Expr::Const(kind, if is_null == 0 { Value::Null } else { value })
    })
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        8 => constant(),
        1 => (0..3_u16).prop_map(Expr::Column),
        1 => Just(Expr::Now),
        1 => any::<u32>().prop_map(Expr::Random),
    ];
    leaf.prop_recursive(4, 40, 3, |inner| {
        let one = inner.clone().prop_map(Box::new);
        let list = vec(inner.clone(), 0..4);
        let unary = prop::sample::select(vec![Unary::Not, Unary::Negative, Unary::IsTrue]);
        let op = prop::sample::select(OPERATORS.map(|(_, op)| op).to_vec());
        let function = prop::sample::select(FUNCTIONS.map(|(_, function)| function).to_vec());
        prop_oneof![
            1 => (unary, one.clone()).prop_map(|(op, operand)| Expr::Unary(op, operand)),
            4 => (op, one.clone(), one.clone()).prop_map(|(op, a, b)| Expr::Binary(op, a, b)),
            1 => (one.clone(), list.clone()).prop_map(|(operand, list)| Expr::In(operand, list)),
            1 => (inner.clone(), inner.clone(), one.clone())
                .prop_map(|(a, b, c)| Expr::Case(vec![(a, b)], Some(c))),
            2 => (one, kind()).prop_map(|(operand, kind)| Expr::Cast(operand, kind)),
            2 => (function, list).prop_map(|(function, list)| Expr::Call(function, list)),
        ]
    })
}

proptest! {
    #[test]
    fn integers_count_as_wider_ones_do(
        a in prop_oneof![any::<i64>(), any::<i32>().prop_map(i64::from), -9..9_i64],
        b in prop_oneof![any::<i64>(), any::<i32>().prop_map(i64::from), -9..9_i64],
        widths in (0..3_u8, 0..3_u8),
        op in 0..5_usize,
    ) {
        let typed = |value: i64, width: u8| {
            let kind = value::integer([2, 4, 8][usize::from(width)]);
            // As many bits as there is room for.
            let shift = [48, 32, 0][usize::from(width)];
            let value = i128::from(value << shift >> shift);
            (Expr::Const(kind, value::of_integer(value, kind).expect("it fits")), value)
        };
        let ((left, a), (right, b)) = (typed(a, widths.0), typed(b, widths.1));
        let wide = match op {
            0 => Some(a + b),
            1 => Some(a - b),
            2 => Some(a * b),
            3 => a.checked_div(b),
            _ => a.checked_rem(b),
        };
        let bound = 1_i128 << [15, 31, 63][usize::from(widths.0.max(widths.1))];
        let wanted = match wide {
            None => Err(Fault::DIVISION_BY_ZERO),
            Some(wide) if (-bound..bound).contains(&wide) => Ok(wide),
            Some(_) => Err(Fault::OUT_OF_RANGE),
        };
        let expr = Expr::Binary(OPERATORS[op].1, Box::new(left), Box::new(right));
        prop_assert_eq!(run(&expr).map(|value| value.decimal().expect("a number").0), wanted);
    }

    #[test]
    fn decimals_are_exact_and_quotients_rounded_half_away_from_zero(
        a in -1_000_000..1_000_000_i128,
        b in -1_000_000..1_000_000_i128,
        scales in (0..7_u8, 0..7_u8),
    ) {
        let (i, j) = scales;
        let of = |op| {
            let expr = Expr::Binary(op, Box::new(decimal(a, i)), Box::new(decimal(b, j)));
            run(&expr).map(|value| value.decimal().expect("a number"))
        };
        // Everything as a count of 10^-12.
        let unit = |scale: u8| 10_i128.pow(12 - u32::from(scale));
        let (left, right) = (a * unit(i), b * unit(j));
        let scale = i.max(j);
        prop_assert_eq!(of(Binary::Add).map(|(sum, s)| (sum * unit(s), s)), Ok((left + right, scale)));
        prop_assert_eq!(of(Binary::Subtract).map(|(sum, s)| (sum * unit(s), s)), Ok((left - right, scale)));
        prop_assert_eq!(of(Binary::Multiply), Ok((a * b, i + j)));
        let order = Expr::Binary(Binary::Less, Box::new(decimal(a, i)), Box::new(decimal(b, j)));
        prop_assert_eq!(run(&order), Ok(Typed::boolean(Some(left < right))));
        if b == 0 {
            prop_assert_eq!(of(Binary::Divide), Err(Fault::DIVISION_BY_ZERO));
            return Ok(());
        }
        prop_assert_eq!(of(Binary::Modulo).map(|(rest, s)| (rest * unit(s), s)), Ok((left % right, scale)));
        let (quotient, s) = of(Binary::Divide).expect("it fits");
        prop_assert_eq!(s, scale_of_quotient((a, i), (b, j)));
        // |a / b - quotient / 10^s| is half a unit at most; where it is that, the quotient is the larger.
        let (grown, over) = if s + j >= i {
            (a * 10_i128.pow(u32::from(s + j - i)), b)
        } else {
            (a, b * 10_i128.pow(u32::from(i - s - j)))
        };
        let off = grown - quotient * over;
        prop_assert!(2 * off.abs() <= over.abs(), "{}", off);
        if 2 * off.abs() == over.abs() {
            prop_assert!((quotient * over).abs() > grown.abs());
        }
    }

    #[test]
    fn three_values_are_least_and_greatest((expr, truth) in three_valued()) {
        let wanted = [Some(false), None, Some(true)][usize::from(truth)];
        prop_assert_eq!(run(&expr), Ok(Typed::boolean(wanted)));
    }

    #[test]
    fn like_is_what_trying_everything_finds(
        text in vec(prop::sample::select(vec!['a', 'b', '%', '\\']), 0..9),
        pattern in vec(prop::sample::select(vec!['a', 'b', '%', '%', '_', '\\']), 0..8),
    ) {
        let constant = |text: &[char]| {
            Box::new(Expr::Const(ColumnType::Text, Value::Text(text.iter().collect())))
        };
        let expr = Expr::Binary(Binary::Like, constant(&text), constant(&pattern));
        prop_assert_eq!(run(&expr), Ok(Typed::boolean(Some(likes(&text, &pattern)))));
    }

    #[test]
    fn what_a_value_is_written_as_reads_back(kind in kind(), bits in bits(), text in "[a-z ]{0,9}") {
        let bits = match kind {
            // Years that a text of four digits can say.
            ColumnType::Date => bits % 700_000,
            ColumnType::Timestamp | ColumnType::Timestamptz => bits % 60_000_000_000_000_000,
            _ => bits,
        };
        let value = Typed { kind, value: value_of_kind(kind, bits, text) };
        if kind != ColumnType::Float8 {
            let text = Typed::text(text_of(&value).expect("it has a text"));
            prop_assert_eq!(value::cast(text, kind, value::Cast::Written), Ok(value));
        }
    }

    #[test]
    fn no_expression_panics_and_each_is_the_same_twice(expr in any_expr(), columns in vec(constant(), 0..3)) {
        let row: Vec<Typed> = columns.iter().map(|column| run(column).expect("a constant")).collect();
        let value = run_with(STEPS, &expr, &row);
        prop_assert_eq!(&value, &run_with(STEPS, &expr, &row));
        if let Ok(value) = value {
            let _text = text_of(&value);
        }
    }
}
