//! `quipu sql`: one statement, its rows as a table or as JSON.

use serde_json::Value as Json;

use crate::args::Sql;
use crate::failure::Result;
use crate::{screen, tools};

/// Asks a question.
pub(crate) async fn run(args: Sql) -> Result<()> {
    let answer = tools::client(&args.server)?.sql(&args.query).await?;
    if args.json {
        return tools::print(&serde_json::json!(answer).to_string());
    }
    let head: Vec<String> = answer.columns.iter().map(|column| column.name().to_owned()).collect();
    let rows: Vec<Vec<String>> =
        answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    tools::print(&screen::table(&head, &rows))?;
    let plural = if rows.len() == 1 { "" } else { "s" };
    tools::print(&screen::dim(&format!("({} row{plural})", rows.len())))
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
