//! Gives expressions their types: literals and parameters take that of what stands beside them.

use std::cell::RefCell;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, DuplicateTreatment, Expr as Ast, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Subscript, TrimWhereField,
    UnaryOperator, Value as Literal, WindowType,
};
use quipu_types::code;

use super::bind::{Binder, Scope, common, folded, last_of, ordered, unsupported};
use super::eval::first_of;
use super::functions::{self, ANY, ANYARRAY, ANYELEMENT, Function};
use super::plan::{
    Aggregate, Compare, Expr, Math, Pattern, SetCall, Type, Typed, Window, WindowCall,
};
use super::types::{self, Oid};
use super::value::{self, Datum};
use crate::error::SqlError;

type Bound = Result<Typed, SqlError>;

/// What a select calls beside functions of one value.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) sets: RefCell<Vec<SetCall>>,
    pub(super) aggregates: RefCell<Vec<Aggregate>>,
    pub(super) windows: RefCell<Vec<Window>>,
}

/// Resolves expressions over a scope.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'a> {
    binder: &'a Binder<'a>,
    pub(super) scope: &'a Scope<'a>,
    /// None where only functions of one value may be called.
    calls: Option<&'a Calls>,
}

fn push<T>(list: &RefCell<Vec<T>>, item: T) -> usize {
    let mut list = list.borrow_mut();
    list.push(item);
    list.len() - 1
}

fn no_operator(left: Oid, op: &str, right: Oid) -> SqlError {
    let (left, right) = (types::format(left, -1), types::format(right, -1));
    let message = format!("operator does not exist: {left} {op} {right}");
    SqlError::new("42883", code::SQL_SYNTAX, message).hint("add explicit type casts")
}

fn boxed(a: Typed, b: Typed) -> (Box<Expr>, Box<Expr>) {
    (Box::new(a.expr), Box::new(b.expr))
}

fn condition(expr: Expr) -> Typed {
    Typed::new(expr, types::BOOL)
}

fn unknown(text: &str) -> Typed {
    Typed::new(Expr::Const(Datum::text(text)), types::UNKNOWN)
}

const fn comparison(op: &BinaryOperator) -> Option<Compare> {
    Some(match op {
        BinaryOperator::Eq => Compare::Equal,
        BinaryOperator::NotEq => Compare::NotEqual,
        BinaryOperator::Lt => Compare::Less,
        BinaryOperator::LtEq => Compare::LessOrEqual,
        BinaryOperator::Gt => Compare::Greater,
        BinaryOperator::GtEq => Compare::GreaterOrEqual,
        _ => return None,
    })
}

const fn arithmetic(op: &BinaryOperator) -> Option<Math> {
    Some(match op {
        BinaryOperator::Plus => Math::Add,
        BinaryOperator::Minus => Math::Subtract,
        BinaryOperator::Multiply => Math::Multiply,
        BinaryOperator::Divide => Math::Divide,
        BinaryOperator::Modulo => Math::Modulo,
        BinaryOperator::BitwiseAnd => Math::And,
        BinaryOperator::BitwiseOr => Math::Or,
        BinaryOperator::PGBitwiseShiftLeft => Math::ShiftLeft,
        BinaryOperator::PGBitwiseShiftRight => Math::ShiftRight,
        _ => return None,
    })
}

impl<'a> Resolver<'a> {
    pub(super) const fn new(
        binder: &'a Binder<'a>,
        scope: &'a Scope<'a>,
        calls: Option<&'a Calls>,
    ) -> Self {
        Self { binder, scope, calls }
    }

    /// A condition.
    pub(super) fn condition(&self, expr: &Ast) -> Result<Expr, SqlError> {
        let typed = self.typed(expr)?;
        self.coerce(typed, types::BOOL).map(|typed| typed.expr)
    }

    /// A value as another type.
    pub(super) fn coerce(&self, typed: Typed, to: Oid) -> Bound {
        let Typed { expr, kind } = typed;
        if kind.oid == to || matches!(to, ANY | types::UNKNOWN) {
            return Ok(Typed { expr, kind });
        }
        let expr = match expr {
            Expr::Parameter(index) if kind.is_unknown() => {
                self.binder.learn(index, to);
                Expr::Parameter(index)
            }
            Expr::Const(value) => {
                Expr::Const(value::cast(&value, kind.oid, to, self.binder.world)?)
            }
            expr => Expr::Cast(Box::new(expr), kind.oid, to),
        };
        Ok(Typed::new(expr, to))
    }

