//! Finds what a query's names mean: relations, columns, aliases, and how its sources are joined.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, Cte, Distinct, FunctionArg, GroupByExpr, Ident, JoinConstraint, JoinOperator,
    LimitClause, ObjectName, OrderByExpr, OrderByKind, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor, TableWithJoins,
};
use quipu_types::code;

use super::plan::{
    Body, Compare, Expr, Item, Join, Order, Query, Select, SetOp, Source, Type, Typed,
};
use super::resolve::{Calls, Resolver};
use super::types::{self, Oid};
use super::value::Datum;
use super::world::{SYSTEM, SystemRelation, World};
use crate::error::SqlError;

/// A column that can be named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) kind: Type,
    /// Joined with `USING`: only its table's name finds it.
    pub(super) is_merged: bool,
}

/// The columns of the row at hand, and of the queries around.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) columns: Vec<Named>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// How many scopes there are from this one outwards.
    fn depth(mut scope: Option<&Self>) -> usize {
        let mut depth = 0;
        while let Some(within) = scope {
            (scope, depth) = (within.outer, depth + 1);
        }
        depth
    }
}

/// Binds one statement.
pub(super) struct Binder<'a> {
    pub(super) world: &'a World,
    /// Types of the parameters; unknown ones are 0.
    pub(super) parameters: RefCell<Vec<Oid>>,
    /// Queries with names, the newest last.
    ctes: RefCell<Vec<NamedQuery>>,
    /// How many recursive ones there are.
    recursive_count: Cell<usize>,
}

/// A query of `WITH`.
#[derive(Clone, Debug)]
struct NamedQuery {
    name: String,
    /// None while a recursive one is being bound.
    query: Option<Arc<Query>>,
    number: usize,
    columns: Vec<(String, Type)>,
    /// How many queries are around it.
    depth: usize,
}

pub(super) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The last part of a name, and the one before it.
pub(super) fn last_of(name: &ObjectName) -> (Option<String>, String) {
    let mut parts = name.0.iter().rev().filter_map(|part| part.as_ident()).map(folded);
    let last = parts.next().unwrap_or_default();
    (parts.next(), last)
}

/// The relation of PostgreSQL's that a name is.
pub(super) fn system(name: &ObjectName) -> Option<&'static SystemRelation> {
    let (schema, name) = last_of(name);
    let schema = schema.unwrap_or_else(|| "pg_catalog".to_owned());
    SYSTEM.values().find(|found| found.schema == schema && found.name == name)
}

pub(super) fn unsupported(what: &str) -> SqlError {
    SqlError::unsupported(&format!("{what} in a query of the catalog"))
}

fn missing(name: &str) -> SqlError {
    let message = format!("relation \"{name}\" does not exist");
    SqlError::new("42P01", code::SQL_SYNTAX, message)
}

fn columns_named(
    columns: &[(String, Type)],
    table: &str,
    alias: Option<&TableAlias>,
) -> Vec<Named> {
    let names = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
    columns
        .iter()
        .enumerate()
        .map(|(place, (name, kind))| Named {
            table: table.to_owned(),
            name: names.get(place).map_or_else(|| name.clone(), |column| folded(&column.name)),
            kind: *kind,
            is_merged: false,
        })
        .collect()
}

impl<'a> Binder<'a> {
    pub(super) fn new(world: &'a World, parameters: &[Oid]) -> Self {
        let parameters = RefCell::new(parameters.to_vec());
        let (ctes, recursive_count) = (RefCell::default(), Cell::new(0));
        Self { world, parameters, ctes, recursive_count }
    }

    /// A query, its types settled.
    pub(super) fn query(
        &self,
        query: &ast::Query,
        outer: Option<&Scope<'_>>,
    ) -> Result<Query, SqlError> {
        let mut bound = self.loose(query, outer)?;
        self.settled(&mut bound);
        Ok(bound)
    }

