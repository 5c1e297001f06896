//! IN lists that leave nothing together.
//!
//! DataFusion makes `x IN A AND x IN B` one list, and of an empty one false or true, where it is null for a null.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, Operator};

fn constants(expr: &Expr) -> Option<&InList> {
    match expr {
        Expr::InList(list) if list.list.iter().all(|one| matches!(one, Expr::Literal(..))) => {
            Some(list)
        }
        _ => None,
    }
}

/// What two lists that AND or OR connects are, if no value is left in the one that they make.
pub(super) fn emptied(left: &Expr, op: Operator, right: &Expr) -> Option<Expr> {
    let (left, right) = (constants(left)?, constants(right)?);
    if left.expr != right.expr {
        return None;
    }
    let is_left = |in_first: &InList, other: &InList| {
        in_first.list.iter().any(|one| other.list.contains(one) != other.negated)
    };
    let keeps = match (op, left.negated, right.negated) {
        (Operator::And, false, _) => is_left(left, right),
        (Operator::And, true, false) => is_left(right, left),
        (Operator::Or, true, true) => left.list.iter().any(|one| right.list.contains(one)),
        _ => true,
    };
    if keeps {
        return None;
    }
    let null = Expr::Literal(ScalarValue::Boolean(None), None);
    let of = left.expr.as_ref().clone();
    Some(if op == Operator::And { of.is_null().and(null) } else { of.is_not_null().or(null) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    #[test]
    fn lists_without_a_common_value_are_null_for_null() {
        let list = |values: &[i32], negated| {
            col("x").in_list(values.iter().map(|value| lit(*value)).collect(), negated)
        };
        let empty = |left: (&[i32], bool), op, right: (&[i32], bool)| {
            emptied(&list(left.0, left.1), op, &list(right.0, right.1)).is_some()
        };
        assert!(empty((&[1, 2], true), Operator::Or, (&[3], true)));
        assert!(!empty((&[1, 2], true), Operator::Or, (&[2], true)));
        assert!(empty((&[1], false), Operator::And, (&[2, 3], false)));
        assert!(empty((&[1, 2], false), Operator::And, (&[1, 2], true)));
        assert!(!empty((&[1, 2], true), Operator::And, (&[1, 3], false)));
        assert!(!empty((&[1], false), Operator::Or, (&[2], false)));
    }
}
