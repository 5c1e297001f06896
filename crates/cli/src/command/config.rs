//! `quipu config check`.

use std::path::Path;

use quipu_node::Config;
use quipu_types::code;

use crate::failure::{Failure, Result};
use crate::tools;

/// Checks a configuration file.
pub(crate) fn run(file: &Path) -> Result<()> {
    let text = tools::read_text(file, "configuration file")?;
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    let config = Config::from_toml(&text, dir)
        .map_err(|reason| Failure::new(code::CONFIG, format!("{}: {reason}", file.display())))?;
    tools::print(&format!(
        "{} is good: http {}, pg {}, admin {}, peer {}, {} peers",
        file.display(),
        config.listen.http,
        config.listen.pg,
        config.listen.admin,
        config.listen.peer,
        config.peers.len()
    ))
}