    /// What has no type yet is text.
    fn settled(&self, query: &mut Query) {
        for column in 0..query.columns.len() {
            self.settle(&mut query.body, column, types::TEXT);
        }
        for (_, kind) in &mut query.columns {
            if kind.is_unknown() {
                *kind = Type::new(types::TEXT);
            }
        }
    }

    /// Parameters in a column without a type get this one.
    fn settle(&self, body: &mut Body, column: usize, oid: Oid) {
        let set = |expr: Option<&mut Expr>| {
            if let Some(Expr::Parameter(index)) = expr {
                self.learn(*index, oid);
            }
        };
        match body {
            Body::Select(select) => set(select.output.get_mut(column)),
            Body::Values(rows) => rows.iter_mut().for_each(|row| set(row.get_mut(column))),
            Body::Set { .. } | Body::Recursive { .. } => {}
        }
    }

    /// Notes a parameter's type, if none is known.
    pub(super) fn learn(&self, index: usize, oid: Oid) {
        let mut parameters = self.parameters.borrow_mut();
        if parameters.len() <= index {
            parameters.resize(index + 1, 0);
        }
        if let Some(known) = parameters.get_mut(index).filter(|known| **known == 0) {
            *known = oid;
        }
    }

    /// A query whose literals may have no type yet.
    fn loose(&self, query: &ast::Query, outer: Option<&Scope<'_>>) -> Result<Query, SqlError> {
        let known = self.ctes.borrow().len();
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                self.with(cte, with.recursive, outer)?;
            }
        }
        let order = match query.order_by.as_ref().map(|order| &order.kind) {
            None => &[],
            Some(OrderByKind::Expressions(order)) => order.as_slice(),
            Some(OrderByKind::All(_)) => return Err(unsupported("ORDER BY ALL")),
        };
        let mut bound = self.body(&query.body, order, outer)?;
        let scope = Scope { columns: Vec::new(), outer };
        let resolver = Resolver::new(self, &scope, None);
        let number = |expr: &ast::Expr| -> Result<Expr, SqlError> {
            let typed = resolver.typed(expr)?;
            resolver.coerce(typed, types::INT8).map(|typed| typed.expr)
        };
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            bound.limit = limit.as_ref().map(number).transpose()?;
            bound.offset = offset.as_ref().map(|offset| number(&offset.value)).transpose()?;
        }
        if let Some(fetch) = &query.fetch {
            bound.limit = fetch.quantity.as_ref().map(number).transpose()?;
        }
        self.ctes.borrow_mut().truncate(known);
        Ok(bound)
    }

    /// Binds a query of `WITH`, which may name itself.
    fn with(&self, cte: &Cte, recursive: bool, outer: Option<&Scope<'_>>) -> Result<(), SqlError> {
        let depth = Scope::depth(outer);
        let number = self.recursive_count.get();
        let mut named = NamedQuery {
            name: folded(&cte.alias.name),
            query: None,
            number,
            columns: vec![],
            depth,
        };
        let rename = |columns: &mut Vec<(String, Type)>| {
            for (column, alias) in columns.iter_mut().zip(&cte.alias.columns) {
                column.0 = folded(&alias.name);
            }
        };
        let mut query = match cte.query.body.as_ref() {
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right }
                if recursive =>
            {
                self.recursive_count.set(number + 1);
                let mut first = self.body(left, &[], outer)?;
                self.settled(&mut first);
                named.columns = first.columns.clone();
                rename(&mut named.columns);
                let mut columns = named.columns.clone();
                self.ctes.borrow_mut().push(named.clone());
                let mut next = self.body(right, &[], outer)?;
                self.ctes.borrow_mut().pop();
                self.settled(&mut next);
                let pairs = first.columns.iter().zip(&next.columns);
                let casts = pairs.map(|((_, to), (_, from))| [to.oid, from.oid, to.oid]).collect();
                let is_all = *set_quantifier == SetQuantifier::All;
                let (first, next) = (Box::new(first), Box::new(next));
                rename(&mut columns);
                plain(Body::Recursive { number, is_all, first, next, casts }, columns)
            }
            _ => self.query(&cte.query, outer)?,
        };
        rename(&mut query.columns);
        named.columns = query.columns.clone();
        named.query = Some(Arc::new(query));
        self.ctes.borrow_mut().push(named);
        Ok(())
    }

    fn body(
        &self,
        body: &SetExpr,
        order: &[OrderByExpr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Query, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, order, outer),
            SetExpr::Query(query) if order.is_empty() => self.loose(query, outer),
            SetExpr::Query(query) => {
                let mut bound = self.loose(query, outer)?;
                bound.order = self.by_output(order, &bound)?;
                Ok(bound)
            }
            SetExpr::Values(values) => self.values(values, order, outer),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                let (mut left, mut right) =
                    (self.body(left, &[], outer)?, self.body(right, &[], outer)?);
                if left.columns.len() != right.columns.len() {
                    let message = "each UNION query must have the same number of columns";
                    return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
                }
                let mut columns = left.columns.clone();
                let mut casts = Vec::new();
                for (place, (column, (_, other))) in
                    columns.iter_mut().zip(right.columns.clone()).enumerate()
                {
                    let common = common([column.1, other]);
                    casts.push([column.1.oid, other.oid, common.oid]);
                    self.settle(&mut left.body, place, common.oid);
                    self.settle(&mut right.body, place, common.oid);
                    column.1 = common;
                }
                let op = match op {
                    SetOperator::Union => SetOp::Union,
                    SetOperator::Intersect => SetOp::Intersect,
                    SetOperator::Except | SetOperator::Minus => SetOp::Except,
                };
                let is_all = *set_quantifier == SetQuantifier::All;
                let (left, right) = (Box::new(left), Box::new(right));
                let mut bound = plain(Body::Set { op, is_all, left, right, casts }, columns);
                bound.order = self.by_output(order, &bound)?;
                Ok(bound)
            }
            _ => Err(unsupported("this statement")),
        }
    }

    fn values(
        &self,
        values: &ast::Values,
        order: &[OrderByExpr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Query, SqlError> {
        let scope = Scope { columns: Vec::new(), outer };
        let resolver = Resolver::new(self, &scope, None);
        let mut rows = Vec::new();
        for row in &values.rows {
            let row = row.content.iter().map(|expr| resolver.typed(expr));
            rows.push(row.collect::<Result<Vec<Typed>, _>>()?);
        }
        let width = rows.first().map_or(0, Vec::len);
        let kinds: Vec<Type> = (0..width)
            .map(|place| {
                common(rows.iter().filter_map(|row| row.get(place)).map(|typed| typed.kind))
            })
            .collect();
        let mut exprs = Vec::new();
        for row in rows {
            let row = row
                .into_iter()
                .zip(&kinds)
                .map(|(typed, kind)| resolver.coerce(typed, kind.oid).map(|typed| typed.expr));
            exprs.push(row.collect::<Result<Vec<_>, _>>()?);
        }
        let columns =
            kinds.into_iter().zip(1..).map(|(kind, number)| (format!("column{number}"), kind));
        let mut bound = plain(Body::Values(exprs), columns.collect());
        bound.order = self.by_output(order, &bound)?;
        Ok(bound)
    }

    /// Sort keys that are columns of the output.
    fn by_output(&self, order: &[OrderByExpr], query: &Query) -> Result<Vec<Order>, SqlError> {
        order
            .iter()
            .map(|order| match output_place(&order.expr, &query.columns) {
                Some(index) => Ok(ordered(order, Expr::Column { depth: 0, index })),
                None => Err(unsupported("this ORDER BY")),
            })
            .collect()
    }

    fn select(
        &self,
        select: &ast::Select,
        order: &[OrderByExpr],
        outer: Option<&Scope<'_>>,
    ) -> Result<Query, SqlError> {
        let mut scope = Scope { columns: Vec::new(), outer };
        let mut from = Vec::new();
        for table in &select.from {
            self.tables(table, &mut scope, &mut from)?;
        }
        let calls = Calls::default();
        let bare = Resolver::new(self, &scope, None);
        let resolver = Resolver::new(self, &scope, Some(&calls));
        let filter = select.selection.as_ref().map(|expr| bare.condition(expr)).transpose()?;
        let mut filter = conjuncts(filter);
        place(&mut from, &mut filter);
        let mut columns = Vec::new();
        let mut output = Vec::new();
        for item in &select.projection {
            self.item(item, &resolver, &mut columns, &mut output)?;
        }
        let mut group = match &select.group_by {
            GroupByExpr::All(_) => return Err(unsupported("GROUP BY ALL")),
            GroupByExpr::Expressions(exprs, _) if exprs.is_empty() => None,
            GroupByExpr::Expressions(exprs, _) => {
                let key = |expr: &ast::Expr| match output_place(expr, &columns) {
                    // A column of the row comes before one of the output.
                    Some(place) if is_number(expr) || bare.typed(expr).is_err() => {
                        Ok(output.get(place).cloned().unwrap_or(Expr::Const(Datum::Null)))
                    }
                    _ => bare.typed(expr).map(|typed| typed.expr),
                };
                Some(exprs.iter().map(key).collect::<Result<Vec<_>, _>>()?)
            }
        };
        let having = select.having.as_ref().map(|expr| resolver.condition(expr)).transpose()?;
        let mut sorted = Vec::new();
        for order in order {
            let index = match output_place(&order.expr, &columns) {
                Some(index) => index,
                None => {
                    output.push(resolver.typed(&order.expr)?.expr);
                    output.len() - 1
                }
            };
            sorted.push(ordered(order, Expr::Column { depth: 0, index }));
        }
        let (is_distinct, distinct_on) = match &select.distinct {
            Some(Distinct::Distinct) => (true, Vec::new()),
            Some(Distinct::On(exprs)) => {
                let exprs = exprs.iter().map(|expr| bare.typed(expr).map(|typed| typed.expr));
                (false, exprs.collect::<Result<_, _>>()?)
            }
            _ => (false, Vec::new()),
        };
        let Calls { sets, aggregates, windows } = calls;
        let aggregates = aggregates.into_inner();
        if !aggregates.is_empty() || having.is_some() {
            group = Some(group.unwrap_or_default());
        }
        let body = Body::Select(Box::new(Select {
            from,
            filter,
            group,
            having,
            aggregates,
            windows: windows.into_inner(),
            sets: sets.into_inner(),
            output,
            is_distinct,
            distinct_on,
        }));
        Ok(Query { order: sorted, ..plain(body, columns) })
    }

    fn item(
        &self,
        item: &SelectItem,
        resolver: &Resolver<'_>,
        columns: &mut Vec<(String, Type)>,
        output: &mut Vec<Expr>,
    ) -> Result<(), SqlError> {
        let mut every = |table: Option<&str>| {
            let before = columns.len();
            for (index, column) in resolver.scope.columns.iter().enumerate() {
                let wanted = table.map_or(!column.is_merged, |table| column.table == table);
                if wanted {
                    columns.push((column.name.clone(), column.kind));
                    output.push(Expr::Column { depth: 0, index });
                }
            }
            columns.len() > before
        };
        let (name, expr) = match item {
            SelectItem::Wildcard(_) => {
                every(None);
                return Ok(());
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let (_, name) = last_of(name);
                return if every(Some(&name)) { Ok(()) } else { Err(missing(&name)) };
            }
            SelectItem::ExprWithAlias { expr, alias } => (folded(alias), expr),
            SelectItem::UnnamedExpr(expr) => (crate::names::of(expr), expr),
            _ => return Err(unsupported("this column")),
        };
        let typed = resolver.typed(expr)?;
        columns.push((name, typed.kind));
        output.push(typed.expr);
        Ok(())
    }

    fn tables(
        &self,
        table: &TableWithJoins,
        scope: &mut Scope<'_>,
        items: &mut Vec<Item>,
    ) -> Result<(), SqlError> {
        self.source(&table.relation, Join::Inner, &JoinConstraint::None, scope, items)?;
        for join in &table.joins {
            let (kind, constraint) = match &join.join_operator {
                JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::CrossJoin(on) => {
                    (Join::Inner, on)
                }
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (Join::Left, on),
                JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (Join::Right, on),
                JoinOperator::FullOuter(on) => (Join::Full, on),
                _ => return Err(unsupported("this join")),
            };
            self.source(&join.relation, kind, constraint, scope, items)?;
        }
        Ok(())
    }

    fn source(
        &self,
        factor: &TableFactor,
        join: Join,
        constraint: &JoinConstraint,
        scope: &mut Scope<'_>,
        items: &mut Vec<Item>,
    ) -> Result<(), SqlError> {
        let (source, columns) = self.factor(factor, scope)?;
        let (left, width) = (scope.columns.len(), columns.len());
        scope.columns.extend(columns);
        let mut item =
            Item { source, join, width, keys: vec![], own: vec![], on: vec![], filter: vec![] };
        let on = match constraint {
            JoinConstraint::None => Vec::new(),
            JoinConstraint::On(expr) => {
                conjuncts(Some(Resolver::new(self, scope, None).condition(expr)?))
            }
            JoinConstraint::Using(names) => {
                let names: Vec<String> = names.iter().map(|name| last_of(name).1).collect();
                using(&names, left, scope)?
            }
            JoinConstraint::Natural => {
                let (before, own) = scope.columns.split_at(left);
                let shared = own.iter().map(|column| column.name.clone());
                let names: Vec<String> =
                    shared.filter(|name| before.iter().any(|other| other.name == *name)).collect();
                using(&names, left, scope)?
            }
        };
        for expr in on {
            item.condition(expr, left, true);
        }
        items.push(item);
        Ok(())
    }

    fn factor(
        &self,
        factor: &TableFactor,
        scope: &Scope<'_>,
    ) -> Result<(Source, Vec<Named>), SqlError> {
        match factor {
            TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
                self.function(name, &args.args, alias.as_ref(), *with_ordinality, scope)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => {
                self.function(name, args, alias.as_ref(), *with_ordinality, scope)
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                let arguments: Vec<FunctionArg> = array_exprs
                    .iter()
                    .map(|expr| FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr.clone())))
                    .collect();
                let name = ObjectName::from(vec![Ident::new("unnest")]);
                self.function(&name, &arguments, alias.as_ref(), *with_ordinality, scope)
            }
            TableFactor::Table { name, alias, .. } => self.named(name, alias.as_ref(), scope),
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let outer = if *lateral { Some(scope) } else { scope.outer };
                let query = Arc::new(self.query(subquery, outer)?);
                let table = alias.as_ref().map(|alias| folded(&alias.name)).unwrap_or_default();
                let columns = columns_named(&query.columns, &table, alias.as_ref());
                let source =
                    if *lateral { Source::Lateral(query) } else { Source::Query(query, 0) };
                Ok((source, columns))
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                let mut own = Scope { columns: Vec::new(), outer: scope.outer };
                let mut items = Vec::new();
                self.tables(table_with_joins, &mut own, &mut items)?;
                Ok((Source::Nested(items), own.columns))
            }
            _ => Err(unsupported("this source of rows")),
        }
    }

    /// A relation, or a query with a name.
    fn named(
        &self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        scope: &Scope<'_>,
    ) -> Result<(Source, Vec<Named>), SqlError> {
        let (schema, own) = last_of(name);
        let table = alias.map_or_else(|| own.clone(), |alias| folded(&alias.name));
        if schema.is_none() {
            let ctes = self.ctes.borrow();
            if let Some(named) = ctes.iter().rev().find(|named| named.name == own) {
                let columns = columns_named(&named.columns, &table, alias);
                let source = match &named.query {
                    Some(query) => {
                        let up = Scope::depth(scope.outer).saturating_sub(named.depth);
                        Source::Query(Arc::clone(query), up)
                    }
                    None => Source::Working(named.number),
                };
                return Ok((source, columns));
            }
        }
        let relation = system(name).ok_or_else(|| missing(&own))?;
        let names = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
        let columns = relation.columns.iter().enumerate();
        let columns = columns.map(|(place, (name, kind, _))| Named {
            table: table.clone(),
            name: names.get(place).map_or_else(|| (*name).to_owned(), |c| folded(&c.name)),
            kind: Type::new(*kind),
            is_merged: false,
        });
        Ok((Source::Relation(relation), columns.collect()))
    }

    fn function(
        &self,
        name: &ObjectName,
        arguments: &[FunctionArg],
        alias: Option<&TableAlias>,
        with_ordinality: bool,
        scope: &Scope<'_>,
    ) -> Result<(Source, Vec<Named>), SqlError> {
        let (_, own) = last_of(name);
        let resolver = Resolver::new(self, scope, None);
        let arguments = resolver.arguments(arguments)?;
        let (source, mut columns) = match resolver.set_call(&own, arguments.clone())? {
            Some(call) => {
                let kinds = call.columns();
                (Source::Function { call, with_ordinality }, kinds)
            }
            None => {
                let typed = resolver.call(&own, arguments)?;
                (Source::Value(typed.expr), vec![(own.clone(), typed.kind)])
            }
        };
        if let (Some(alias), [(name, _)]) = (alias, columns.as_mut_slice()) {
            *name = folded(&alias.name);
        }
        if with_ordinality {
            columns.push(("ordinality".to_owned(), Type::new(types::INT8)));
        }
        let table = alias.map_or(own, |alias| folded(&alias.name));
        let names = alias.map(|alias| alias.columns.as_slice()).unwrap_or_default();
        let named = columns.into_iter().enumerate().map(|(place, (name, kind))| Named {
            table: table.clone(),
            name: names.get(place).map_or(name, |column| folded(&column.name)),
            kind,
            is_merged: false,
        });
        Ok((source, named.collect()))
    }
}

