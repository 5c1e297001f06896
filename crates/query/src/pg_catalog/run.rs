//! Runs a query: nested loops and hash joins over rows in memory, within a budget of steps.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use quipu_types::code;

use super::plan::{
    Aggregate, Body, Expr, Item, Join, Order, Query, Select, SetCall, SetOp, Source, Window,
    WindowCall,
};
use super::tables::{Row, rows as rows_of};
use super::types;
use super::value::{self, Datum};
use super::world::World;
use crate::error::SqlError;

/// Rows that a query may look at.
const STEP_COUNT_MAX: u64 = 50_000_000;
/// Values of the rows that it may make: what it may hold.
const VALUE_COUNT_MAX: u64 = 16_000_000;

/// Which texts match which patterns, as far as that was asked.
type Matches = BTreeMap<(Arc<str>, Arc<str>), bool>;

/// What a running query sees beside its rows.
pub(super) struct Env<'a> {
    pub(super) world: &'a World,
    pub(super) parameters: &'a [Datum],
    /// Microseconds: the time of the newest height.
    pub(super) now: i64,
    /// Parameters that `set_config` has set.
    pub(super) set: RefCell<Vec<(String, String)>>,
    pub(super) matches: RefCell<Matches>,
    tables: RefCell<BTreeMap<u32, Rc<Vec<Row>>>>,
    /// What recursive queries have found last, by their numbers.
    working: RefCell<BTreeMap<usize, Rc<Vec<Row>>>>,
    steps: Cell<u64>,
    values: Cell<u64>,
}

impl<'a> Env<'a> {
    pub(super) fn new(world: &'a World, parameters: &'a [Datum], now: i64) -> Self {
        Self {
            world,
            parameters,
            now,
            set: RefCell::default(),
            matches: RefCell::default(),
            tables: RefCell::default(),
            working: RefCell::default(),
            steps: Cell::new(STEP_COUNT_MAX),
            values: Cell::new(VALUE_COUNT_MAX),
        }
    }

    /// Notes that rows are looked at.
    pub(super) fn step(&self, count: usize) -> Result<(), SqlError> {
        spend(&self.steps, count)
    }

    /// Notes that a row is made.
    fn make(&self, row: &[Datum]) -> Result<(), SqlError> {
        self.step(1)?;
        spend(&self.values, row.len())
    }

    fn table(&self, relation: &super::world::SystemRelation) -> Rc<Vec<Row>> {
        let mut tables = self.tables.borrow_mut();
        let rows = || Rc::new(rows_of(self.world, relation));
        Rc::clone(tables.entry(relation.oid).or_insert_with(rows))
    }
}

fn spend(budget: &Cell<u64>, count: usize) -> Result<(), SqlError> {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let left = budget.get().checked_sub(count).ok_or_else(|| {
        let message = "the query of the catalog needs too many rows";
        SqlError::new("54000", code::SQL_LIMIT, message).hint("narrow it")
    })?;
    budget.set(left);
    Ok(())
}

/// The row at hand, and those of the queries around.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) row: &'a [Datum],
    pub(super) aggregates: &'a [Datum],
    pub(super) windows: &'a [Datum],
    pub(super) sets: &'a [Datum],
    pub(super) outer: Option<&'a Frame<'a>>,
}

impl<'a> Frame<'a> {
    pub(super) const fn of(row: &'a [Datum], outer: Option<&'a Frame<'a>>) -> Self {
        Self { row, aggregates: &[], windows: &[], sets: &[], outer }
    }
}

type Outer<'a> = Option<&'a Frame<'a>>;

impl Query {
    /// All rows, with as many values as it has columns.
    pub(super) fn run(&self, env: &Env<'_>, outer: Outer<'_>) -> Result<Vec<Row>, SqlError> {
        let mut rows = match &self.body {
            Body::Select(select) => select.run(env, outer)?,
            Body::Values(all) => {
                let frame = Frame::of(&[], outer);
                let row = |exprs: &Vec<Expr>| {
                    exprs.iter().map(|expr| expr.value(env, &frame)).collect::<Result<Row, _>>()
                };
                all.iter().map(row).collect::<Result<_, _>>()?
            }
            Body::Set { op, is_all, left, right, casts } => {
                let (left, right) = (left.run(env, outer)?, right.run(env, outer)?);
                combined(env, *op, *is_all, left, right, casts)?
            }
            Body::Recursive { number, is_all, first, next, casts } => {
                recursive(env, (*number, *is_all), [first, next], casts, outer)?
            }
        };
        env.step(rows.len())?;
        sort(env, &mut rows, &self.order, outer)?;
        let frame = Frame::of(&[], outer);
        let count = |expr: &Option<Expr>| -> Result<Option<usize>, SqlError> {
            let value = expr.as_ref().map(|expr| expr.value(env, &frame)).transpose()?;
            Ok(value.and_then(|value| value.int()).map(|n| usize::try_from(n).unwrap_or(0)))
        };
        if let Some(offset) = count(&self.offset)? {
            rows.drain(..offset.min(rows.len()));
        }
        if let Some(limit) = count(&self.limit)? {
            rows.truncate(limit);
        }
        let width = self.columns.len();
        rows.iter_mut().for_each(|row| row.truncate(width));
        Ok(rows)
    }
}

