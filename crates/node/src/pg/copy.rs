//! The conversation inside a `COPY`.
//!
//! ```text
//!  COPY … FROM STDIN   G ─> CopyData … CopyDone ─> the rows' outcome   CopyFail: 57014   Flush, Sync: passed over
//!  COPY … TO STDOUT    H ─> d … d c
//! ```
//! * One message is read at a time, and none while rows are appended: a client is as fast as the ledger.
//! * After an error, what the client still sends of it is passed over by the conversation outside.

use quipu_query::{CopyIn, CopyOut, Outcome, SqlError};
use quipu_types::code;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::connection::{Broken, Connection, Failed, Served, stopping};
use super::message::Request;
use super::start::send;

impl Connection {
    /// Reads what the client copies; what it comes to.
    pub(crate) async fn copy_in(&mut self, mut copy: CopyIn) -> Served<Outcome> {
        self.answers.copy(b'G', copy.is_binary(), copy.column_count());
        send(&mut self.socket, &mut self.answers).await?;
        if let Some(before) = copy.before.take() {
            self.write(*before).await?;
        }
        let mut appended = 0;
        match self.read_copy(&mut copy, &mut appended).await {
            Err(Failed::Sql(mut error)) if appended > 0 => {
                error.more().detail =
                    Some(format!("The first {appended} rows were written, and stay."));
                Err(Failed::Sql(error))
            }
            Err(failed) => Err(failed),
            Ok(()) => Ok(self.session.copied(&mut copy)?),
        }
    }

    async fn read_copy(&mut self, copy: &mut CopyIn, appended: &mut u64) -> Served {
        let now = Instant::now();
        let deadline = copy.time_max.and_then(|time| now.checked_add(time));
        loop {
            let at_end = match self.copy_request(deadline).await? {
                Request::CopyData(bytes) => {
                    copy.push(&bytes);
                    false
                }
                Request::CopyDone => true,
                Request::CopyFail(reason) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(SqlError::new("57014", code::SQL_LIMIT, message).into());
                }
                Request::Flush | Request::Sync => continue,
                Request::Terminate => return Err(Broken::Closed.into()),
                _ => {
                    let message = "unexpected message during COPY from stdin";
                    return Err(SqlError::new("08P01", code::BAD_REQUEST, message).into());
                }
            };
            while let Some(part) = copy.advance(at_end)? {
                self.write(part).await?;
                *appended = copy.row_count();
            }
            if at_end {
                return Ok(());
            }
        }
    }

    /// The next message; given up before its first byte only.
    async fn copy_request(&mut self, deadline: Option<Instant>) -> Served<Request> {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let kind = tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Err(Broken::Fatal(stopping()).into()),
            Ok(()) = self.ticket.canceled.changed() => return Err(SqlError::canceled().into()),
            () = late => return Err(SqlError::timeout().into()),
            kind = self.socket.read_u8() => kind.map_err(Broken::from)?,
        };
        Ok(self.request_of(kind).await?)
    }

    /// Sends what is copied; the statement's tag.
    pub(crate) async fn copy_out(&mut self, mut copy: CopyOut) -> Served<String> {
        self.answers.copy(b'H', copy.is_binary(), copy.rows.columns().len());
        let mut edge = Vec::new();
        copy.begin(&mut edge);
        // PostgreSQL sends what comes before binary rows with the first of them, and there are clients that count on it.
        if !edge.is_empty() && !copy.is_binary() {
            self.answers.message(b'd', |out| out.append(&mut edge));
        }
        let mut count: u64 = 0;
        while let Some(mut encoder) = self.batch(&mut copy.rows).await? {
            for row in 0..encoder.row_count() {
                self.answers.try_message(b'd', |out| {
                    out.append(&mut edge);
                    copy.row(&mut encoder, row, out)
                })?;
                self.send_if_many().await?;
                count = count.saturating_add(1);
            }
        }
        copy.end(&mut edge);
        if !edge.is_empty() {
            self.answers.message(b'd', |out| out.append(&mut edge));
        }
        self.answers.bare(b'c');
        Ok(format!("COPY {count}"))
    }
}
