//! The model: a list of rows for each table; every rule looks at all of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use quipu_types::program::{Access, Alter, Unary};
use quipu_types::table::{
    Body, COUNTERS, DEFINITIONS, Identity, NUMBERS, Reaction, TABLE_ID_FIRST, TableCounters,
    TableDef, ledger_key, name_key, put_key, space_key,
};

use super::*;

/// A code and which constraint or column it is about.
pub(super) type Refusal = (Code, u16);
type Result<T> = std::result::Result<T, Refusal>;
type Row = Vec<Value>;

fn refused<T>(code: Code, detail: usize) -> Result<T> {
    Err((code, u16::try_from(detail).expect("small")))
}

#[derive(Clone, Debug)]
pub(super) struct ModelTable {
    pub(super) def: TableDef,
    counters: TableCounters,
    /// Numbers of the identity column that were handed out.
    pub(super) numbers: u64,
    /// Each with its number.
    rows: Vec<(i64, Row)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) tables: BTreeMap<u32, ModelTable>,
    made: u64,
    pub(super) height: Height,
    /// Versions of the definitions when the transaction began.
    before: BTreeMap<u32, Height>,
}

/// What a program did to a table so far.
#[derive(Default)]
struct Effects {
    rows: Vec<Row>,
    /// Keys of rows that were written.
    written: Vec<Row>,
    /// Keys that are gone, and the row that had each, if it only changed.
    gone: Vec<(Row, Option<Row>)>,
    touched: Vec<Row>,
}

/// Null is last; numbers and texts do not mix.
fn rank(value: &Value) -> (bool, i64, String) {
    match value {
        Value::Null => (true, 0, String::new()),
        Value::Int4(value) => (false, i64::from(*value), String::new()),
        Value::Int8(value) => (false, *value, String::new()),
        Value::Text(text) => (false, 0, text.clone()),
        other => panic!("no such value here: {other:?}"),
    }
}

fn order(left: &[Value], right: &[Value]) -> Ordering {
    left.iter().map(rank).cmp(right.iter().map(rank))
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int4(value) => Some(i64::from(*value)),
        Value::Int8(value) => Some(*value),
        _ => None,
    }
}

fn eval(expr: &Expr, row: &[Value], excluded: &[Value]) -> Result<Value> {
    let wrong = (code::TYPE_MISMATCH, 0);
    match expr {
        Expr::Const(_, value) => Ok(value.clone()),
        Expr::Column(column) => row.get(usize::from(*column)).cloned().ok_or(wrong),
        Expr::Excluded(column) => excluded.get(usize::from(*column)).cloned().ok_or(wrong),
        Expr::Unary(Unary::IsNull, operand) => {
            Ok(Value::Bool(eval(operand, row, excluded)? == Value::Null))
        }
        Expr::Binary(op, left, right) => {
            let (left, right) = (eval(left, row, excluded)?, eval(right, row, excluded)?);
            if left == Value::Null || right == Value::Null {
                return Ok(Value::Null);
            }
            if *op == Binary::Add {
                let (Some(a), Some(b)) = (number(&left), number(&right)) else { return Err(wrong) };
                let sum = i128::from(a) + i128::from(b);
                let range = (code::OUT_OF_RANGE, 0);
                return match (left, right) {
                    (Value::Int4(_), Value::Int4(_)) => {
                        i32::try_from(sum).map(Value::Int4).map_err(|_| range)
                    }
                    _ => i64::try_from(sum).map(Value::Int8).map_err(|_| range),
                };
            }
            if number(&left).is_some() != number(&right).is_some() {
                return Err(wrong);
            }
            let ordering = rank(&left).cmp(&rank(&right));
            Ok(Value::Bool(match op {
                Binary::Equal => ordering.is_eq(),
                Binary::Less => ordering.is_lt(),
                Binary::Greater => ordering.is_gt(),
                other => panic!("no {other:?} here"),
            }))
        }
        other => panic!("no {other:?} here"),
    }
}

fn holds(filter: Option<&Expr>, row: &[Value], excluded: &[Value]) -> Result<bool> {
    filter.map_or(Ok(true), |filter| Ok(eval(filter, row, excluded)? == Value::Bool(true)))
}