fn plain(body: Body, columns: Vec<(String, Type)>) -> Query {
    Query { body, order: Vec::new(), limit: None, offset: None, columns }
}

fn is_number(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Value(value) if matches!(value.value, ast::Value::Number(..)))
}

/// The column of the output that a sort or group key names.
fn output_place(expr: &ast::Expr, columns: &[(String, Type)]) -> Option<usize> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => {
                let number: usize = number.parse().ok()?;
                number.checked_sub(1).filter(|place| *place < columns.len())
            }
            _ => None,
        },
        ast::Expr::Identifier(ident) => {
            let name = folded(ident);
            columns.iter().position(|(known, _)| *known == name)
        }
        _ => None,
    }
}

pub(super) fn ordered(order: &OrderByExpr, expr: Expr) -> Order {
    let is_descending = order.options.asc == Some(false);
    let nulls_first = order.options.nulls_first.unwrap_or(is_descending);
    Order { expr, is_descending, nulls_first }
}

/// The type that values of several have together.
pub(super) fn common(kinds: impl IntoIterator<Item = Type>) -> Type {
    let mut all: Option<Type> = None;
    for kind in kinds.into_iter().filter(|kind| !kind.is_unknown()) {
        all = Some(match all {
            None => kind,
            Some(all) if all.oid == kind.oid => Type {
                modifier: if all.modifier == kind.modifier { all.modifier } else { -1 },
                ..all
            },
            Some(all) if types::is_text(all.oid) && types::is_text(kind.oid) => {
                Type::new(types::TEXT)
            }
            Some(all) if types::is_float(all.oid) && types::is_integer(kind.oid) => all,
            Some(all) if types::is_integer(all.oid) && types::is_float(kind.oid) => kind,
            Some(all) if types::is_float(all.oid) && types::is_float(kind.oid) => {
                Type::new(types::FLOAT8)
            }
            Some(all) => wider(all, kind),
        });
    }
    all.unwrap_or(Type::new(types::UNKNOWN))
}

