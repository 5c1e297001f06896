//! Procedures: programs under a name, with parameters, which a call runs as one small action.
//!
//! ```text
//!  CREATE PROCEDURE pay(a int, n numeric) AS $$ UPDATE …; INSERT … $$     ── gateway ──>  ProcedureSpec { text, programs }
//!  CALL pay(1, 5)                                                         ── gateway ──>  Call { procedure, arguments }
//! ```
//! * A call's arguments are the parameters of each of the procedure's programs: programs of a procedure have none of
//!   their own, tell nothing of their rows, and hand out no numbers.
//! * A call names a procedure by number and version, as a program names its table: what runs is what its signer meant.
//! * A table may have changed since a procedure was defined. The programs mean the same as long as what they name by
//!   place is there: [`Relied`] says what that is.

use crate::codec::{
    Decode, DecodeError, Encode, Reader, put_bytes, put_count, put_list, put_option,
};
use crate::number::{AccountId, Hash, Height};
use crate::program::{Expr, Program, TableRef, decode_const, put_const};
use crate::row::{ColumnType, NAME_SIZE_MAX, Value, check_name, put_type, read_type};
use crate::table::{PROCEDURE_NAMES, VIEW_SIZE_MAX, decode_name, named_key};
use crate::transaction::Writers;

/// Most parameters of a procedure, PostgreSQL's.
pub const ARGUMENT_COUNT_MAX: usize = 100;
/// Most programs of a procedure: a fault's detail has room for the number of one, behind [`PROGRAM_SHIFT`] bits.
pub const PROGRAM_COUNT_MAX: usize = 128;
/// Bits of a fault's detail below the 0-based program of a procedure that it is of.
pub const PROGRAM_SHIFT: u32 = 9;

const _: () = assert!(PROGRAM_COUNT_MAX << PROGRAM_SHIFT == 1 << 16, "a detail is a u16");
const _: () =
    assert!(crate::row::COLUMN_COUNT_MAX < 1 << PROGRAM_SHIFT, "a column's number has room");

/// What a statement that creates a procedure says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcedureSpec {
    /// Name, unique among procedures.
    pub name: String,
    /// Parameters, at most [`ARGUMENT_COUNT_MAX`].
    pub parameters: Vec<ProcedureParameter>,
    /// The body as it was written, for readers.
    pub text: String,
    /// Whether the body was written between `BEGIN ATOMIC` and `END`.
    pub is_atomic: bool,
    /// What it does, in order: at most [`PROGRAM_COUNT_MAX`].
    pub programs: Vec<Program>,
    /// Whether it runs with the rights of who created it: `SECURITY DEFINER`.
    pub is_definer: bool,
    /// Who may call it.
    pub callers: Writers,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcedureParameter {
    /// Its name; empty for one that has a number only.
    pub name: String,
    /// Its type. A numeric takes values of any precision.
    pub kind: ColumnType,
    /// What it is where a call gives nothing.
    pub default: Option<Expr>,
}

/// A procedure, as it is defined at a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcedureDef {
    /// Its number: never used again, nor by a table.
    pub id: u32,
    /// Account of who created it.
    pub creator: AccountId,
    /// Height of the newest change of the definition.
    pub version: Height,
    /// What it is.
    pub spec: ProcedureSpec,
    /// What the programs rely on, ascending by table.
    pub relied: Vec<Relied>,
}

/// What programs name of a table by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relied {
    /// The table.
    pub table: u32,
    /// How many columns it had.
    pub column_count: u16,
    /// How many of its indexes are named, from the first on.
    pub index_count: u8,
    /// SHA-256 over those columns' types, the primary key and those indexes.
    pub shape: Hash,
}

/// A call of a procedure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The procedure.
    pub procedure: TableRef,
    /// A value for each parameter; none for its default.
    pub arguments: Vec<Option<(ColumnType, Value)>>,
}