fn key_of(row: &[Datum]) -> Vec<u8> {
    let mut key = Vec::new();
    row.iter().for_each(|value| value.put_key(&mut key));
    key
}

/// The rows of a recursive query.
fn recursive(
    env: &Env<'_>,
    (number, is_all): (usize, bool),
    [first, next]: [&Query; 2],
    casts: &[[types::Oid; 3]],
    outer: Outer<'_>,
) -> Result<Vec<Row>, SqlError> {
    let mut seen = BTreeSet::new();
    let mut newest = first.run(env, outer)?;
    let mut rows = Vec::new();
    loop {
        if !is_all {
            newest.retain(|row| seen.insert(key_of(row)));
        }
        if newest.is_empty() {
            return Ok(rows);
        }
        env.step(newest.len())?;
        rows.extend(newest.iter().cloned());
        env.working.borrow_mut().insert(number, Rc::new(newest));
        newest = next.run(env, outer)?;
        cast_rows(env, &mut newest, 1, casts)?;
    }
}

/// Casts the rows of one side of a set operation.
fn cast_rows(
    env: &Env<'_>,
    rows: &mut [Row],
    side: usize,
    casts: &[[types::Oid; 3]],
) -> Result<(), SqlError> {
    for (value, kinds) in rows.iter_mut().flat_map(|row| row.iter_mut().zip(casts)) {
        let [.., to] = *kinds;
        let from = kinds.get(side).copied().unwrap_or_default();
        *value = value::cast(value, from, to, env.world)?;
    }
    Ok(())
}

fn combined(
    env: &Env<'_>,
    op: SetOp,
    is_all: bool,
    mut left: Vec<Row>,
    mut right: Vec<Row>,
    casts: &[[types::Oid; 3]],
) -> Result<Vec<Row>, SqlError> {
    cast_rows(env, &mut left, 0, casts)?;
    cast_rows(env, &mut right, 1, casts)?;
    let known: BTreeSet<Vec<u8>> = right.iter().map(|row| key_of(row)).collect();
    let mut rows = match op {
        SetOp::Union => {
            left.extend(right);
            left
        }
        SetOp::Intersect => left.into_iter().filter(|row| known.contains(&key_of(row))).collect(),
        SetOp::Except => left.into_iter().filter(|row| !known.contains(&key_of(row))).collect(),
    };
    if !is_all {
        distinct(&mut rows);
    }
    Ok(rows)
}

fn distinct(rows: &mut Vec<Row>) {
    let mut seen = BTreeSet::new();
    rows.retain(|row| seen.insert(key_of(row)));
}

/// Sorts rows by expressions over them.
fn sort(
    env: &Env<'_>,
    rows: &mut Vec<Row>,
    order: &[Order],
    outer: Outer<'_>,
) -> Result<(), SqlError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        let frame = Frame::of(&row, outer);
        let keys = sort_keys(env, &frame, order)?;
        keyed.push((keys, row));
    }
    keyed.sort_by(|(a, _), (b, _)| by_order(order, a, b));
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

fn sort_keys(env: &Env<'_>, frame: &Frame<'_>, order: &[Order]) -> Result<Row, SqlError> {
    order.iter().map(|order| order.expr.value(env, frame)).collect()
}

fn by_order(order: &[Order], a: &[Datum], b: &[Datum]) -> Ordering {
    for (order, (a, b)) in order.iter().zip(a.iter().zip(b)) {
        let found = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if order.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if order.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ if order.is_descending => b.order(a),
            _ => a.order(b),
        };
        if found.is_ne() {
            return found;
        }
    }
    Ordering::Equal
}