fn wider(a: Type, b: Type) -> Type {
    let rank = |oid| match oid {
        types::INT2 => 1,
        types::INT4 => 2,
        types::INT8 => 3,
        _ => 4,
    };
    if rank(b.oid) > rank(a.oid) { b } else { a }
}

/// Conditions that must all hold.
fn conjuncts(expr: Option<Expr>) -> Vec<Expr> {
    let mut all = Vec::new();
    let mut rest: Vec<Expr> = expr.into_iter().collect();
    while let Some(expr) = rest.pop() {
        match expr {
            Expr::And(a, b) => rest.extend([*b, *a]),
            other => all.push(other),
        }
    }
    all
}

/// Puts conditions where the sources that they need are joined.
fn place(items: &mut [Item], filter: &mut Vec<Expr>) {
    if items.iter().any(|item| matches!(item.join, Join::Right | Join::Full)) {
        return;
    }
    for mut expr in std::mem::take(filter) {
        let mut last = None;
        let is_plain = expr.columns(&mut |index| last = last.max(Some(*index)));
        let mut before = 0;
        let found = items.iter_mut().find_map(|item| {
            let left = before;
            before += item.width;
            last.is_some_and(|last| last < before).then_some((item, left))
        });
        match found {
            Some((item, left)) if is_plain => item.condition(expr, left, item.join == Join::Inner),
            _ => filter.push(expr),
        }
    }
}

