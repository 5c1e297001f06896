//! What people see: emphasis only on a terminal, aligned tables, bars that draw nothing elsewhere.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Widest cell of a table; longer text is cut with an ellipsis.
const CELL_WIDTH_MAX: usize = 80;

/// Whether standard output takes colours.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal()
}

/// `text` in bold, on a terminal.
pub(crate) fn bold(text: &str) -> String {
    if colours() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// `text` in grey, on a terminal.
pub(crate) fn dim(text: &str) -> String {
    if colours() { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
}

/// A bar over `count` things; silent when standard error is no terminal.
pub(crate) fn bar(what: &'static str, count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count).with_message(what);
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} {rate} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // A bar that can not be drawn is no reason to fail.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A line that says what is going on; silent when standard error is no terminal.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len().saturating_mul(2));
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(index);
        if index > 0 && left.is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Rows under a head, columns aligned: numbers right, all else left.
pub(crate) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let column_count = head.len();
    let cut = |text: &str| -> String {
        let text = text.replace('\n', "⏎");
        if text.chars().count() <= CELL_WIDTH_MAX {
            return text;
        }
        let kept: String = text.chars().take(CELL_WIDTH_MAX.saturating_sub(1)).collect();
        format!("{kept}…")
    };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect()).collect();
    let column = |index: usize| cells.iter().filter_map(move |row| row.get(index));
    let widths: Vec<usize> = (0..column_count)
        .map(|index| {
            column(index)
                .chain(head.get(index))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let right: Vec<bool> = (0..column_count)
        .map(|index| column(index).all(|cell| cell.is_empty() || is_number(cell)))
        .collect();
    let line = |row: &[String]| -> String {
        let mut out = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            if !out.is_empty() {
                out.push_str("  ");
            }
            let width = *width;
            out.push_str(&if *right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            });
        }
        out.trim_end().to_owned()
    };
    let mut out = bold(&line(head));
    out.push('\n');
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    out.push_str(&dim(&rule.join("  ")));
    for row in &cells {
        out.push('\n');
        out.push_str(&line(row));
    }
    out
}

fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b',' | b'e' | b'+'))
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_table_aligns_numbers_right_and_text_left() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(
            &row(["carrier", "count", "avg"]),
            &[row(["UA", "58665", "3.56"]), row(["HA", "342", "-6.92"]), row(["OO", "32", ""])],
        );
        expect![[r#"
            carrier  count    avg
            ───────  ─────  ─────
            UA       58665   3.56
            HA         342  -6.92
            OO          32"#]]
        .assert_eq(&text);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 336_776].map(grouped), ["0", "999", "1,000", "336,776"]);
    }
}
