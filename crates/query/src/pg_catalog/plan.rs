//! What a catalog query is once its names and types are known.

use std::sync::Arc;

use super::functions::{Function, SetFunction};
use super::types::{self, Oid};
use super::value::Datum;
use super::world::SystemRelation;

/// A type with what else is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) oid: Oid,
    pub(super) modifier: i64,
    /// Of a record `(x, n)`: the type of `x`.
    pub(super) of: Oid,
}

impl Type {
    pub(super) const fn new(oid: Oid) -> Self {
        Self { oid, modifier: -1, of: 0 }
    }

    pub(super) const fn is_unknown(self) -> bool {
        self.oid == types::UNKNOWN
    }
}

/// An expression with its type.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) expr: Expr,
    pub(super) kind: Type,
}

impl Typed {
    pub(super) const fn new(expr: Expr, oid: Oid) -> Self {
        Self { expr, kind: Type::new(oid) }
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How numbers are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    ShiftLeft,
    ShiftRight,
}

/// How a text is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Like { escape: Option<char>, ignores_case: bool },
    Regex { ignores_case: bool },
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Const(Datum),
    Parameter(usize),
    /// A column of the row at hand (depth 0), or of a query around it.
    Column {
        depth: usize,
        index: usize,
    },
    /// The value of a function that gives rows, of an aggregate, of a window function: by its number in the select.
    Set(usize),
    Aggregate(usize),
    Window(usize),
    Cast(Box<Self>, Oid, Oid),
    Call(&'static Function, Vec<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    IsNull(Box<Self>),
    Is(Box<Self>, bool),
    NotDistinct(Box<Self>, Box<Self>),
    Compare(Compare, Box<Self>, Box<Self>),
    Math(Math, Box<Self>, Box<Self>),
    Negative(Box<Self>),
    Case(Vec<(Self, Self)>, Box<Self>),
    Coalesce(Vec<Self>),
    NullIf(Box<Self>, Box<Self>),
    /// The least, or else the greatest.
    Extreme(bool, Vec<Self>),
    In(Box<Self>, Vec<Self>),
    /// Compared with an element of a list, or with all.
    Any {
        left: Box<Self>,
        op: Compare,
        list: Box<Self>,
        is_all: bool,
    },
    Match {
        pattern: Pattern,
        text: Box<Self>,
        with: Box<Self>,
    },
    Array(Vec<Self>),
    Record(Vec<Self>),
    Concat(Box<Self>, Box<Self>),
    /// An element; the first one's subscript.
    Index {
        list: Box<Self>,
        index: Box<Self>,
        first: i64,
    },
    Slice {
        list: Box<Self>,
        low: Option<Box<Self>>,
        high: Option<Box<Self>>,
        first: i64,
    },
    Field(Box<Self>, usize),
    Scalar(Arc<Query>),
    Exists(Arc<Query>),
    ArrayOf(Arc<Query>),
    InQuery {
        left: Box<Self>,
        op: Compare,
        query: Arc<Query>,
        is_all: bool,
    },
}

impl Expr {
    /// The expressions that it is made of; those of its queries are not.
    pub(super) fn children(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Const(_)
            | Self::Parameter(_)
            | Self::Column { .. }
            | Self::Set(_)
            | Self::Aggregate(_)
            | Self::Window(_)
            | Self::Scalar(_)
            | Self::Exists(_)
            | Self::ArrayOf(_) => Vec::new(),
            Self::Cast(inner, ..)
            | Self::Not(inner)
            | Self::IsNull(inner)
            | Self::Is(inner, _)
            | Self::Negative(inner)
            | Self::Field(inner, _)
            | Self::InQuery { left: inner, .. } => vec![inner],
            Self::And(a, b)
            | Self::Or(a, b)
            | Self::NotDistinct(a, b)
            | Self::Compare(_, a, b)
            | Self::Math(_, a, b)
            | Self::NullIf(a, b)
            | Self::Concat(a, b)
            | Self::Any { left: a, list: b, .. }
            | Self::Match { text: a, with: b, .. }
            | Self::Index { list: a, index: b, .. } => vec![a, b],
            Self::Call(_, all)
            | Self::Coalesce(all)
            | Self::Extreme(_, all)
            | Self::Array(all)
            | Self::Record(all) => all.iter_mut().collect(),
            Self::In(value, all) => std::iter::once(value.as_mut()).chain(all.iter_mut()).collect(),
            Self::Case(arms, otherwise) => {
                let arms = arms.iter_mut().flat_map(|(when, then)| [when, then]);
                arms.chain([otherwise.as_mut()]).collect()
            }
            Self::Slice { list, low, high, .. } => {
                let ends = [low, high].into_iter().flatten().map(Box::as_mut);
                std::iter::once(list.as_mut()).chain(ends).collect()
            }
        }
    }

