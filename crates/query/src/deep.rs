//! Work on a stack of its own: what a client writes may nest deeper than a worker thread's stack carries.
//!
//! Parsers and planners recurse once a level of the text. The text's size is bounded (`statement`), so that the
//! deepest one fits [`STACK_SIZE`]; only touched pages cost memory. A panic in the work is an error of the
//! statement, not of the process.

use quipu_types::code;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::SqlError;

/// Address space of the stack.
const STACK_SIZE: usize = 256 << 20;

/// Runs `work` on a deep stack, inside the caller's runtime.
pub(crate) async fn run<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, SqlError> + Send + 'static,
) -> Result<R, SqlError> {
    let (sender, receiver) = oneshot::channel();
    let handle = Handle::current();
    let spawned = std::thread::Builder::new()
        .name("quipu-plan".into())
        .stack_size(STACK_SIZE)
        .spawn(move || {
            let _inside = handle.enter();
            // No one waits any more for a statement that took too long.
            let _unheard = sender.send(work());
        });
    if let Err(error) = spawned {
        let message = format!("no thread for the statement: {error}");
        return Err(SqlError::new("53000", code::SQL_LIMIT, message));
    }
    receiver.await.unwrap_or_else(|_| {
        let message = "the statement failed inside the planner";
        Err(SqlError::new("XX000", code::SQL_UNSUPPORTED, message))
    })
}
