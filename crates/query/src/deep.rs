//! Work on a stack of its own: what a client writes may nest deeper than a worker thread's stack carries.
//!
//! ```text
//!  run(work) ─> a thread that rests, else a new one ─> work ─> rests again, if few do; else ends
//! ```
//! Parsers and planners recurse once a level of the text. The text's size is bounded (`statement`), so that the
//! deepest one fits [`STACK_SIZE`]; only touched pages cost memory. A panic in the work is an error of the
//! statement, not of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quipu_types::code;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::SqlError;

/// Address space of the stack.
const STACK_SIZE: usize = 256 << 20;
/// Most threads that rest: they spare their making, a statement's most costly part where it is short.
const RESTING_COUNT_MAX: usize = 8;

type Work = Box<dyn FnOnce() + Send>;

/// Where the threads that rest wait for work.
static RESTING: Mutex<Vec<Sender<Work>>> = Mutex::new(Vec::new());

fn resting() -> MutexGuard<'static, Vec<Sender<Work>>> {
    RESTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a deep stack, inside the caller's runtime.
pub(crate) async fn run<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, SqlError> + Send + 'static,
) -> Result<R, SqlError> {
    let (sender, receiver) = oneshot::channel();
    let handle = Handle::current();
    let begun = begin(Box::new(move || {
        let _inside = handle.enter();
        // No one waits any more for a statement that took too long.
        let _unheard = sender.send(work());
    }));
    if let Err(error) = begun {
        let message = format!("no thread for the statement: {error}");
        return Err(SqlError::new("53000", code::SQL_LIMIT, message));
    }
    receiver.await.unwrap_or_else(|_| {
        let message = "the statement failed inside the planner";
        Err(SqlError::new("XX000", code::SQL_UNSUPPORTED, message))
    })
}

fn begin(mut work: Work) -> std::io::Result<()> {
    loop {
        let rested = resting().pop();
        let Some(thread) = rested else { break };
        match thread.send(work) {
            Ok(()) => return Ok(()),
            Err(unsent) => work = unsent.0,
        }
    }
    let thread = std::thread::Builder::new().name("quipu-plan".into()).stack_size(STACK_SIZE);
    thread.spawn(move || serve(work)).map(drop)
}

/// Does one work after the other, as long as few others rest.
fn serve(first: Work) {
    let (sender, receiver) = channel();
    let mut next = Some(first);
    while let Some(work) = next {
        // A panic has dropped the work's sender: whoever waits hears of it.
        let _failed = catch_unwind(AssertUnwindSafe(work));
        let mut resting = resting();
        if resting.len() >= RESTING_COUNT_MAX {
            return;
        }
        resting.push(sender.clone());
        drop(resting);
        next = receiver.recv().ok();
    }
}