    /// Calls `see` with every column of the row at hand; `false` where a query hides what it uses.
    pub(super) fn columns(&mut self, see: &mut impl FnMut(&mut usize)) -> bool {
        match self {
            Self::Column { depth: 0, index } => {
                see(index);
                return true;
            }
            Self::Scalar(_) | Self::Exists(_) | Self::ArrayOf(_) | Self::InQuery { .. } => {
                return false;
            }
            Self::Set(_) | Self::Aggregate(_) | Self::Window(_) => return false,
            _ => {}
        }
        self.children().into_iter().all(|child| child.columns(see))
    }
}

/// A sort key.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) expr: Expr,
    pub(super) is_descending: bool,
    pub(super) nulls_first: bool,
}

/// An aggregate of a select.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<Typed>,
    pub(super) is_distinct: bool,
    pub(super) order: Vec<Order>,
    pub(super) filter: Option<Expr>,
}

/// A window function of a select.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) call: WindowCall,
    pub(super) partition: Vec<Expr>,
    pub(super) order: Vec<Order>,
}

/// What a window function computes.
#[derive(Clone, Debug)]
pub(super) enum WindowCall {
    RowNumber,
    Rank,
    DenseRank,
    /// Over the whole partition.
    Aggregate(Aggregate),
}

/// A call of a function that gives rows.
#[derive(Clone, Debug)]
pub(super) struct SetCall {
    pub(super) function: &'static SetFunction,
    pub(super) arguments: Vec<Typed>,
}

/// Where rows come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Relation(&'static SystemRelation),
    /// Seen from so many queries further in than it was written.
    Query(Arc<Query>, usize),
    /// What the recursive query of this number has found last.
    Working(usize),
    /// Evaluated for each row before it.
    Lateral(Arc<Query>),
    Function {
        call: SetCall,
        with_ordinality: bool,
    },
    /// A function that gives one value.
    Value(Expr),
    Nested(Vec<Item>),
}

/// How a source is joined to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    Inner,
    Left,
    Right,
    Full,
}

/// A source of a select.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) source: Source,
    pub(super) join: Join,
    pub(super) width: usize,
    /// Equal in both: of the rows before, of the source's own.
    pub(super) keys: Vec<(Expr, Expr)>,
    /// What a row of the source must fulfil.
    pub(super) own: Vec<Expr>,
    /// What else a pair must fulfil to be joined.
    pub(super) on: Vec<Expr>,
    /// What a joined row must fulfil.
    pub(super) filter: Vec<Expr>,
}

/// `SELECT`.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) from: Vec<Item>,
    pub(super) filter: Vec<Expr>,
    /// None where rows are not grouped.
    pub(super) group: Option<Vec<Expr>>,
    pub(super) having: Option<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) windows: Vec<Window>,
    pub(super) sets: Vec<SetCall>,
    /// What is selected, then what it is only sorted by.
    pub(super) output: Vec<Expr>,
    pub(super) is_distinct: bool,
    /// Of rows with equal values of these, the first.
    pub(super) distinct_on: Vec<Expr>,
}

/// What a query's rows are.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Select(Box<Select>),
    Values(Vec<Vec<Expr>>),
    Set {
        op: SetOp,
        is_all: bool,
        left: Box<Query>,
        right: Box<Query>,
        casts: Vec<[Oid; 3]>,
    },
    /// `first`, then `next` over what came last, until nothing comes.
    Recursive {
        number: usize,
        is_all: bool,
        first: Box<Query>,
        next: Box<Query>,
        casts: Vec<[Oid; 3]>,
    },
}

/// How two queries' rows are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOp {
    Union,
    Intersect,
    Except,
}

/// A query.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) body: Body,
    /// Over the output, by place.
    pub(super) order: Vec<Order>,
    pub(super) limit: Option<Expr>,
    pub(super) offset: Option<Expr>,
    /// Names and types; there may be more values, which are sorted by.
    pub(super) columns: Vec<(String, Type)>,
}