impl ProcedureParameter {
    /// Whether a value of a type is one of this parameter.
    #[must_use]
    pub fn takes(&self, kind: ColumnType) -> bool {
        let is_numeric = |kind| matches!(kind, ColumnType::Numeric { .. });
        kind == self.kind || (is_numeric(kind) && is_numeric(self.kind))
    }
}

/// Key under which a procedure's number is found by its name.
#[must_use]
pub fn procedure_name_key(name: &str) -> Vec<u8> {
    named_key(PROCEDURE_NAMES, name)
}

impl Encode for ProcedureParameter {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        put_type(out, self.kind);
        put_option(out, self.default.as_ref());
    }
}

impl Decode for ProcedureParameter {
    const SIZE_MIN: usize = 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = reader.text("parameter", NAME_SIZE_MAX)?.to_owned();
        if !name.is_empty() {
            check_name(&name).map_err(|_| DecodeError::NotCanonical { what: "parameter" })?;
        }
        Ok(Self { name, kind: read_type(reader)?, default: reader.option("default")? })
    }
}

impl Encode for ProcedureSpec {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        put_list(out, &self.parameters);
        put_bytes(out, self.text.as_bytes());
        out.push(u8::from(self.is_atomic));
        put_list(out, &self.programs);
        out.push(u8::from(self.is_definer));
        self.callers.encode(out);
    }
}

impl Decode for ProcedureSpec {
    const SIZE_MIN: usize = 19;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: decode_name(reader)?,
            parameters: reader.list("parameters", ARGUMENT_COUNT_MAX)?,
            text: reader.text("procedure", VIEW_SIZE_MAX)?.to_owned(),
            is_atomic: reader.bool("atomic")?,
            programs: reader.list("programs", PROGRAM_COUNT_MAX)?,
            is_definer: reader.bool("definer")?,
            callers: Writers::decode(reader)?,
        })
    }
}

impl Encode for Relied {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&self.column_count.to_le_bytes());
        out.push(self.index_count);
        self.shape.encode(out);
    }
}

impl Decode for Relied {
    const SIZE_MIN: usize = 39;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            table: reader.u32()?,
            column_count: reader.u16()?,
            index_count: reader.u8()?,
            shape: Hash::decode(reader)?,
        })
    }
}

impl Encode for ProcedureDef {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        self.creator.encode(out);
        self.version.encode(out);
        self.spec.encode(out);
        put_list(out, &self.relied);
    }
}

impl Decode for ProcedureDef {
    const SIZE_MIN: usize = 67;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let def = Self {
            id: reader.u32()?,
            creator: AccountId::decode(reader)?,
            version: Height::decode(reader)?,
            spec: ProcedureSpec::decode(reader)?,
            relied: reader.list("tables", PROGRAM_COUNT_MAX)?,
        };
        if def.relied.is_sorted_by(|a, b| a.table < b.table) {
            Ok(def)
        } else {
            Err(DecodeError::NotCanonical { what: "tables" })
        }
    }
}

/// An argument that is not given.
const DEFAULT: u8 = 2;

impl Encode for Call {
    fn encode(&self, out: &mut Vec<u8>) {
        self.procedure.encode(out);
        put_count(out, self.arguments.len());
        for argument in &self.arguments {
            match argument {
                None => out.push(DEFAULT),
                Some((kind, value)) => put_const(out, *kind, value),
            }
        }
    }
}

impl Decode for Call {
    const SIZE_MIN: usize = 16;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let procedure = TableRef::decode(reader)?;
        let count = reader.count("arguments", ARGUMENT_COUNT_MAX, 1)?;
        let argument = |reader: &mut Reader<'_>| {
            if reader.peek() == Some(DEFAULT) {
                return reader.u8().map(|_| None);
            }
            decode_const(reader).map(Some)
        };
        let arguments = (0..count).map(|_| argument(reader)).collect::<Result<_, _>>()?;
        Ok(Self { procedure, arguments })
    }
}
