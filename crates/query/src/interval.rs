//! Intervals as PostgreSQL writes them: `1 year 2 mons -3 days +04:05:06.7`.
//!
//! Source: PostgreSQL 15, "Interval Output" (8.5.5), the style `postgres`. A difference of two times, which DataFusion
//! counts in parts of a second, has days of 24 hours.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, TimeUnit,
};
use arrow::error::ArrowError;

const DAY_MICROS: i64 = 86_400_000_000;

/// The text of a value; none for an array of another type.
pub(crate) fn text(array: &ArrayRef, row: usize) -> Result<Option<String>, ArrowError> {
    let text = match array.data_type() {
        DataType::Duration(_) => {
            let micros = cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
            let micros = micros.as_primitive::<DurationMicrosecondType>().value(row);
            let (days, rest) = (micros.checked_div(DAY_MICROS), micros.checked_rem(DAY_MICROS));
            written(0, days.unwrap_or_default(), rest.unwrap_or_default())
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let micros = value.nanoseconds.checked_div(1_000).unwrap_or_default();
            written(value.months.into(), value.days.into(), micros)
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            written(array.as_primitive::<IntervalYearMonthType>().value(row).into(), 0, 0)
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            written(0, value.days.into(), i64::from(value.milliseconds).saturating_mul(1_000))
        }
        _ => return Ok(None),
    };
    Ok(Some(text))
}

fn written(months: i64, days: i64, micros: i64) -> String {
    let mut text = String::new();
    let mut is_before = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if text.is_empty() { "" } else { " " };
        let sign = if is_before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        text.push_str(&format!("{space}{sign}{value} {unit}{plural}"));
        is_before = value < 0;
    }
    if micros == 0 && !text.is_empty() {
        return text;
    }
    let space = if text.is_empty() { "" } else { " " };
    let sign = match micros < 0 {
        true => "-",
        false if is_before => "+",
        false => "",
    };
    let all = micros.unsigned_abs();
    let (seconds, fraction) = (all / 1_000_000, all % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    text.push_str(&format!("{space}{sign}{hours:02}:{minutes:02}:{seconds:02}"));
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_postgresql_writes_them() {
        for ((months, days, micros), wanted) in [
            ((0, 0, 0), "00:00:00"),
            ((0, 1, 0), "1 day"),
            ((14, -3, 14_706_700_000), "1 year 2 mons -3 days +04:05:06.7"),
            ((-1, 2, -1), "-1 mons +2 days -00:00:00.000001"),
            ((0, 0, 5_400_000_000), "01:30:00"),
        ] {
            assert_eq!(written(months, days, micros), wanted);
        }
    }
}