/// A value as a column of a type takes it.
fn assigned(value: Value, kind: ColumnType) -> Result<Value> {
    let whole = number(&value);
    match (kind, value, whole) {
        (_, Value::Null, _) => Ok(Value::Null),
        (ColumnType::Int4, _, Some(whole)) => {
            i32::try_from(whole).map(Value::Int4).map_err(|_| (code::OUT_OF_RANGE, 0))
        }
        (ColumnType::Int8, _, Some(whole)) => Ok(Value::Int8(whole)),
        (ColumnType::Text, Value::Text(text), _) => Ok(Value::Text(text)),
        (ColumnType::Text, _, Some(whole)) => Ok(Value::Text(whole.to_string())),
        _ => refused(code::TYPE_MISMATCH, 0),
    }
}

fn fitted(spec: &TableSpec, place: usize, value: Value) -> Result<Value> {
    let options = &spec.options[place];
    let length = usize::try_from(options.length).expect("small");
    match assigned(value, spec.schema.columns()[place].kind)? {
        Value::Text(mut text) if length > 0 => {
            while text.chars().count() > length {
                if text.pop() != Some(' ') {
                    return refused(code::TEXT_TOO_LONG, place);
                }
            }
            while options.is_padded && text.chars().count() < length {
                text.push(' ');
            }
            Ok(Value::Text(text))
        }
        value => Ok(value),
    }
}

fn of_columns(row: &[Value], columns: &[u16]) -> Row {
    columns.iter().map(|column| row[usize::from(*column)].clone()).collect()
}

/// The bytes of a key.
fn keyed(mut key: Vec<u8>, values: &[Value]) -> Vec<u8> {
    values.iter().for_each(|value| assert!(put_key(value, &mut key), "it has a key"));
    key
}

impl ModelTable {
    pub(super) fn spec(&self) -> &TableSpec {
        self.def.table().expect("no views here")
    }

    fn spec_mut(&mut self) -> &mut TableSpec {
        let Body::Table(spec) = &mut self.def.body else { panic!("no views here") };
        spec
    }

    fn key(&self, number: i64, row: &[Value]) -> Row {
        match self.spec().primary_key.as_slice() {
            [] => vec![Value::Int8(number)],
            columns => of_columns(row, columns),
        }
    }

    fn sort(&mut self) {
        let twin = self.clone();
        self.rows.sort_by(|(a, left), (b, right)| order(&twin.key(*a, left), &twin.key(*b, right)));
    }

    fn find(&self, key: &[Value]) -> Option<usize> {
        self.rows.iter().position(|(number, row)| self.key(*number, row) == key)
    }

    /// The row that has the same values as `row` in unique constraint `place`, but for the one under `own`.
    fn twin(&self, place: usize, row: &[Value], own: Option<&Row>) -> Option<Row> {
        let columns = match place.checked_sub(1) {
            None => &self.spec().primary_key,
            Some(index) => {
                let index = &self.spec().indexes[index];
                if !index.is_unique {
                    return None;
                }
                &index.columns
            }
        };
        let wanted = of_columns(row, columns);
        if columns.is_empty() || wanted.contains(&Value::Null) {
            return None;
        }
        let mut keys = self.rows.iter().map(|(number, row)| (self.key(*number, row), row));
        let found = keys.find(|(key, row)| of_columns(row, columns) == wanted && Some(key) != own);
        found.map(|(key, _)| key)
    }

    fn check(&self, row: &[Value]) -> Result<()> {
        for (place, column) in self.spec().schema.columns().iter().enumerate() {
            if !column.nullable && row[place] == Value::Null {
                return refused(code::NOT_NULL, place);
            }
        }
        for (place, check) in self.spec().checks.iter().enumerate() {
            if eval(&check.expr, row, &[])? == Value::Bool(false) {
                return refused(code::CHECK, place + 1);
            }
        }
        Ok(())
    }

    fn check_unique(&self, row: &[Value], own: Option<&Row>) -> Result<()> {
        for place in 0..=self.spec().indexes.len() {
            if self.twin(place, row, own).is_some() {
                return refused(code::UNIQUE, place);
            }
        }
        Ok(())
    }

