//! `quipu explain`: what a code means, why it comes, what to do next.

use quipu_types::code::CODES;
use quipu_types::{Code, code};

use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Explains one code, or lists all.
pub(crate) fn run(code: Option<&str>) -> Result<()> {
    let Some(text) = code else {
        for entry in CODES {
            tools::print(&format!("{}  {}", screen::bold(&entry.code.to_string()), entry.title))?;
        }
        return Ok(());
    };
    let code: Code = text.to_ascii_uppercase().parse().map_err(|_| {
        Failure::usage(format!("there is no code {text:?}"))
            .with_help(format!("Codes look like {}; quipu explain lists all.", code::PORT))
    })?;
    let entry = code.explanation();
    tools::print(&format!("{}: {}", screen::bold(&code.to_string()), entry.title))?;
    tools::print("")?;
    tools::print(entry.text)
}