/// Rows with the same values of some expressions, in the order of the first of each.
fn groups(keys: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<usize>> {
    let mut places = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

impl Select {
    /// Rows of its output, sorted by nothing yet.
    fn run(&self, env: &Env<'_>, outer: Outer<'_>) -> Result<Vec<Row>, SqlError> {
        let mut rows = joined(env, &self.from, outer)?;
        retain(env, &mut rows, &self.filter, outer)?;
        let mut grouped: Vec<(Row, Row)> = match &self.group {
            None => rows.into_iter().map(|row| (row, Row::new())).collect(),
            Some(keys) => self.grouped(env, keys, rows, outer)?,
        };
        if let Some(having) = &self.having {
            let mut kept = Vec::new();
            for (row, aggregates) in grouped {
                let frame = Frame { aggregates: &aggregates, ..Frame::of(&row, outer) };
                if having.value(env, &frame)?.is_true() {
                    kept.push((row, aggregates));
                }
            }
            grouped = kept;
        }
        let windows = self.windows(env, &grouped, outer)?;
        let mut output = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, (row, aggregates)) in grouped.iter().enumerate() {
            let windows: Row =
                windows.iter().map(|all| all.get(index).cloned().unwrap_or(Datum::Null)).collect();
            let frame = Frame { aggregates, windows: &windows, ..Frame::of(row, outer) };
            for sets in self.sets(env, &frame)? {
                let frame = Frame { sets: &sets, ..frame };
                let values = self.output.iter().map(|expr| expr.value(env, &frame));
                let values = values.collect::<Result<Row, _>>()?;
                if !self.distinct_on.is_empty() {
                    let keys = self.distinct_on.iter().map(|expr| expr.value(env, &frame));
                    if !seen.insert(key_of(&keys.collect::<Result<Row, _>>()?)) {
                        continue;
                    }
                }
                env.make(&values)?;
                output.push(values);
            }
        }
        if self.is_distinct {
            distinct(&mut output);
        }
        Ok(output)
    }

    /// A row of each group, and the group's aggregates.
    fn grouped(
        &self,
        env: &Env<'_>,
        keys: &[Expr],
        rows: Vec<Row>,
        outer: Outer<'_>,
    ) -> Result<Vec<(Row, Row)>, SqlError> {
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let frame = Frame::of(row, outer);
            let values = keys.iter().map(|key| key.value(env, &frame));
            all.push(key_of(&values.collect::<Result<Row, _>>()?));
        }
        let mut found = groups(all);
        if found.is_empty() && keys.is_empty() {
            found.push(Vec::new());
        }
        let width = self.from.iter().map(|item| item.width).sum();
        let mut grouped = Vec::new();
        for members in found {
            let members: Vec<&Row> = members.iter().filter_map(|index| rows.get(*index)).collect();
            let frames: Vec<Frame<'_>> = members.iter().map(|row| Frame::of(row, outer)).collect();
            let values = self.aggregates.iter().map(|call| call.value(env, &frames));
            let values = values.collect::<Result<Row, _>>()?;
            let first =
                members.first().map_or_else(|| vec![Datum::Null; width], |row| (*row).clone());
            grouped.push((first, values));
        }
        Ok(grouped)
    }

    /// For each window function its value by row.
    fn windows(
        &self,
        env: &Env<'_>,
        rows: &[(Row, Row)],
        outer: Outer<'_>,
    ) -> Result<Vec<Row>, SqlError> {
        let frames: Vec<Frame<'_>> = rows
            .iter()
            .map(|(row, aggregates)| Frame { aggregates, ..Frame::of(row, outer) })
            .collect();
        self.windows.iter().map(|window| window.values(env, &frames)).collect()
    }

    /// The values of its functions that give rows: as many rows as the longest has.
    fn sets(&self, env: &Env<'_>, frame: &Frame<'_>) -> Result<Vec<Row>, SqlError> {
        if self.sets.is_empty() {
            return Ok(vec![Row::new()]);
        }
        let lists = self.sets.iter().map(|call| call.values(env, frame));
        let lists: Vec<Vec<Datum>> = lists.collect::<Result<_, _>>()?;
        let count = lists.iter().map(Vec::len).max().unwrap_or(0);
        let at = |index: usize| {
            let values = lists.iter().map(|list| list.get(index).cloned().unwrap_or(Datum::Null));
            values.collect()
        };
        Ok((0..count).map(at).collect())
    }
}

