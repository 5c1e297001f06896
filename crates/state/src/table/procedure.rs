//! Procedures: definitions that hold programs, and calls that run them.
//!
//! ```text
//!  Call ─> definition of its version ─> may the signer call? ─> arguments, defaults ─> rights: the signer's, or the creator's
//!           for each program: table as it is now ── still what the program relies on? ─> run, the arguments its parameters
//! ```
//! A program names columns and indexes by place. Columns are only added, behind those that are there, so what a procedure
//! relies on is lost when an index goes (those behind it move up) or a table gets a primary key: then a call is refused,
//! and the procedure is to be created again. A table that is dropped stays so: another of its name has another number.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_types::procedure::{PROGRAM_SHIFT, Relied, procedure_name_key};
use quipu_types::program::{Access, Conflict, Op, Program, Selection, TableRef};
use quipu_types::table::{PROCEDURES, TableDef, ledger_key};
use quipu_types::{
    Call, Decode as _, Encode as _, Hash, Height, ProcedureDef, ProcedureSpec, Schema, Writers,
    code,
};

use super::define::check_reserved;
use super::{DEFINITION_COUNT_MAX, DEFINITION_SIZE_MAX, Fault, Result, TableError, Tables};
use crate::expr::eval;
use crate::store::Table;
use crate::value::Typed;
use crate::view::damaged;

impl Tables<'_> {
    /// Runs a procedure (B2); gives how many rows it wrote or removed.
    pub fn call(&mut self, call: &Call) -> Result<u64> {
        let def = self.wanted_procedure(call.procedure)?;
        if !self.may_write(def.creator, &def.spec.callers) {
            return Err(code::NOT_A_CALLER.into());
        }
        let arguments = self.arguments(&def.spec, call)?;
        let signer = self.scene.signer;
        if def.spec.is_definer {
            self.scene.signer = def.creator;
        }
        let done = self.run_all(&def, &arguments);
        self.scene.signer = signer;
        done
    }

    /// The values of a call's arguments.
    fn arguments(&mut self, spec: &ProcedureSpec, call: &Call) -> Result<Vec<Typed>> {
        if call.arguments.len() != spec.parameters.len() {
            return Err(Fault::TYPE_MISMATCH.into());
        }
        // Random defaults of one transaction's calls differ.
        self.made = self.made.saturating_add(1);
        let pairs = spec.parameters.iter().zip(&call.arguments).enumerate();
        pairs
            .map(|(index, (parameter, argument))| match (argument, &parameter.default) {
                (Some((kind, value)), _) if parameter.takes(*kind) => {
                    Ok(Typed { kind: *kind, value: value.clone() })
                }
                (None, Some(default)) => Ok(eval(default, &self.default_scope(index))?),
                _ => Err(Fault::TYPE_MISMATCH.into()),
            })
            .collect()
    }

    fn run_all(&mut self, def: &ProcedureDef, arguments: &[Typed]) -> Result<u64> {
        let mut row_count = 0_u64;
        for (place, program) in (0_u16..).zip(&def.spec.programs) {
            let done = self.relied_on(def, program).and_then(|table| {
                self.parameters = arguments.to_vec();
                self.run_on(&table, program)
            });
            let done = done.map_err(|error| match error {
                TableError::Fault(Fault { code, detail }) => {
                    let place = place.checked_shl(PROGRAM_SHIFT).unwrap_or(u16::MAX);
                    TableError::Fault(Fault { code, detail: place | detail })
                }
                store @ TableError::Store(_) => store,
            })?;
            row_count = row_count.saturating_add(done.row_count);
        }
        Ok(row_count)
    }

    /// The table of a procedure's program, if it still has what the program names.
    fn relied_on(&mut self, def: &ProcedureDef, program: &Program) -> Result<Arc<TableDef>> {
        let table = self.definition(program.table.id)?.ok_or(code::NO_TABLE)?;
        if table.version == program.table.version {
            return Ok(table);
        }
        let place = def.relied.binary_search_by_key(&table.id, |relied| relied.table);
        let relied = place.ok().and_then(|place| def.relied.get(place));
        let relied = relied.ok_or(code::PROCEDURE_STALE)?;
        match shape(&table, relied.column_count, relied.index_count) {
            Some(shape) if shape == relied.shape => Ok(table),
            _ => Err(code::PROCEDURE_STALE.into()),
        }
    }

    pub(super) fn create_procedure(&mut self, spec: &ProcedureSpec, replaces: bool) -> Result<()> {
        check_reserved(&spec.name)?;
        let mut spec = spec.clone();
        let mut counts: BTreeMap<u32, (Arc<TableDef>, u8)> = BTreeMap::new();
        for program in &mut spec.programs {
            if !is_plain(program) {
                return Err(Fault::BAD_DEFINITION.into());
            }
            let table = self.wanted(program.table)?;
            table.table().ok_or(code::NO_TABLE)?;
            // Of what this very transaction defined the signer could not know the version.
            program.table.version = table.version;
            let (_, count) = counts.entry(table.id).or_insert((table, 0));
            *count = (*count).max(index_count(&program.op));
        }
        let relied = counts.into_values().map(|(table, index_count)| relied(&table, index_count));
        let relied = relied.collect::<Option<Vec<Relied>>>().ok_or(Fault::BAD_DEFINITION)?;
        let key = procedure_name_key(&spec.name);
        let version = self.scene.height;
        if let Some(bytes) = self.get(&key)? {
            if !replaces {
                return Err(code::PROCEDURE_EXISTS.into());
            }
            let id = <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_le_bytes);
            let id = id.map_err(|_| damaged(Table::Row, &key))?;
            let old = self.procedure(id)?.ok_or_else(|| damaged(Table::Row, &key))?;
            self.check_owner(old.creator)?;
            spec.callers = old.spec.callers.clone();
            let creator = old.creator;
            return self.put_procedure(&ProcedureDef { id, creator, version, spec, relied });
        }
        let id = self.next_id()?;
        let creator = self.scene.signer;
        self.put(key, id.to_le_bytes().to_vec());
        self.put_procedure(&ProcedureDef { id, creator, version, spec, relied })
    }

    pub(super) fn drop_procedure(&mut self, procedure: TableRef) -> Result<()> {
        let def = self.wanted_procedure(procedure)?;
        self.check_owner(def.creator)?;
        self.remove(procedure_name_key(&def.spec.name));
        self.remove(ledger_key(PROCEDURES, def.id));
        Ok(())
    }

    pub(super) fn set_callers(&mut self, procedure: TableRef, callers: &Writers) -> Result<()> {
        let def = self.wanted_procedure(procedure)?;
        self.check_owner(def.creator)?;
        let mut def = ProcedureDef::clone(&def);
        def.spec.callers = callers.clone();
        def.version = self.scene.height;
        self.put_procedure(&def)
    }

    /// Writes a definition, if it is one that can be read again.
    fn put_procedure(&mut self, def: &ProcedureDef) -> Result<()> {
        let bytes = def.to_bytes();
        let is_canonical = ProcedureDef::from_bytes(&bytes).as_ref() == Ok(def);
        if bytes.len() > DEFINITION_SIZE_MAX || !is_canonical {
            return Err(Fault::BAD_DEFINITION.into());
        }
        self.spend_size(bytes.len())?;
        self.put(ledger_key(PROCEDURES, def.id), bytes);
        Ok(())
    }

    /// The procedure that a reference names, as [`Tables::wanted`].
    fn wanted_procedure(&mut self, wanted: TableRef) -> Result<Arc<ProcedureDef>> {
        let def = self.procedure(wanted.id)?.ok_or(code::NO_PROCEDURE)?;
        if def.version != wanted.version && !self.is_procedure_of(&def)? {
            return Err(code::TABLE_CHANGED.into());
        }
        Ok(def)
    }

    /// Whether this transaction made the procedure what it is.
    fn is_procedure_of(&self, def: &ProcedureDef) -> Result<bool> {
        let key = ledger_key(PROCEDURES, def.id);
        if !self.changes.contains_key(&key) {
            return Ok(false);
        }
        let version = |bytes: Vec<u8>| -> Result<Height> {
            Ok(ProcedureDef::from_bytes(&bytes).map_err(|_| damaged(Table::Row, &key))?.version)
        };
        let before = self.under.get(&key)?.map(version).transpose()?;
        Ok(before.is_none_or(|before| before != def.version))
    }

    /// The procedure of this number.
    pub fn procedure(&mut self, id: u32) -> Result<Option<Arc<ProcedureDef>>> {
        let key = ledger_key(PROCEDURES, id);
        let Some(bytes) = self.get(&key)? else { return Ok(None) };
        self.spend(1)?;
        self.spend_size(bytes.len())?;
        let known = &mut self.definitions.procedures;
        if let Some((kept, def)) = known.get(&id)
            && *kept == bytes
        {
            return Ok(Some(Arc::clone(def)));
        }
        let def = ProcedureDef::from_bytes(&bytes).map_err(|_| damaged(Table::Row, &key))?;
        let def = Arc::new(def);
        if known.len() >= DEFINITION_COUNT_MAX {
            known.clear();
        }
        known.insert(id, (bytes, Arc::clone(&def)));
        Ok(Some(def))
    }
}

