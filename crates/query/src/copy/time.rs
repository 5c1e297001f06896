//! Dates and times of ISO 8601, as `wire` writes them, eras and all.
//!
//! ```text
//!  2013-01-31 | 20130131 [BC]        2013-01-31[ T]06:00[:00[.123456]][ ][Z | UTC | ±00[:00[:00]] | ±0000][ BC]
//! ```
//! Without a zone a time is in UTC, as every session is. Other forms that PostgreSQL reads are refused.

const DAY_MICROS: i64 = 86_400_000_000;

/// Why a text is no date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It has another form.
    Form,
    /// It has a field that no calendar or clock has, or does not fit.
    Range,
}

/// Days since 1970-01-01.
pub(crate) fn date(text: &str) -> Result<i32, Wrong> {
    let (text, is_before) = era(text.trim());
    let (days, rest) = calendar(text, is_before)?;
    if !rest.is_empty() {
        // A time of the day is read and left out, as PostgreSQL does.
        let rest = rest.strip_prefix([' ', 'T', 't']).ok_or(Wrong::Form)?;
        clock(rest)?;
    }
    i32::try_from(days).map_err(|_| Wrong::Range)
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub(crate) fn timestamptz(text: &str) -> Result<i64, Wrong> {
    let (local, zone) = zoned(text)?;
    local.checked_sub(zone).ok_or(Wrong::Range)
}

/// Microseconds since 1970-01-01T00:00:00 of the same clock; a zone is read and left out, as PostgreSQL does.
pub(crate) fn timestamp(text: &str) -> Result<i64, Wrong> {
    zoned(text).map(|(local, _)| local)
}

/// Microseconds since 1970-01-01T00:00:00 of the zone's clock, and how many it is ahead of UTC.
fn zoned(text: &str) -> Result<(i64, i64), Wrong> {
    let (text, is_before) = era(text.trim());
    let (days, rest) = calendar(text, is_before)?;
    let (micros, ahead) = match rest {
        "" => (0, 0),
        rest => {
            let rest = rest.strip_prefix([' ', 'T', 't']).ok_or(Wrong::Form)?;
            let (time, rest) = clock(rest)?;
            (time, zone(rest.trim_start())?)
        }
    };
    let whole = days.checked_mul(DAY_MICROS).and_then(|whole| whole.checked_add(micros));
    Ok((whole.ok_or(Wrong::Range)?, ahead))
}

fn era(text: &str) -> (&str, bool) {
    let ends = text.len().checked_sub(3).and_then(|at| text.split_at_checked(at));
    match ends {
        Some((before, end)) if end.eq_ignore_ascii_case(" bc") => (before.trim_end(), true),
        _ => (text, false),
    }
}

/// Takes digits, `least` to `most` of them.
fn digits(text: &str, least: usize, most: usize) -> Result<(i64, &str), Wrong> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    if count < least || count > most {
        return Err(Wrong::Form);
    }
    let (digits, rest) = text.split_at_checked(count).ok_or(Wrong::Form)?;
    Ok((digits.parse().map_err(|_| Wrong::Form)?, rest))
}

/// The day that the text begins with.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
#[expect(clippy::arithmetic_side_effects, reason = "calendar arithmetic on at most 8 digits")]
fn calendar(text: &str, is_before: bool) -> Result<(i64, &str), Wrong> {
    let (year, rest) = match digits(text, 8, 8) {
        Ok((all, rest)) => (all / 10_000, rest),
        Err(_) => digits(text, 4, 7)?,
    };
    let (month, day, rest) = match digits(text, 8, 8) {
        Ok((all, rest)) => (all / 100 % 100, all % 100, rest),
        Err(_) => {
            let (month, rest) = digits(rest.strip_prefix('-').ok_or(Wrong::Form)?, 1, 2)?;
            let (day, rest) = digits(rest.strip_prefix('-').ok_or(Wrong::Form)?, 1, 2)?;
            (month, day, rest)
        }
    };
    // There is no year 0: before 1 comes 1 BC.
    let year = match (year, is_before) {
        (0, _) => return Err(Wrong::Range),
        (year, true) => 1 - year,
        (year, false) => year,
    };
    let is_leap =
        year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=last).contains(&day) {
        return Err(Wrong::Range);
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok((era * 146_097 + day_of_era - 719_468, rest))
}