impl Item {
    /// Adds a condition; one that decides which rows are joined may become a key of the join.
    fn condition(&mut self, mut expr: Expr, left: usize, joins: bool) {
        if !joins {
            self.filter.push(expr);
            return;
        }
        if let Expr::Compare(Compare::Equal, a, b) = &mut expr {
            let sides = (side_of(a, left), side_of(b, left));
            if let (Some(Side::Before), Some(Side::Own)) | (Some(Side::Own), Some(Side::Before)) =
                sides
            {
                let (mut before, mut own) = (a.as_ref().clone(), b.as_ref().clone());
                if sides.0 == Some(Side::Own) {
                    std::mem::swap(&mut before, &mut own);
                }
                shift(&mut own, left);
                self.keys.push((before, own));
                return;
            }
        }
        let outer = matches!(self.join, Join::Right | Join::Full);
        if side_of(&mut expr, left) == Some(Side::Own) && !outer {
            shift(&mut expr, left);
            self.own.push(expr);
        } else {
            self.on.push(expr);
        }
    }
}

fn shift(expr: &mut Expr, by: usize) {
    let _all_are_plain = expr.columns(&mut |index| *index -= by);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Own,
}

/// Where an expression's columns are, if all are on one side.
fn side_of(expr: &mut Expr, left: usize) -> Option<Side> {
    let mut sides = [false, false];
    let is_plain = expr.columns(&mut |index| {
        if *index < left { sides[0] = true } else { sides[1] = true }
    });
    match sides {
        [true, false] if is_plain => Some(Side::Before),
        [false, true] if is_plain => Some(Side::Own),
        _ => None,
    }
}

/// The conditions of `USING`; the later columns are merged into the first.
fn using(names: &[String], left: usize, scope: &mut Scope<'_>) -> Result<Vec<Expr>, SqlError> {
    let mut all = Vec::new();
    for name in names {
        let named = |column: &Named| column.name == *name && !column.is_merged;
        let (before, own) = scope.columns.split_at_mut(left);
        let (Some(first), Some(second)) =
            (before.iter().position(named), own.iter().position(named))
        else {
            let message = format!("column \"{name}\" specified in USING clause does not exist");
            return Err(SqlError::new("42703", code::SQL_SYNTAX, message));
        };
        if let Some(column) = own.get_mut(second) {
            column.is_merged = true;
        }
        let column = |index| Box::new(Expr::Column { depth: 0, index });
        all.push(Expr::Compare(Compare::Equal, column(first), column(left + second)));
    }
    Ok(all)
}