impl Window {
    fn values(&self, env: &Env<'_>, frames: &[Frame<'_>]) -> Result<Row, SqlError> {
        let mut keys = Vec::with_capacity(frames.len());
        for frame in frames {
            let values = self.partition.iter().map(|expr| expr.value(env, frame));
            keys.push(key_of(&values.collect::<Result<Row, _>>()?));
        }
        let mut out = vec![Datum::Null; frames.len()];
        for members in groups(keys) {
            let mut sorted = Vec::with_capacity(members.len());
            for index in members {
                let Some(frame) = frames.get(index) else { continue };
                sorted.push((sort_keys(env, frame, &self.order)?, index));
            }
            sorted.sort_by(|(a, _), (b, _)| by_order(&self.order, a, b));
            let whole = match &self.call {
                WindowCall::Aggregate(call) => {
                    let frames: Vec<Frame<'_>> = sorted
                        .iter()
                        .filter_map(|(_, index)| frames.get(*index).copied())
                        .collect();
                    Some(call.value(env, &frames)?)
                }
                _ => None,
            };
            let (mut rank, mut dense) = (0, 0);
            for place in 0..sorted.len() {
                let Some((keys, index)) = sorted.get(place) else { continue };
                let before = place.checked_sub(1).and_then(|place| sorted.get(place));
                if before.is_none_or(|(before, _)| by_order(&self.order, before, keys).is_ne()) {
                    (rank, dense) = (place + 1, dense + 1);
                }
                let value = match &self.call {
                    WindowCall::RowNumber => (place + 1).into(),
                    WindowCall::Rank => rank.into(),
                    WindowCall::DenseRank => Datum::Int(dense),
                    WindowCall::Aggregate(_) => whole.clone().unwrap_or(Datum::Null),
                };
                if let Some(out) = out.get_mut(*index) {
                    *out = value;
                }
            }
        }
        Ok(out)
    }
}

impl Aggregate {
    fn value(&self, env: &Env<'_>, frames: &[Frame<'_>]) -> Result<Datum, SqlError> {
        let mut rows: Vec<(Row, Row)> = Vec::new();
        for frame in frames {
            env.step(1)?;
            if let Some(filter) = &self.filter
                && !filter.value(env, frame)?.is_true()
            {
                continue;
            }
            let arguments = self.arguments.iter().map(|typed| typed.expr.value(env, frame));
            let arguments = arguments.collect::<Result<Row, _>>()?;
            rows.push((sort_keys(env, frame, &self.order)?, arguments));
        }
        rows.sort_by(|(a, _), (b, _)| by_order(&self.order, a, b));
        if self.is_distinct {
            let mut seen = BTreeSet::new();
            rows.retain(|(_, row)| seen.insert(key_of(row)));
        }
        let kinds: Vec<_> = self.arguments.iter().map(|typed| typed.kind.oid).collect();
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        super::functions::aggregate(env, self.name, &kinds, &rows)
    }
}

impl SetCall {
    /// Its rows.
    fn values(&self, env: &Env<'_>, frame: &Frame<'_>) -> Result<Vec<Datum>, SqlError> {
        let arguments = self.arguments.iter().map(|typed| typed.expr.value(env, frame));
        let arguments = arguments.collect::<Result<Row, _>>()?;
        let values = match self.arguments.first() {
            Some(first) => (self.function.run)(&arguments, first.kind.oid)?,
            None => (self.function.run)(&arguments, 0)?,
        };
        env.step(values.len())?;
        Ok(values)
    }
}

