//! `quipu start`: one validator process, until it is asked to stop.

use quipu_node::{Config, Node};

use crate::args::Start;
use crate::failure::Result;
use crate::tools;
use crate::validator::{asked_to_stop, log_to};

/// Runs a validator.
pub(crate) fn run(args: &Start) -> Result<()> {
    let config = Config::read(&args.dir)?;
    log_to(None, &config)?;
    let node = Node::open(config)?;
    let at = node.running();
    tools::print(&format!(
        "ready: http http://{}  pg {}  admin http://{}",
        at.http, at.pg, at.admin
    ))?;
    let stopped = async {
        if let Err(failure) = asked_to_stop().await {
            failure.report();
        }
    };
    Ok(tools::runtime()?.block_on(node.run(stopped))?)
}