    /// Two values as one type.
    fn unify(&self, a: Typed, b: Typed, op: &str) -> Result<(Typed, Typed), SqlError> {
        let (left, right) = (a.kind.oid, b.kind.oid);
        let is_same = left == right
            || types::is_integer(left) && types::is_integer(right)
            || types::is_text(left) && types::is_text(right);
        if a.kind.is_unknown() && b.kind.is_unknown() {
            return Ok((self.coerce(a, types::TEXT)?, self.coerce(b, types::TEXT)?));
        }
        if a.kind.is_unknown() {
            return Ok((self.coerce(a, right)?, b));
        }
        if b.kind.is_unknown() {
            return Ok((a, self.coerce(b, left)?));
        }
        let (a_list, b_list) = (types::element_of(left), types::element_of(right));
        if is_same || a_list.is_some() && b_list.is_some() {
            return Ok((a, b));
        }
        let is_number = |oid| types::is_integer(oid) || types::is_float(oid);
        if is_number(left) && is_number(right) {
            return Ok((self.coerce(a, types::FLOAT8)?, self.coerce(b, types::FLOAT8)?));
        }
        if types::is_time(left) && types::is_time(right) {
            return Ok((a, b));
        }
        Err(no_operator(left, op, right))
    }

    fn all(&self, exprs: &[Ast]) -> Result<Vec<Typed>, SqlError> {
        exprs.iter().map(|expr| self.typed(expr)).collect()
    }

    /// Several values as one type.
    fn alike(&self, typed: Vec<Typed>) -> Result<(Vec<Expr>, Type), SqlError> {
        let mut kind = common(typed.iter().map(|typed| typed.kind));
        if kind.is_unknown() {
            kind = Type::new(types::TEXT);
        }
        let exprs = typed.into_iter().map(|typed| self.coerce(typed, kind.oid));
        let exprs = exprs.map(|typed| typed.map(|typed| typed.expr));
        Ok((exprs.collect::<Result<_, _>>()?, kind))
    }