fn passes(env: &Env<'_>, frame: &Frame<'_>, all: &[Expr]) -> Result<bool, SqlError> {
    for expr in all {
        if !expr.value(env, frame)?.is_true() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn retain(
    env: &Env<'_>,
    rows: &mut Vec<Row>,
    all: &[Expr],
    outer: Outer<'_>,
) -> Result<(), SqlError> {
    if all.is_empty() {
        return Ok(());
    }
    let mut kept = Vec::new();
    for row in rows.drain(..) {
        env.step(1)?;
        if passes(env, &Frame::of(&row, outer), all)? {
            kept.push(row);
        }
    }
    *rows = kept;
    Ok(())
}

fn joined(env: &Env<'_>, items: &[Item], outer: Outer<'_>) -> Result<Vec<Row>, SqlError> {
    let mut rows = vec![Row::new()];
    for item in items {
        rows = item.join(env, rows, outer)?;
        retain(env, &mut rows, &item.filter, outer)?;
    }
    Ok(rows)
}

impl Item {
    /// The source's rows that fulfil its own conditions; `left` is the row before, for a source that sees it.
    fn rows(
        &self,
        env: &Env<'_>,
        left: &[Datum],
        outer: Outer<'_>,
    ) -> Result<Rc<Vec<Row>>, SqlError> {
        let frame = Frame::of(left, outer);
        let rows = match &self.source {
            Source::Relation(relation) => {
                let rows = env.table(relation);
                env.step(rows.len())?;
                if self.own.is_empty() {
                    return Ok(rows);
                }
                let mut kept = Vec::new();
                for row in rows.iter() {
                    if passes(env, &Frame::of(row, outer), &self.own)? {
                        kept.push(row.clone());
                    }
                }
                return Ok(Rc::new(kept));
            }
            Source::Query(query, up) => {
                let around = (0..*up).fold(outer, |frame, _| frame.and_then(|frame| frame.outer));
                query.run(env, around)?
            }
            Source::Working(number) => {
                let found = env.working.borrow().get(number).cloned();
                found.map(|rows| rows.as_ref().clone()).unwrap_or_default()
            }
            Source::Lateral(query) => query.run(env, Some(&frame))?,
            Source::Nested(items) => joined(env, items, outer)?,
            Source::Value(expr) => vec![vec![expr.value(env, &frame)?]],
            Source::Function { call, with_ordinality } => {
                let values = call.values(env, &frame)?.into_iter().zip(1_i64..);
                let row = |(value, number): (Datum, i64)| {
                    let mut row = match value {
                        Datum::Record(fields) => fields.to_vec(),
                        value => vec![value],
                    };
                    row.extend(with_ordinality.then_some(Datum::Int(number)));
                    row
                };
                values.map(row).collect()
            }
        };
        let mut rows = rows;
        retain(env, &mut rows, &self.own, outer)?;
        Ok(Rc::new(rows))
    }

    const fn sees_left(&self) -> bool {
        matches!(self.source, Source::Lateral(_) | Source::Function { .. } | Source::Value(_))
    }

    fn join(&self, env: &Env<'_>, left: Vec<Row>, outer: Outer<'_>) -> Result<Vec<Row>, SqlError> {
        let mut output = Vec::new();
        let mut all = Rc::default();
        let mut index: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        if !self.sees_left() {
            all = self.rows(env, &[], outer)?;
            index = self.indexed(env, &all, outer)?;
        }
        let mut matched = vec![false; all.len()];
        for row in &left {
            if self.sees_left() {
                all = self.rows(env, row, outer)?;
                index = self.indexed(env, &all, outer)?;
                matched = vec![false; all.len()];
            }
            let frame = Frame::of(row, outer);
            let candidates: Vec<usize> = if self.keys.is_empty() {
                (0..all.len()).collect()
            } else {
                let keys = self.keys.iter().map(|(left, _)| left.value(env, &frame));
                let keys = keys.collect::<Result<Row, _>>()?;
                let has_null = keys.iter().any(Datum::is_null);
                let found = index.get(&key_of(&keys)).filter(|_| !has_null);
                found.cloned().unwrap_or_default()
            };
            env.step(candidates.len().saturating_add(1))?;
            let mut is_joined = false;
            for candidate in candidates {
                let Some(right) = all.get(candidate) else { continue };
                let pair: Row = row.iter().chain(right).cloned().collect();
                if passes(env, &Frame::of(&pair, outer), &self.on)? {
                    is_joined = true;
                    if let Some(matched) = matched.get_mut(candidate) {
                        *matched = true;
                    }
                    env.make(&pair)?;
                    output.push(pair);
                }
            }
            if !is_joined && matches!(self.join, Join::Left | Join::Full) {
                let nulls = std::iter::repeat_n(Datum::Null, self.width);
                output.push(row.iter().cloned().chain(nulls).collect());
            }
        }
        if matches!(self.join, Join::Right | Join::Full) {
            let width = left.first().map_or(0, Vec::len);
            for (right, _) in all.iter().zip(&matched).filter(|(_, matched)| !**matched) {
                let nulls = std::iter::repeat_n(Datum::Null, width);
                output.push(nulls.chain(right.iter().cloned()).collect());
            }
        }
        Ok(output)
    }

    /// Places of the source's rows by their keys.
    fn indexed(
        &self,
        env: &Env<'_>,
        rows: &[Row],
        outer: Outer<'_>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<usize>>, SqlError> {
        let mut index: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        if self.keys.is_empty() {
            return Ok(index);
        }
        for (place, row) in rows.iter().enumerate() {
            let frame = Frame::of(row, outer);
            let keys = self.keys.iter().map(|(_, right)| right.value(env, &frame));
            let keys = keys.collect::<Result<Row, _>>()?;
            if !keys.iter().any(Datum::is_null) {
                index.entry(key_of(&keys)).or_default().push(place);
            }
        }
        Ok(index)
    }
}