/// Microseconds of the day.
#[expect(clippy::arithmetic_side_effects, reason = "clock arithmetic on two digits each")]
fn clock(text: &str) -> Result<(i64, &str), Wrong> {
    let (hours, rest) = digits(text, 1, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':').ok_or(Wrong::Form)?, 2, 2)?;
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None => (0, rest),
    };
    let (micros, rest) = match rest.strip_prefix('.') {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    let whole = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    let fits = minutes <= 59 && seconds <= 60 && whole <= DAY_MICROS;
    if fits { Ok((whole, rest)) } else { Err(Wrong::Range) }
}

/// Microseconds of a fraction, rounded.
#[expect(clippy::arithmetic_side_effects, reason = "six digits and one")]
fn fraction(text: &str) -> Result<(i64, &str), Wrong> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(count).ok_or(Wrong::Form)?;
    let digit =
        |index: usize| digits.as_bytes().get(index).map_or(0, |byte| i64::from(byte - b'0'));
    let micros = (0..6).fold(0, |sum, index| sum * 10 + digit(index));
    Ok((micros + i64::from(digit(6) >= 5), rest))
}

/// Microseconds that the zone is ahead of UTC.
#[expect(clippy::arithmetic_side_effects, reason = "clock arithmetic on two digits each")]
fn zone(text: &str) -> Result<i64, Wrong> {
    if text.is_empty() || ["z", "utc", "gmt"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(Wrong::Form),
    };
    let (mut hours, mut rest) = digits(rest, 1, 4)?;
    let mut parts = [0, 0];
    if hours > 99 {
        parts = [hours % 100, 0];
        hours /= 100;
    } else {
        for part in &mut parts {
            let Some(more) = rest.strip_prefix(':') else { break };
            (*part, rest) = digits(more, 2, 2)?;
        }
    }
    let [minutes, seconds] = parts;
    if !rest.is_empty() {
        return Err(Wrong::Form);
    }
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(Wrong::Range);
    }
    Ok(sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_and_times_are_read_as_postgresql_reads_them() {
        let texts = [
            "1970-01-01",
            "2000-02-29",
            "1900-02-29",
            "0001-01-01",
            "0001-12-31 BC",
            "4714-11-24 BC",
            "5874897-12-31",
            "2013-13-01",
            "2013-1-2",
            "01/02/2013",
            "",
        ];
        let dates: String = texts.iter().map(|text| format!("{text} {:?}\n", date(text))).collect();
        expect![[r#"
            1970-01-01 Ok(0)
            2000-02-29 Ok(11016)
            1900-02-29 Err(Range)
            0001-01-01 Ok(-719162)
            0001-12-31 BC Ok(-719163)
            4714-11-24 BC Ok(-2440588)
            5874897-12-31 Ok(2145042905)
            2013-13-01 Err(Range)
            2013-1-2 Ok(15707)
            01/02/2013 Err(Form)
             Err(Form)
        "#]]
        .assert_eq(&dates);
        let texts = [
            "1970-01-01 00:00:00+00",
            "1970-01-01T00:00:01.5Z",
            "1970-01-01 01:00+01:00",
            "1970-01-01 00:00:00 UTC",
            "1970-01-01 00:00:00-0530",
            "1970-01-02",
            "1970-01-01 24:00:00",
            "1970-01-01 25:00:00",
            "1970-01-01 00:00:00.0000005",
            "0001-12-31 00:00:00+00 BC",
            "1970-01-01 00:00:00 Mars",
        ];
        let times: String =
            texts.iter().map(|text| format!("{text} {:?}\n", timestamptz(text))).collect();
        expect![[r#"
            1970-01-01 00:00:00+00 Ok(0)
            1970-01-01T00:00:01.5Z Ok(1500000)
            1970-01-01 01:00+01:00 Ok(0)
            1970-01-01 00:00:00 UTC Ok(0)
            1970-01-01 00:00:00-0530 Ok(19800000000)
            1970-01-02 Ok(86400000000)
            1970-01-01 24:00:00 Ok(86400000000)
            1970-01-01 25:00:00 Err(Range)
            1970-01-01 00:00:00.0000005 Ok(1)
            0001-12-31 00:00:00+00 BC Ok(-62135683200000000)
            1970-01-01 00:00:00 Mars Err(Form)
        "#]]
        .assert_eq(&times);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+:. 0-9TZBC]{0,30}|\\PC{0,20}") {
            let _ = (date(&text), timestamptz(&text));
        }
    }
}