    /// An expression with its type.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    pub(super) fn typed(&self, expr: &Ast) -> Bound {
        let not = |typed: Typed, is_not: bool| {
            if is_not { condition(Expr::Not(Box::new(typed.expr))) } else { typed }
        };
        let truth = |inner: &Ast, wanted: bool| -> Result<Typed, SqlError> {
            Ok(condition(Expr::Is(Box::new(self.condition(inner)?), wanted)))
        };
        Ok(match expr {
            Ast::Identifier(ident) => self.identifier(&folded(ident))?,
            Ast::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., table, name] => self.column(Some(&folded(table)), &folded(name))?,
                _ => return Err(unsupported("this name")),
            },
            Ast::Value(value) => self.literal(&value.value)?,
            Ast::Nested(inner) | Ast::Collate { expr: inner, .. } => self.typed(inner)?,
            Ast::Cast { expr, data_type, .. } => self.cast(self.typed(expr)?, data_type)?,
            Ast::TypedString(typed) => {
                let text = typed.value.clone().into_string().unwrap_or_default();
                self.cast(unknown(&text), &typed.data_type)?
            }
            Ast::UnaryOp { op, expr } => self.unary(op, expr)?,
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Ast::IsNull(inner) => condition(Expr::IsNull(Box::new(self.typed(inner)?.expr))),
            Ast::IsNotNull(inner) => {
                not(condition(Expr::IsNull(Box::new(self.typed(inner)?.expr))), true)
            }
            Ast::IsTrue(inner) => truth(inner, true)?,
            Ast::IsFalse(inner) => truth(inner, false)?,
            Ast::IsNotTrue(inner) => not(truth(inner, true)?, true),
            Ast::IsNotFalse(inner) => not(truth(inner, false)?, true),
            Ast::IsNotDistinctFrom(a, b) | Ast::IsDistinctFrom(a, b) => {
                let (a, b) = boxed_pair(self.unify(self.typed(a)?, self.typed(b)?, "=")?);
                let same = condition(Expr::NotDistinct(a, b));
                not(same, matches!(expr, Ast::IsDistinctFrom(..)))
            }
            Ast::InList { expr, list, negated } => not(self.in_list(expr, list)?, *negated),
            Ast::InSubquery { expr, subquery, negated } => {
                not(self.in_query(expr, Compare::Equal, subquery, false)?, *negated)
            }
            Ast::Between { expr, negated, low, high } => {
                let low = self.compare(expr, &BinaryOperator::GtEq, low)?;
                let high = self.compare(expr, &BinaryOperator::LtEq, high)?;
                let (low, high) = boxed(low, high);
                not(condition(Expr::And(low, high)), *negated)
            }
            Ast::Like { negated, expr: text, pattern, escape_char, .. }
            | Ast::ILike { negated, expr: text, pattern, escape_char, .. } => {
                let escape = escape_char.as_ref().map(|value| value.clone().into_string());
                let escape = match escape.flatten() {
                    Some(text) => text.chars().next(),
                    None => Some('\\'),
                };
                let ignores_case = matches!(expr, Ast::ILike { .. });
                not(self.matched(text, Pattern::Like { escape, ignores_case }, pattern)?, *negated)
            }
            Ast::AnyOp { left, compare_op, right, .. } => {
                self.any(left, compare_op, right, false)?
            }
            Ast::AllOp { left, compare_op, right } => self.any(left, compare_op, right, true)?,
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            Ast::Exists { subquery, negated } => {
                let query = self.subquery(subquery)?;
                not(condition(Expr::Exists(query)), *negated)
            }
            Ast::Subquery(query) => {
                let query = self.subquery(query)?;
                let kind = query.columns.first().map_or(Type::new(types::TEXT), |(_, kind)| *kind);
                Typed { expr: Expr::Scalar(query), kind }
            }
            Ast::Array(array) => {
                let (exprs, kind) = self.alike(self.all(&array.elem)?)?;
                Typed::new(Expr::Array(exprs), types::array_of(kind.oid))
            }
            Ast::Tuple(exprs) => {
                let exprs = self.all(exprs)?.into_iter().map(|typed| typed.expr);
                Typed::new(Expr::Record(exprs.collect()), types::RECORD)
            }
            Ast::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain)?,
            Ast::Function(function) => self.function(function)?,
            Ast::Trim { expr, trim_where, trim_what, .. } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let what = trim_what.iter().map(|what| self.typed(what));
                let arguments = std::iter::once(self.typed(expr)).chain(what);
                self.call(name, arguments.collect::<Result<_, _>>()?)?
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let from = substring_from.as_ref().map_or_else(
                    || Ok(Typed::new(Expr::Const(Datum::Int(1)), types::INT4)),
                    |from| self.typed(from),
                );
                let count = substring_for.iter().map(|count| self.typed(count));
                let arguments = [self.typed(expr), from].into_iter().chain(count);
                self.call("substring", arguments.collect::<Result<_, _>>()?)?
            }
            Ast::Position { expr, r#in } => {
                self.call("strpos", vec![self.typed(r#in)?, self.typed(expr)?])?
            }
            Ast::Ceil { expr, .. } => self.call("ceil", vec![self.typed(expr)?])?,
            Ast::Floor { expr, .. } => self.call("floor", vec![self.typed(expr)?])?,
            other => return Err(unsupported(&other.to_string())),
        })
    }

    fn identifier(&self, name: &str) -> Bound {
        match self.column(None, name) {
            Err(error) => {
                let is_session = matches!(
                    name,
                    "current_user"
                        | "session_user"
                        | "user"
                        | "current_role"
                        | "current_catalog"
                        | "current_schema"
                        | "current_timestamp"
                );
                if is_session { self.call(name, Vec::new()) } else { Err(error) }
            }
            found => found,
        }
    }

    fn column(&self, table: Option<&str>, name: &str) -> Bound {
        let mut scope = Some(self.scope);
        let mut depth = 0;
        while let Some(within) = scope {
            let found = within.columns.iter().position(|column| {
                column.name == name
                    && table.map_or(!column.is_merged, |table| column.table == table)
            });
            if let Some(index) = found {
                let kind = within.columns.get(index).map(|column| column.kind);
                let kind = kind.unwrap_or(Type::new(types::TEXT));
                return Ok(Typed { expr: Expr::Column { depth, index }, kind });
            }
            if let Some(typed) = self.system_column(within, table, name) {
                return Ok(typed);
            }
            (scope, depth) = (within.outer, depth + 1);
        }
        let shown = table.map_or_else(|| format!("\"{name}\""), |table| format!("{table}.{name}"));
        let message = format!("column {shown} does not exist");
        Err(SqlError::new("42703", code::SQL_SYNTAX, message))
    }

    /// Columns that every relation has, unseen.
    fn system_column(&self, scope: &Scope<'_>, table: Option<&str>, name: &str) -> Option<Typed> {
        let is_there =
            scope.columns.iter().any(|column| table.is_none_or(|table| column.table == table));
        let (value, oid) = match name {
            "xmin" | "xmax" | "cmin" | "cmax" => (1, types::XID),
            "tableoid" => (0, types::OID),
            _ => return None,
        };
        is_there.then(|| Typed::new(Expr::Const(Datum::Int(value)), oid))
    }

    fn literal(&self, value: &Literal) -> Bound {
        Ok(match value {
            Literal::Number(digits, _) => match digits.parse::<i64>() {
                Ok(number) => {
                    let is_small = i32::try_from(number).is_ok();
                    let oid = if is_small { types::INT4 } else { types::INT8 };
                    Typed::new(Expr::Const(Datum::Int(number)), oid)
                }
                Err(_) => {
                    let number = value::parse(digits, types::NUMERIC, self.binder.world)?;
                    Typed::new(Expr::Const(number), types::NUMERIC)
                }
            },
            Literal::Boolean(value) => condition(Expr::Const(Datum::Bool(*value))),
            Literal::Null => Typed::new(Expr::Const(Datum::Null), types::UNKNOWN),
            Literal::Placeholder(name) => {
                let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
                let index = number.and_then(|number| number.checked_sub(1));
                let index = index.filter(|index| *index < crate::parameters::PARAMETER_COUNT_MAX);
                let index = index.ok_or_else(|| unsupported("this parameter"))?;
                self.binder.learn(index, 0);
                let known = self.binder.parameters.borrow().get(index).copied().unwrap_or(0);
                let oid = if known == 0 { types::UNKNOWN } else { known };
                Typed::new(Expr::Parameter(index), oid)
            }
            other => match other.clone().into_string() {
                Some(text) => unknown(&text),
                None => return Err(unsupported("this literal")),
            },
        })
    }

    fn cast(&self, typed: Typed, data_type: &ast::DataType) -> Bound {
        let (oid, modifier) = types::read(data_type)?;
        let mut cast = self.coerce(typed, oid)?;
        cast.kind.modifier = modifier;
        Ok(cast)
    }

    fn unary(&self, op: &UnaryOperator, inner: &Ast) -> Bound {
        match op {
            UnaryOperator::Not => Ok(condition(Expr::Not(Box::new(self.condition(inner)?)))),
            UnaryOperator::Plus => self.typed(inner),
            UnaryOperator::Minus => {
                let Typed { expr, kind } = self.typed(inner)?;
                Ok(Typed { expr: Expr::Negative(Box::new(expr)), kind })
            }
            other => Err(unsupported(&format!("operator {other}"))),
        }
    }

    fn compare(&self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Bound {
        let compare = comparison(op).ok_or_else(|| unsupported(&format!("operator {op}")))?;
        let pair = self.unify(self.typed(left)?, self.typed(right)?, &op.to_string())?;
        let (left, right) = boxed_pair(pair);
        Ok(condition(Expr::Compare(compare, left, right)))
    }

    fn binary(&self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Bound {
        let regex = |ignores_case| Pattern::Regex { ignores_case };
        let like = |ignores_case| Pattern::Like { escape: Some('\\'), ignores_case };
        let not = |typed: Typed| condition(Expr::Not(Box::new(typed.expr)));
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let (a, b) = (Box::new(self.condition(left)?), Box::new(self.condition(right)?));
                let is_and = *op == BinaryOperator::And;
                Ok(condition(if is_and { Expr::And(a, b) } else { Expr::Or(a, b) }))
            }
            BinaryOperator::PGRegexMatch => self.matched(left, regex(false), right),
            BinaryOperator::PGRegexIMatch => self.matched(left, regex(true), right),
            BinaryOperator::PGRegexNotMatch => self.matched(left, regex(false), right).map(not),
            BinaryOperator::PGRegexNotIMatch => self.matched(left, regex(true), right).map(not),
            BinaryOperator::PGLikeMatch => self.matched(left, like(false), right),
            BinaryOperator::PGILikeMatch => self.matched(left, like(true), right),
            BinaryOperator::PGNotLikeMatch => self.matched(left, like(false), right).map(not),
            BinaryOperator::PGNotILikeMatch => self.matched(left, like(true), right).map(not),
            BinaryOperator::PGCustomBinaryOperator(parts) => {
                let plain = parts.last().and_then(|name| named_operator(name));
                let plain = plain.ok_or_else(|| unsupported(&format!("operator {op}")))?;
                self.binary(left, &plain, right)
            }
            BinaryOperator::StringConcat => self.concat(self.typed(left)?, self.typed(right)?),
            _ => match arithmetic(op) {
                Some(math) => self.math(math, left, op, right),
                None => self.compare(left, op, right),
            },
        }
    }

    fn concat(&self, left: Typed, right: Typed) -> Bound {
        let lists = (types::element_of(left.kind.oid), types::element_of(right.kind.oid));
        let kind = match lists {
            (Some(_), _) => left.kind,
            (_, Some(_)) => right.kind,
            _ => {
                let (a, b) = (self.coerce(left, types::TEXT)?, self.coerce(right, types::TEXT)?);
                let (a, b) = boxed(a, b);
                return Ok(Typed::new(Expr::Concat(a, b), types::TEXT));
            }
        };
        let element = types::element_of(kind.oid).unwrap_or(types::TEXT);
        let of = |typed: Typed| {
            if typed.kind.is_unknown() { self.coerce(typed, element) } else { Ok(typed) }
        };
        let (a, b) = boxed(of(left)?, of(right)?);
        Ok(Typed { expr: Expr::Concat(a, b), kind })
    }

    fn math(&self, math: Math, left: &Ast, op: &BinaryOperator, right: &Ast) -> Bound {
        let (left, right) = self.unify(self.typed(left)?, self.typed(right)?, &op.to_string())?;
        let kind = common([left.kind, right.kind]);
        if !types::is_integer(kind.oid) && !types::is_float(kind.oid) {
            return Err(no_operator(left.kind.oid, &op.to_string(), right.kind.oid));
        }
        let (left, right) = boxed(left, right);
        Ok(Typed::new(Expr::Math(math, left, right), kind.oid))
    }

    fn matched(&self, text: &Ast, pattern: Pattern, with: &Ast) -> Bound {
        let text = self.coerce(self.typed(text)?, types::TEXT)?;
        let with = self.coerce(self.typed(with)?, types::TEXT)?;
        let (text, with) = boxed(text, with);
        Ok(condition(Expr::Match { pattern, text, with }))
    }

    fn in_list(&self, value: &Ast, list: &[Ast]) -> Bound {
        let value = self.typed(value)?;
        let mut others = Vec::new();
        let mut kind = value.kind;
        for other in self.all(list)? {
            kind = common([kind, other.kind]);
            others.push(other);
        }
        if kind.is_unknown() {
            kind = Type::new(types::TEXT);
        }
        let mut checked = Vec::new();
        for other in others {
            let (_, other) =
                self.unify(Typed { expr: Expr::Const(Datum::Null), kind }, other, "=")?;
            checked.push(other.expr);
        }
        let value = if value.kind.is_unknown() { self.coerce(value, kind.oid)? } else { value };
        Ok(condition(Expr::In(Box::new(value.expr), checked)))
    }

    fn subquery(&self, query: &ast::Query) -> Result<Arc<super::plan::Query>, SqlError> {
        self.binder.query(query, Some(self.scope)).map(Arc::new)
    }

    fn in_query(&self, left: &Ast, op: Compare, query: &ast::Query, is_all: bool) -> Bound {
        let query = self.subquery(query)?;
        let kind = query.columns.first().map_or(types::TEXT, |(_, kind)| kind.oid);
        let left = self.typed(left)?;
        let left = if left.kind.is_unknown() { self.coerce(left, kind)? } else { left };
        let probe = Typed::new(Expr::Const(Datum::Null), kind);
        let (left, _) = self.unify(left, probe, "=")?;
        Ok(condition(Expr::InQuery { left: Box::new(left.expr), op, query, is_all }))
    }

    fn any(&self, left: &Ast, op: &BinaryOperator, right: &Ast, is_all: bool) -> Bound {
        let compare = comparison(op).ok_or_else(|| unsupported(&format!("operator {op} ANY")))?;
        let mut inner = right;
        while let Ast::Nested(nested) = inner {
            inner = nested;
        }
        if let Ast::Subquery(query) = inner {
            return self.in_query(left, compare, query, is_all);
        }
        let (left, list) = (self.typed(left)?, self.typed(right)?);
        let list = if list.kind.is_unknown() {
            let element = if left.kind.is_unknown() { types::TEXT } else { left.kind.oid };
            self.coerce(list, types::array_of(element))?
        } else {
            list
        };
        let Some(element) = types::element_of(list.kind.oid) else {
            let message = "op ANY/ALL (array) requires array on right side";
            return Err(SqlError::new("42809", code::SQL_SYNTAX, message));
        };
        let probe = Typed::new(Expr::Const(Datum::Null), element);
        let (left, _) = self.unify(left, probe, &op.to_string())?;
        let (left, list) = boxed(left, list);
        Ok(condition(Expr::Any { left, op: compare, list, is_all }))
    }

    fn case(
        &self,
        operand: Option<&Ast>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Ast>,
    ) -> Bound {
        let mut whens = Vec::new();
        let mut results = Vec::new();
        for arm in conditions {
            whens.push(match operand {
                Some(operand) => self.compare(operand, &BinaryOperator::Eq, &arm.condition)?.expr,
                None => self.condition(&arm.condition)?,
            });
            results.push(self.typed(&arm.result)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.typed(otherwise)?,
            None => Typed::new(Expr::Const(Datum::Null), types::UNKNOWN),
        });
        let (mut results, kind) = self.alike(results)?;
        let otherwise = results.pop().unwrap_or(Expr::Const(Datum::Null));
        let arms = whens.into_iter().zip(results).collect();
        Ok(Typed { expr: Expr::Case(arms, Box::new(otherwise)), kind })
    }

    /// `(record).field`, `list[3]`, `list[2:4]`.
    fn access(&self, root: &Ast, chain: &[AccessExpr]) -> Bound {
        let mut typed = match (root, chain.first()) {
            (Ast::Identifier(table), Some(AccessExpr::Dot(Ast::Identifier(name)))) => {
                let typed = self.column(Some(&folded(table)), &folded(name))?;
                return self.subscripts(typed, chain.get(1..).unwrap_or_default());
            }
            _ => self.typed(root)?,
        };
        typed = self.subscripts(typed, chain)?;
        Ok(typed)
    }

    fn subscripts(&self, mut typed: Typed, chain: &[AccessExpr]) -> Bound {
        for access in chain {
            typed = match access {
                AccessExpr::Dot(Ast::Identifier(name)) => field(typed, &folded(name))?,
                AccessExpr::Dot(_) => return Err(unsupported("this field")),
                AccessExpr::Subscript(subscript) => self.subscript(typed, subscript)?,
            };
        }
        Ok(typed)
    }

    fn subscript(&self, list: Typed, subscript: &Subscript) -> Bound {
        let first = first_of(list.kind.oid);
        let number = |expr: &Ast| -> Result<Box<Expr>, SqlError> {
            Ok(Box::new(self.coerce(self.typed(expr)?, types::INT4)?.expr))
        };
        let Some(element) = types::element_of(list.kind.oid) else {
            let shown = types::format(list.kind.oid, -1);
            let message =
                format!("cannot subscript type {shown} because it does not support subscripting");
            return Err(SqlError::new("42804", code::SQL_SYNTAX, message));
        };
        let kind = list.kind;
        let list = Box::new(list.expr);
        Ok(match subscript {
            Subscript::Index { index } => {
                Typed::new(Expr::Index { list, index: number(index)?, first }, element)
            }
            Subscript::Slice { lower_bound, upper_bound, .. } => {
                let low = lower_bound.as_ref().map(number).transpose()?;
                let high = upper_bound.as_ref().map(number).transpose()?;
                Typed { expr: Expr::Slice { list, low, high, first }, kind }
            }
        })
    }

    /// The arguments of a call.
    pub(super) fn arguments(&self, arguments: &[FunctionArg]) -> Result<Vec<Typed>, SqlError> {
        arguments
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.typed(expr),
                _ => Err(unsupported("this argument")),
            })
            .collect()
    }

    fn function(&self, function: &ast::Function) -> Bound {
        let (_, name) = last_of(&function.name);
        let list = match &function.args {
            FunctionArguments::None => return self.call(&name, Vec::new()),
            FunctionArguments::Subquery(query) if name == "array" => {
                let query = self.subquery(query)?;
                let kind = query.columns.first().map_or(types::TEXT, |(_, kind)| kind.oid);
                return Ok(Typed::new(Expr::ArrayOf(query), types::array_of(kind)));
            }
            FunctionArguments::Subquery(_) => return Err(unsupported("this call")),
            FunctionArguments::List(list) => list,
        };
        if let Some(over) = &function.over {
            return self.window(&name, function, list, over);
        }
        if functions::AGGREGATES.iter().any(|(known, _)| *known == name) {
            let Some(calls) = self.calls else {
                let message = "aggregate functions are not allowed here";
                return Err(SqlError::new("42803", code::SQL_SYNTAX, message));
            };
            let (aggregate, kind) = self.aggregate(&name, function, list)?;
            let index = push(&calls.aggregates, aggregate);
            return Ok(Typed::new(Expr::Aggregate(index), kind));
        }
        let arguments = self.arguments(&list.args)?;
        if let Some(calls) = self.calls
            && let Some(call) = self.set_call(&name, arguments.clone())?
        {
            let kind = match call.columns().as_slice() {
                [(_, kind)] => *kind,
                [(_, x), ..] => Type { of: x.oid, ..Type::new(types::RECORD) },
                [] => Type::new(types::RECORD),
            };
            let index = push(&calls.sets, call);
            return Ok(Typed { expr: Expr::Set(index), kind });
        }
        self.call(&name, arguments)
    }

    fn aggregate(
        &self,
        name: &str,
        function: &ast::Function,
        list: &ast::FunctionArgumentList,
    ) -> Result<(Aggregate, Oid), SqlError> {
        // Within an aggregate there is no other.
        let inner = Self { calls: None, ..*self };
        let is_star =
            matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let mut arguments = if is_star { Vec::new() } else { inner.arguments(&list.args)? };
        for argument in &mut arguments {
            if argument.kind.is_unknown() {
                *argument = self.coerce(argument.clone(), types::TEXT)?;
            }
        }
        let mut order = Vec::new();
        for clause in &list.clauses {
            let FunctionArgumentClause::OrderBy(exprs) = clause else {
                return Err(unsupported("this clause of an aggregate"));
            };
            for expr in exprs {
                order.push(ordered(expr, inner.typed(&expr.expr)?.expr));
            }
        }
        let filter = function.filter.as_ref().map(|expr| inner.condition(expr)).transpose()?;
        let first = arguments.first().map_or(types::TEXT, |typed| typed.kind.oid);
        let found = functions::AGGREGATES.iter().find(|(known, _)| *known == name);
        let (name, kind) = found.copied().unwrap_or(("count", types::INT8));
        let kind = match (kind, name) {
            (0, _) => first,
            (1, _) => types::array_of(first),
            (_, "sum") if types::is_float(first) => first,
            (kind, _) => kind,
        };
        let is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        Ok((Aggregate { name, arguments, is_distinct, order, filter }, kind))
    }

    fn window(
        &self,
        name: &str,
        function: &ast::Function,
        list: &ast::FunctionArgumentList,
        over: &WindowType,
    ) -> Bound {
        let (Some(calls), WindowType::WindowSpec(spec)) = (self.calls, over) else {
            return Err(unsupported("this window"));
        };
        let (call, kind) = match name {
            "row_number" => (WindowCall::RowNumber, types::INT8),
            "rank" => (WindowCall::Rank, types::INT8),
            "dense_rank" => (WindowCall::DenseRank, types::INT8),
            name if functions::AGGREGATES.iter().any(|(known, _)| *known == name)
                && spec.order_by.is_empty() =>
            {
                let (aggregate, kind) = self.aggregate(name, function, list)?;
                (WindowCall::Aggregate(aggregate), kind)
            }
            name => return Err(unsupported(&format!("window function {name}"))),
        };
        let partition = self.all(&spec.partition_by)?.into_iter().map(|typed| typed.expr).collect();
        let order = spec.order_by.iter();
        let order = order.map(|order| Ok(ordered(order, self.typed(&order.expr)?.expr)));
        let window = Window { call, partition, order: order.collect::<Result<_, SqlError>>()? };
        let index = push(&calls.windows, window);
        Ok(Typed::new(Expr::Window(index), kind))
    }

    /// A call of a function that gives rows, if there is one of that name.
    pub(super) fn set_call(
        &self,
        name: &str,
        arguments: Vec<Typed>,
    ) -> Result<Option<SetCall>, SqlError> {
        let found = functions::SETS
            .iter()
            .find(|function| function.name == name && function.arguments.len() == arguments.len());
        let Some(function) = found else { return Ok(None) };
        let arguments =
            arguments.into_iter().zip(function.arguments).map(|(typed, wanted)| {
                match (*wanted, typed.kind.is_unknown()) {
                    (ANYARRAY, true) => self.coerce(typed, types::TEXT_ARRAY),
                    (ANYARRAY, false) => Ok(typed),
                    (wanted, _) => self.coerce(typed, wanted),
                }
            });
        Ok(Some(SetCall { function, arguments: arguments.collect::<Result<_, _>>()? }))
    }

    /// A call of a function of one value.
    pub(super) fn call(&self, name: &str, arguments: Vec<Typed>) -> Bound {
        match (name, arguments.as_slice()) {
            ("coalesce", [_, ..]) => {
                let (exprs, kind) = self.alike(arguments)?;
                return Ok(Typed { expr: Expr::Coalesce(exprs), kind });
            }
            ("greatest" | "least", [_, ..]) => {
                let (exprs, kind) = self.alike(arguments)?;
                return Ok(Typed { expr: Expr::Extreme(name == "least", exprs), kind });
            }
            ("nullif", [a, b]) => {
                let (a, b) = self.unify(a.clone(), b.clone(), "=")?;
                let kind = a.kind;
                let (a, b) = boxed(a, b);
                return Ok(Typed { expr: Expr::NullIf(a, b), kind });
            }
            _ => {}
        }
        let kinds: Vec<Oid> = arguments.iter().map(|typed| typed.kind.oid).collect();
        let found = functions::FUNCTIONS.iter().find(|function| fits(function, name, &kinds));
        let Some(function) = found else {
            let shown: Vec<String> = kinds.iter().map(|kind| types::format(*kind, -1)).collect();
            let message = format!("function {name}({}) does not exist", shown.join(", "));
            return Err(SqlError::new("42883", code::SQL_SYNTAX, message));
        };
        let first = kinds.first().copied().unwrap_or(types::TEXT);
        let element = types::element_of(first).unwrap_or(first);
        let last = function.arguments.last().copied().unwrap_or(ANY);
        let wanted = function.arguments.iter().copied().chain(std::iter::repeat(last));
        let arguments = arguments.into_iter().zip(wanted).map(|(typed, wanted)| {
            let wanted = match wanted {
                ANY if typed.kind.is_unknown() => types::TEXT,
                ANYARRAY if typed.kind.is_unknown() => types::TEXT_ARRAY,
                ANY | ANYARRAY => typed.kind.oid,
                ANYELEMENT => element,
                wanted => wanted,
            };
            self.coerce(typed, wanted).map(|typed| typed.expr)
        });
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let result = if function.result == ANYARRAY { first } else { function.result };
        Ok(Typed::new(Expr::Call(function, arguments), result))
    }
}

