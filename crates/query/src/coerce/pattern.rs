//! Patterns of LIKE, SIMILAR TO and regular expressions, as DataFusion's engines take them.

use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::wrong;

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

fn text(text: String) -> Expr {
    Expr::Literal(ScalarValue::Utf8(Some(text)), None)
}

/// LIKE whose pattern escapes with a backslash, whatever it was written with.
pub(super) fn like(mut like: Like) -> Result<Expr> {
    let escape = like.escape_char.unwrap_or('\\');
    let Some(pattern) = literal(&like.pattern) else { return Ok(Expr::Like(like)) };
    let mut written = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let character = if character == escape {
            let message = "LIKE pattern must not end with escape character";
            written.push('\\');
            characters.next().ok_or_else(|| wrong("22025", message.into()))?
        } else {
            if character == '\\' {
                written.push('\\');
            }
            character
        };
        written.push(character);
    }
    like.pattern = Box::new(text(written));
    like.escape_char = None;
    Ok(Expr::Like(like))
}

/// SIMILAR TO as the regular expression that it is, over the whole text.
pub(super) fn similar(like: Like) -> Expr {
    let Some(pattern) = literal(&like.pattern) else { return Expr::SimilarTo(like) };
    let escape = like.escape_char.unwrap_or('\\');
    let mut written = String::from("^(?:");
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => written.push_str(".*"),
            '_' => written.push('.'),
            '.' | '^' | '$' => written.extend(['\\', character]),
            escaped if escaped == escape => {
                written.extend(['\\'].into_iter().chain(characters.next()))
            }
            other => written.push(other),
        }
    }
    written.push_str(")$");
    let op = if like.negated { Operator::RegexNotMatch } else { Operator::RegexMatch };
    regex(BinaryExpr::new(like.expr, op, Box::new(text(written))))
}

/// A regular expression whose point means a line's end, too.
pub(super) fn regex(binary: BinaryExpr) -> Expr {
    let BinaryExpr { left, op, right } = binary;
    let right = match literal(&right) {
        Some(pattern) => Box::new(text(format!("(?s){pattern}"))),
        None => right,
    };
    Expr::BinaryExpr(BinaryExpr::new(left, op, right))
}