/// Whether a procedure may hold a program: it tells nothing, has no parameters of its own, and hands out no numbers.
fn is_plain(program: &Program) -> bool {
    program.row_count.is_none()
        && program.rows_hash.is_none()
        && !program.returns
        && program.parameters.is_empty()
        && !matches!(program.op, Op::Number { .. })
}

/// How many of a table's indexes an operation names, from the first on.
fn index_count(op: &Op) -> u8 {
    let of_rows = |rows: &Selection| match rows.access {
        Access::Index { index, .. } => index,
        Access::All | Access::Keys(_) => 0,
    };
    match op {
        Op::Insert { conflict, .. } => match conflict {
            Conflict::Fail | Conflict::Nothing { target: None } => 0,
            Conflict::Nothing { target: Some(target) } | Conflict::Update { target, .. } => *target,
        },
        Op::Update { rows, .. } | Op::Delete { rows } => of_rows(rows),
        Op::Truncate | Op::Number { .. } => 0,
    }
}

fn relied(table: &TableDef, index_count: u8) -> Option<Relied> {
    let columns = table.table()?.schema.columns();
    let column_count = u16::try_from(columns.len()).ok()?;
    let shape = shape(table, column_count, index_count)?;
    Some(Relied { table: table.id, column_count, index_count, shape })
}

/// What is hashed of a table: the types of its first columns, the primary key, its first indexes; none where it has fewer.
fn shape(table: &TableDef, column_count: u16, index_count: u8) -> Option<Hash> {
    let spec = table.table()?;
    let columns = spec.schema.columns().get(..usize::from(column_count))?.iter();
    // Whether a column takes nulls and how it is called is asked when a row is written.
    let columns = columns.zip(0_u32..).map(|(column, number)| quipu_types::Column {
        name: format!("c{number}"),
        kind: column.kind,
        nullable: true,
    });
    let mut bytes = Schema::new(columns.collect()).ok()?.to_bytes();
    for column in &spec.primary_key {
        bytes.extend_from_slice(&column.to_le_bytes());
    }
    for index in spec.indexes.get(..usize::from(index_count))? {
        index.encode(&mut bytes);
    }
    Some(quipu_crypto::hash::sha256(&bytes))
}