fn boxed_pair((a, b): (Typed, Typed)) -> (Box<Expr>, Box<Expr>) {
    boxed(a, b)
}

fn named_operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// A field of a record `(x, n)`.
fn field(typed: Typed, name: &str) -> Bound {
    let (place, oid) = match (typed.kind.oid, name) {
        (types::RECORD, "x") => (0, typed.kind.of),
        (types::RECORD, "n") => (1, types::INT4),
        _ => {
            let message = format!("column \"{name}\" not found in data type record");
            return Err(SqlError::new("42703", code::SQL_SYNTAX, message));
        }
    };
    Ok(Typed::new(Expr::Field(Box::new(typed.expr), place), oid))
}

impl SetCall {
    /// Names and types of its columns.
    pub(super) fn columns(&self) -> Vec<(String, Type)> {
        let first = self.arguments.first().map_or(types::TEXT, |typed| typed.kind.oid);
        let element = types::element_of(first).unwrap_or(first);
        let columns = self.function.columns.iter();
        let kind = |oid: Oid| if oid == ANYELEMENT { element } else { oid };
        columns.map(|(name, oid)| ((*name).to_owned(), Type::new(kind(*oid)))).collect()
    }
}

/// Whether a function can be called with arguments of these types.
fn fits(function: &Function, name: &str, kinds: &[Oid]) -> bool {
    let count = kinds.len();
    let most = if function.is_open { usize::MAX } else { function.arguments.len() };
    function.name == name
        && (function.required..=most).contains(&count)
        && kinds.iter().zip(function.arguments).all(|(kind, wanted)| match *wanted {
            ANY | ANYELEMENT => true,
            ANYARRAY => *kind == types::UNKNOWN || types::element_of(*kind).is_some(),
            wanted => is_assignable(*kind, wanted),
        })
}

fn is_assignable(from: Oid, to: Oid) -> bool {
    let is_number = |oid| types::is_integer(oid) || types::is_float(oid);
    from == to
        || from == types::UNKNOWN
        || types::is_integer(from) && is_number(to)
        || types::is_float(from) && types::is_float(to)
        || types::is_text(from) && types::is_text(to)
        || to == types::TEXT
}
