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
        "ready: http http://{}  grpc {}  pg {}  admin http://{}",
        at.http, at.http, at.pg, at.admin
    ))?;
    let until_input_ends = args.until_input_ends;
    let stopped = async move {
        let asked = async {
            if let Err(failure) = asked_to_stop().await {
                failure.report();
            }
        };
        tokio::select! {
            () = asked => {}
            () = input_ended(), if until_input_ends => {}
        }
    };
    Ok(tools::runtime()?.block_on(node.run(stopped))?)
}

/// Ends when nobody holds the other end of standard input any more.
async fn input_ended() {
    let (ended, wait) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own: the runtime would wait at its end for a read that may never return.
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        drop(ended);
    });
    drop(wait.await);
}