    fn new_row(&mut self, columns: &[u16], exprs: &[Expr]) -> Result<Row> {
        let spec = self.spec().clone();
        let mut row = Row::new();
        for place in 0..spec.options.len() {
            let options = &spec.options[place];
            let given = columns.iter().position(|column| usize::from(*column) == place);
            let value = match (given, options.identity, &options.default) {
                (Some(given), identity, _) => {
                    let value = eval(&exprs[given], &[], &[])?;
                    let number = match value {
                        Value::Int4(number) => i64::from(number),
                        Value::Int8(number) => number,
                        _ => 0,
                    };
                    let is_own = u64::try_from(number).is_ok_and(|n| n > 0 && n <= self.numbers);
                    if identity == Identity::Always && !is_own {
                        return refused(code::GENERATED, place);
                    }
                    value
                }
                (None, Identity::Never, Some(default)) => eval(default, &[], &[])?,
                (None, Identity::Never, None) => Value::Null,
                (None, ..) => {
                    self.numbers += 1;
                    Value::Int8(i64::try_from(self.numbers).expect("small"))
                }
            };
            row.push(fitted(&spec, place, value)?);
        }
        Ok(row)
    }

    fn insert(&mut self, row: Row, conflict: &Conflict, effects: &mut Effects) -> Result<()> {
        let all: Vec<usize> = (0..=self.spec().indexes.len()).collect();
        let targets = match conflict {
            Conflict::Fail => vec![],
            Conflict::Nothing { target: None } => all,
            Conflict::Nothing { target: Some(target) } | Conflict::Update { target, .. } => {
                all.into_iter().filter(|place| *place == usize::from(*target)).collect()
            }
        };
        self.check(&row)?;
        let mut rivals = targets.into_iter().filter_map(|place| self.twin(place, &row, None));
        let rival = rivals.next();
        match (rival, conflict) {
            (None, _) => {
                self.check_unique(&row, None)?;
                if self.spec().primary_key.is_empty() {
                    self.counters.next_row += 1;
                }
                let number = i64::try_from(self.counters.next_row).expect("small");
                effects.touched.push(self.key(number, &row));
                effects.rows.push(row.clone());
                effects.written.push(self.key(number, &row));
                self.rows.push((number, row));
                self.counters.row_count += 1;
                Ok(())
            }
            (Some(rival), Conflict::Update { sets, filter, .. }) => {
                if effects.touched.contains(&rival) {
                    return refused(code::ROW_TWICE, 0);
                }
                let before = self.rows[self.find(&rival).expect("it is there")].1.clone();
                if holds(filter.as_ref(), &before, &row)? {
                    self.change(&rival, sets, &row, effects)?;
                }
                Ok(())
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn change(
        &mut self,
        key: &Row,
        sets: &[(u16, Expr)],
        excluded: &[Value],
        effects: &mut Effects,
    ) -> Result<()> {
        let before = self.rows[self.find(key).expect("it is there")].1.clone();
        let mut row = before.clone();
        for (column, expr) in sets {
            let column = usize::from(*column);
            if self.spec().options[column].identity == Identity::Always {
                return refused(code::GENERATED, column);
            }
            row[column] = fitted(self.spec(), column, eval(expr, &before, excluded)?)?;
        }
        self.put(key, row, effects)
    }

    /// Puts a row in the place of the one under a key.
    fn put(&mut self, key: &Row, row: Row, effects: &mut Effects) -> Result<()> {
        let place = self.find(key).expect("it is there");
        self.check(&row)?;
        self.check_unique(&row, Some(key))?;
        let new = self.key(self.rows[place].0, &row);
        if new != *key {
            effects.gone.push((key.clone(), Some(row.clone())));
        }
        effects.touched.push(new.clone());
        effects.rows.push(row.clone());
        effects.written.push(new);
        self.rows[place].1 = row;
        Ok(())
    }

    /// Keys of the rows that refer by a foreign key to the row that had `key`, ascending.
    fn referring(&self, foreign: &ForeignKey, key: &Row) -> Vec<Row> {
        let refers =
            |row: &Row| of_columns(row, &foreign.columns).iter().map(rank).eq(key.iter().map(rank));
        let rows = self.rows.iter().filter(|(_, row)| refers(row));
        let mut keys: Vec<Row> = rows.map(|(number, row)| self.key(*number, row)).collect();
        keys.sort_by(|a, b| order(a, b));
        keys
    }

    /// What becomes of the row under `key`, whose parent had `gone`.
    fn react(
        &mut self,
        foreign: &ForeignKey,
        (parent, now): (&TableSpec, Option<&Row>),
        key: &Row,
        effects: &mut Effects,
    ) -> Result<()> {
        let Some(place) = self.find(key) else { return Ok(()) };
        let reaction = if now.is_some() { foreign.on_update } else { foreign.on_delete };
        if reaction == Reaction::Cascade && now.is_none() {
            let (_, row) = self.rows.remove(place);
            self.counters.row_count -= 1;
            effects.rows.push(row);
            effects.gone.push((key.clone(), None));
            return Ok(());
        }
        let mut row = self.rows[place].1.clone();
        for (place, column) in foreign.columns.iter().enumerate() {
            let column = usize::from(*column);
            let value = match (reaction, now, &self.spec().options[column].default) {
                (Reaction::Cascade, Some(now), _) => {
                    now[usize::from(parent.primary_key[place])].clone()
                }
                (Reaction::SetDefault, _, Some(default)) => eval(default, &[], &[])?,
                _ => Value::Null,
            };
            row[column] = fitted(self.spec(), column, value)?;
        }
        self.put(key, row, effects)
    }

    /// Keys of the rows that a selection names, ascending.
    fn selected(&self, selection: &Selection) -> Result<Vec<Row>> {
        let wanted: Vec<(Vec<u16>, Vec<Value>)> = match &selection.access {
            Access::All => vec![(vec![], vec![])],
            Access::Keys(keys) => {
                let values = |exprs: &Vec<Expr>| -> Result<_> {
                    let values = exprs.iter().map(|expr| eval(expr, &[], &[]));
                    Ok((self.spec().primary_key.clone(), values.collect::<Result<_>>()?))
                };
                keys.iter().map(values).collect::<Result<_>>()?
            }
            Access::Index { index, values } => {
                let columns = match usize::from(*index).checked_sub(1) {
                    None => &self.spec().primary_key,
                    Some(place) => match self.spec().indexes.get(place) {
                        Some(index) => &index.columns,
                        None => return refused(code::BAD_DEFINITION, 0),
                    },
                };
                let values = values.iter().map(|expr| eval(expr, &[], &[]));
                vec![(columns.clone(), values.collect::<Result<_>>()?)]
            }
        };
        let mut keys = Vec::new();
        for (number, row) in &self.rows {
            let key = self.key(*number, row);
            let found = wanted.iter().any(|(columns, values)| {
                let own = if columns.is_empty() { key.clone() } else { of_columns(row, columns) };
                values.iter().zip(own).all(|(a, b)| *a != Value::Null && rank(a) == rank(&b))
            });
            if found && holds(selection.filter.as_ref(), row, &[])? {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn add_primary_key(&mut self, name: &str, columns: &[u16]) -> Result<()> {
        if !self.spec().primary_key.is_empty() {
            return refused(code::BAD_DEFINITION, 0);
        }
        check_new(self.spec(), name)?;
        let mut seen = Vec::new();
        for (_, row) in &self.rows {
            let key = of_columns(row, columns);
            if let Some(place) = key.iter().position(|value| *value == Value::Null) {
                return refused(code::NOT_NULL, usize::from(columns[place]));
            }
            if seen.contains(&key) {
                return refused(code::UNIQUE, 0);
            }
            seen.push(key);
        }
        let spec = self.spec_mut();
        let mut all = spec.schema.columns().to_vec();
        columns.iter().for_each(|column| all[usize::from(*column)].nullable = false);
        spec.schema = Schema::new(all).expect("the same columns");
        (spec.primary_key, spec.primary_key_name) = (columns.to_vec(), name.into());
        self.counters.write_count += 1;
        Ok(())
    }

    fn act(&mut self, op: &Op, effects: &mut Effects) -> Result<()> {
        match op {
            Op::Insert { columns, rows, conflict } => {
                for exprs in rows {
                    let row = self.new_row(columns, exprs)?;
                    self.insert(row, conflict, effects)?;
                }
            }
            Op::Update { rows, sets } => {
                for key in self.selected(rows)? {
                    self.change(&key, sets, &[], effects)?;
                }
            }
            Op::Delete { rows } => {
                for key in self.selected(rows)? {
                    let (_, row) = self.rows.remove(self.find(&key).expect("it is there"));
                    self.counters.row_count -= 1;
                    effects.rows.push(row);
                    effects.gone.push((key, None));
                }
            }
            Op::Truncate => {
                if self.def.referenced_by.iter().any(|child| *child != self.def.id) {
                    return refused(code::DEPENDENT, 0);
                }
                self.rows.clear();
                self.counters.row_count = 0;
            }
            Op::Number { count } => {
                if self.spec().options.iter().all(|one| one.identity == Identity::Never) {
                    return refused(code::BAD_DEFINITION, 0);
                }
                self.numbers += u64::from(*count);
            }
        }
        Ok(())
    }
}

impl Model {
    pub(super) fn begin(&mut self) {
        let versions = self.tables.iter().map(|(id, table)| (*id, table.def.version));
        self.before = versions.collect();
    }

    fn wanted(&self, table: TableRef) -> Result<ModelTable> {
        let found = self.tables.get(&table.id).ok_or((code::NO_TABLE, 0))?;
        // What this transaction defined has a version that its signer could not know.
        let is_own = self.before.get(&table.id) != Some(&found.def.version);
        if found.def.version == table.version || is_own {
            Ok(found.clone())
        } else {
            refused(code::TABLE_CHANGED, 0)
        }
    }

    /// Gives how many rows it changed, and those rows.
    pub(super) fn run(&mut self, signer: AccountId, program: &Program) -> Result<(u64, Vec<Row>)> {
        let mut table = self.wanted(program.table)?;
        if table.spec().writers == Writers::Creator && table.def.creator != signer {
            return refused(code::NOT_OWNER, 0);
        }
        let mut effects = Effects::default();
        table.sort();
        table.act(&program.op, &mut effects)?;
        table.sort();
        self.tables.insert(program.table.id, table.clone());
        let count = u64::try_from(effects.rows.len()).expect("small");
        if count > 0 || program.op == Op::Truncate {
            table.counters.write_count += 1;
        }
        self.tables.insert(program.table.id, table);
        self.settle(program.table.id, &effects)?;
        if program.row_count.is_some_and(|told| told != count) {
            return refused(code::ROW_COUNT, 0);
        }
        Ok((count, effects.rows))
    }

    /// What foreign keys make of what was done to a table.
    fn settle(&mut self, id: u32, effects: &Effects) -> Result<()> {
        let children = self.tables[&id].def.referenced_by.clone();
        for child in &children {
            let mut more = Effects::default();
            for (foreign, (key, now)) in self.lost(*child, id, effects) {
                let parent = self.tables[&id].spec().clone();
                if self.tables[&id].find(&key).is_none() {
                    let child = self.tables.get_mut(child).expect("it is there");
                    for own in child.referring(&foreign, &key) {
                        child.react(&foreign, (&parent, now.as_ref()), &own, &mut more)?;
                    }
                }
            }
            if !more.rows.is_empty() {
                let table = self.tables.get_mut(child).expect("it is there");
                table.sort();
                table.counters.write_count += 1;
                self.settle(*child, &more)?;
            }
        }
        for child in &children {
            let own = self.tables[child].spec().foreign_keys.iter();
            let own: Vec<&ForeignKey> = own.filter(|foreign| foreign.table == id).collect();
            for (key, now) in &effects.gone {
                let refuses = |foreign: &ForeignKey| {
                    let reaction =
                        if now.is_some() { foreign.on_update } else { foreign.on_delete };
                    reaction == Reaction::Refuse
                        && !self.tables[child].referring(foreign, key).is_empty()
                };
                if self.tables[&id].find(key).is_none()
                    && own.iter().any(|foreign| refuses(foreign))
                {
                    return refused(code::REFERENCED, 0);
                }
            }
        }
        let table = &self.tables[&id];
        for (place, foreign) in table.spec().foreign_keys.iter().enumerate() {
            for place_of_row in effects.written.iter().filter_map(|key| table.find(key)) {
                if !self.has_parent(foreign, &table.rows[place_of_row].1) {
                    return refused(code::FOREIGN_KEY, place + 1);
                }
            }
        }
        Ok(())
    }

    /// For each key that is gone from `parent` the foreign keys of `child` that say what is done then.
    fn lost(
        &self,
        child: u32,
        parent: u32,
        effects: &Effects,
    ) -> Vec<(ForeignKey, (Row, Option<Row>))> {
        let own = self.tables[&child].spec().foreign_keys.clone();
        let own: Vec<ForeignKey> = own.into_iter().filter(|own| own.table == parent).collect();
        let mut all = Vec::new();
        for gone in &effects.gone {
            let reacts = |own: &&ForeignKey| {
                let reaction = if gone.1.is_some() { own.on_update } else { own.on_delete };
                reaction != Reaction::Refuse
            };
            all.extend(own.iter().filter(reacts).map(|own| (own.clone(), gone.clone())));
        }
        all
    }

    fn has_parent(&self, foreign: &ForeignKey, row: &[Value]) -> bool {
        let parent = &self.tables[&foreign.table];
        let wanted: Vec<_> = of_columns(row, &foreign.columns).iter().map(rank).collect();
        wanted.iter().any(|(is_null, ..)| *is_null)
            || parent.rows.iter().any(|(number, row)| {
                parent.key(*number, row).iter().map(rank).eq(wanted.iter().cloned())
            })
    }

    fn check_free(&self, name: &str) -> Result<()> {
        match self.tables.values().any(|table| table.spec().name == name) {
            true => refused(code::TABLE_EXISTS, 0),
            false => Ok(()),
        }
    }

    /// Notes in the parent of a foreign key who has it.
    fn refer(&mut self, child: u32, foreign: &ForeignKey, signer: AccountId) -> Result<()> {
        let spec = self.tables[&child].spec().clone();
        let parent = self.tables.get_mut(&foreign.table).ok_or((code::NO_TABLE, 0))?;
        if parent.spec().writers == Writers::Creator && parent.def.creator != signer {
            return refused(code::NOT_OWNER, 0);
        }
        let kinds = |spec: &TableSpec, columns: &[u16]| -> Vec<bool> {
            let kind = |column: &u16| spec.schema.columns()[usize::from(*column)].kind;
            columns.iter().map(|column| kind(column) == ColumnType::Text).collect()
        };
        let key = &parent.spec().primary_key;
        if key.is_empty() || kinds(&spec, &foreign.columns) != kinds(parent.spec(), key) {
            return refused(code::BAD_DEFINITION, 0);
        }
        parent.def.referenced_by.push(child);
        parent.def.referenced_by.sort_unstable();
        parent.def.referenced_by.dedup();
        Ok(())
    }

    /// Takes from parents what no foreign key of `child` says.
    fn forget(&mut self, child: u32) {
        let left = self.tables.get(&child).map(|table| table.spec().foreign_keys.clone());
        for (id, parent) in &mut self.tables {
            let is_named = left.iter().flatten().any(|foreign| foreign.table == *id);
            parent.def.referenced_by.retain(|other| *other != child || is_named);
        }
    }

    pub(super) fn define(&mut self, signer: AccountId, define: &Define) -> Result<()> {
        match define {
            Define::CreateTable(spec) => {
                self.check_free(&spec.name)?;
                let id = TABLE_ID_FIRST + u32::try_from(self.made).expect("small");
                self.made += 1;
                let mut spec = TableSpec::clone(spec);
                for foreign in spec.foreign_keys.iter_mut().filter(|foreign| foreign.table == 0) {
                    foreign.table = id;
                }
                let foreign_keys = spec.foreign_keys.clone();
                let (creator, version, body) = (signer, self.height, Body::Table(spec));
                let def = TableDef { id, creator, version, body, referenced_by: vec![] };
                let counters = TableCounters::default();
                self.tables.insert(id, ModelTable { def, counters, numbers: 0, rows: vec![] });
                foreign_keys.iter().try_for_each(|foreign| self.refer(id, foreign, signer))
            }
            Define::Drop(table) => {
                let table = self.wanted(*table)?;
                if table.def.creator != signer {
                    return refused(code::NOT_OWNER, 0);
                }
                let id = table.def.id;
                if table.def.referenced_by.iter().any(|child| *child != id) {
                    return refused(code::DEPENDENT, 0);
                }
                self.tables.remove(&id);
                self.forget(id);
                Ok(())
            }
            Define::Alter(table, alter) => {
                let mut table = self.wanted(*table)?;
                if table.def.creator != signer {
                    return refused(code::NOT_OWNER, 0);
                }
                self.alter(&mut table, alter)?;
                table.def.version = self.height;
                let id = table.def.id;
                self.tables.insert(id, table);
                if let Alter::AddForeignKey(foreign) = alter {
                    let table = if foreign.table == 0 { id } else { foreign.table };
                    let foreign = ForeignKey { table, ..foreign.clone() };
                    self.refer(id, &foreign, signer)?;
                    let child = &self.tables[&id];
                    let place = child.spec().foreign_keys.len();
                    if child.rows.iter().any(|(_, row)| !self.has_parent(&foreign, row)) {
                        return refused(code::FOREIGN_KEY, place);
                    }
                }
                self.forget(id);
                Ok(())
            }
            _ => panic!("no views and procedures here"),
        }
    }

    fn alter(&self, table: &mut ModelTable, alter: &Alter) -> Result<()> {
        table.sort();
        match alter {
            Alter::AddColumn(column, options) => {
                let mut columns = table.spec().schema.columns().to_vec();
                columns.push(column.clone());
                let place = columns.len() - 1;
                let spec = table.spec_mut();
                spec.schema = Schema::new(columns).map_err(|_| (code::BAD_DEFINITION, 0))?;
                spec.options.push(options.clone());
                let value = options
                    .default
                    .as_ref()
                    .map_or(Ok(Value::Null), |default| eval(default, &[], &[]));
                for at in 0..table.rows.len() {
                    let value = fitted(table.spec(), place, value.clone()?)?;
                    table.rows[at].1.push(value);
                    table.check(&table.rows[at].1)?;
                }
                table.counters.write_count += 1;
            }
            Alter::AddPrimaryKey { name, columns } => table.add_primary_key(name, columns)?,
            Alter::AddIndex(index) => {
                check_new(table.spec(), &index.name)?;
                table.spec_mut().indexes.push(index.clone());
                let place = table.spec().indexes.len();
                let is_twin = |(number, row): &(i64, Row)| {
                    table.twin(place, row, Some(&table.key(*number, row))).is_some()
                };
                if table.rows.iter().any(is_twin) {
                    return refused(code::UNIQUE, place);
                }
            }
            Alter::DropConstraint(name) => {
                let spec = table.spec_mut();
                let count = |spec: &TableSpec| {
                    spec.indexes.len() + spec.foreign_keys.len() + spec.checks.len()
                };
                let before = count(spec);
                spec.indexes.retain(|index| index.name != *name);
                spec.foreign_keys.retain(|foreign| foreign.name != *name);
                spec.checks.retain(|check| check.name != *name);
                if count(spec) == before {
                    return refused(code::BAD_DEFINITION, 0);
                }
            }
            Alter::AddCheck(check) => {
                check_new(table.spec(), &check.name)?;
                table.spec_mut().checks.push(check.clone());
                table.rows.iter().try_for_each(|(_, row)| table.check(row))?;
            }
            Alter::AddForeignKey(foreign) => {
                check_new(table.spec(), &foreign.name)?;
                let table_id = if foreign.table == 0 { table.def.id } else { foreign.table };
                let foreign = ForeignKey { table: table_id, ..foreign.clone() };
                table.spec_mut().foreign_keys.push(foreign);
            }
            Alter::SetWriters(writers) => table.spec_mut().writers = writers.clone(),
            Alter::Rename(name) => {
                self.check_free(name)?;
                table.spec_mut().name = name.clone();
            }
        }
        Ok(())
    }

    /// What the row space holds: B3 to the byte.
    pub(super) fn row_space(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut space = BTreeMap::new();
        if self.made > 0 {
            let counters = TableCounters { next_row: self.made, ..TableCounters::default() };
            space.insert(ledger_key(COUNTERS, 0), counters.to_bytes());
        }
        for (id, table) in &self.tables {
            let spec = table.spec();
            space.insert(ledger_key(DEFINITIONS, *id), table.def.to_bytes());
            space.insert(name_key(&spec.name), id.to_le_bytes().to_vec());
            if table.counters != TableCounters::default() {
                space.insert(ledger_key(COUNTERS, *id), table.counters.to_bytes());
            }
            if table.numbers > 0 {
                let numbers = table.numbers.to_le_bytes().to_vec();
                space.insert(ledger_key(NUMBERS, *id), numbers);
            }
            for (number, row) in &table.rows {
                let own = table.key(*number, row);
                let key = keyed(space_key(*id, 0), &own);
                for (place, index) in (1..).zip(&spec.indexes) {
                    let entry = keyed(space_key(*id, place), &of_columns(row, &index.columns));
                    space.insert(keyed(entry, &own), key.clone());
                }
                space.insert(key, spec.schema.encode_row(row).expect("a row"));
            }
        }
        space
    }
}

fn check_new(spec: &TableSpec, name: &str) -> Result<()> {
    let names = spec.indexes.iter().map(|index| &index.name);
    let names = names.chain(spec.checks.iter().map(|check| &check.name));
    let mut names = names.chain(spec.foreign_keys.iter().map(|foreign| &foreign.name));
    match spec.primary_key_name == name || names.any(|taken| taken == name) {
        true => refused(code::TABLE_EXISTS, 0),
        false => Ok(()),
    }
}
