//! Types that casts may name and DataFusion has not: those whose values are texts, beside the catalog's own.
//!
//! A value keeps the text that it is given: it is checked where it is written to a column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::DataType as Ast;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;

/// Plans the types of casts.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, written: &Ast) -> Result<Option<FieldRef>> {
        match written {
            Ast::Uuid | Ast::JSON | Ast::JSONB => {
                Ok(Some(Arc::new(Field::new("", DataType::Utf8, true))))
            }
            other => PgOidTypePlanner.plan_type_field(other),
        }
    }
}
