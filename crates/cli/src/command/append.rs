//! `quipu append`: one row, a file of rows, or rows as they come.
//!
//! ```text
//!  --data     one row ─> Producer: it shares its key with whoever writes at the same time
//!  --file F   lines, checked whole ─┬─> Batcher ─> one future a line ─> reports, in the order of lines
//!  --file -   lines as they come ───┘                └─> what is appended when something fails: where to go on
//! ```

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use quipu_client::{
    AppendError, Appending, Batcher, Client, ClientError, Limits, NewEvent, Producer, SubmitAnswer,
};
use quipu_crypto::SecretKey;
use quipu_types::transaction::ROUTE_SIZE_MAX;
use quipu_types::{Schema, code};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use crate::args::Append;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Most bytes of one line.
const LINE_SIZE_MAX: u64 = 4 << 20;
/// Lines that are read ahead of standard input.
const LINE_COUNT_AHEAD: usize = 1_024;
/// Lines whose answers may wait to be reported.
const REPORT_COUNT_MAX: usize = 1 << 16;
/// Most ranges of lines that a failure names.
const RANGE_COUNT_MAX: usize = 10;

/// Appends events.
pub(crate) async fn run(args: Append) -> Result<()> {
    let key_bytes = args.event_key.as_bytes();
    if key_bytes.len() > ROUTE_SIZE_MAX {
        return Err(Failure::usage(format!(
            "--event-key has {} bytes, the most is {ROUTE_SIZE_MAX}",
            key_bytes.len()
        )));
    }
    let client = tools::client(&args.server)?.with_ack(args.ack.into());
    let key = tools::signer(&args.signer.signer)?;
    let info = client.stream(&args.stream).await?;
    let schema = Schema::parse(&info.schema)?;
    match (&args.data, &args.file) {
        (Some(data), _) => {
            let route_by = info.route_by.as_deref().and_then(|column| schema.index_of(column));
            let (route, event) = read_routed_row(&schema, route_by, key_bytes, data)
                .map_err(|reason| Failure::new(code::BAD_INPUT, format!("--data: {reason}")))?;
            append_one(&args, &client, &key, route, event).await
        }
        (None, Some(path)) => {
            let reader = Lines { schema, event_key: key_bytes.to_vec(), from: args.from_line };
            let complaint_after = args.complain_after.time();
            let limits = Limits { batch_count: args.batch, complaint_after, ..Limits::default() };
            let batcher = Batcher::new(Arc::new(client), Arc::new(key), limits).await?;
            if path == Path::new("-") {
                let (sender, lines) = mpsc::channel(LINE_COUNT_AHEAD);
                // A thread of its own, which nobody waits for: it may hang on a terminal when the command is done.
                std::thread::spawn(move || reader.follow(std::io::stdin(), &sender));
                append_all(&args, &batcher, Source::Input(lines)).await
            } else {
                let text = tools::read_text(path, "file")?;
                let rows = reader.read(&text).map_err(|(line, reason)| {
                    let message = format!("{}: line {line}: {reason}", path.display());
                    Failure::new(code::BAD_INPUT, message)
                })?;
                append_all(&args, &batcher, Source::File(rows.into_iter())).await
            }
        }
        (None, None) => Err(Failure::usage("give --data or --file")),
    }
}

async fn append_one(
    args: &Append,
    client: &Client,
    key: &SecretKey,
    route: Option<Vec<u8>>,
    event: NewEvent,
) -> Result<()> {
    let producer = Producer::new(client, key).await?;
    let mut producer = producer.complaining_after(args.complain_after.time());
    for answer in producer.append(&args.stream, route, vec![event], 1).await? {
        if let Some(failure) = tools::refusal(&answer) {
            return Err(failure);
        }
        report(&answer, 1, args.json)?;
    }
    Ok(())
}

/// A row with its 1-based line, or why the line holds none.
type Row = (usize, Result<NewEvent, String>);

/// Where rows come from.
enum Source {
    File(std::vec::IntoIter<(usize, NewEvent)>),
    Input(mpsc::Receiver<Row>),
}

impl Source {
    async fn next(&mut self) -> Option<Row> {
        match self {
            Self::File(rows) => rows.next().map(|(line, event)| (line, Ok(event))),
            Self::Input(lines) => lines.recv().await,
        }
    }

    /// How many rows there are, when that is known.
    fn count(&self) -> Option<u64> {
        match self {
            Self::File(rows) => u64::try_from(rows.len()).ok(),
            Self::Input(_) => None,
        }
    }
}

/// Hands every row over, while the answers are reported.
async fn append_all(args: &Append, batcher: &Batcher, mut source: Source) -> Result<()> {
    let bar = source.count().map_or_else(
        || screen::spinner("appending standard input"),
        |count| screen::bar("appending", count),
    );
    let (sender, answers) = mpsc::channel(REPORT_COUNT_MAX);
    let hand_over = async move {
        while let Some((line, row)) = source.next().await {
            let sent = match row {
                Ok(event) => batcher.send(&args.stream, event).await.map_err(failure_of),
                Err(reason) => Err(Failure::new(code::BAD_INPUT, reason)),
            };
            let is_last = sent.is_err();
            // Whoever reports ends only after this.
            if sender.send((line, sent)).await.is_err() || is_last {
                break;
            }
        }
        drop(sender);
        batcher.flush().await
    };
    let mut told = Told::default();
    let (flushed, reported) = tokio::join!(hand_over, told.report(args, answers, &bar));
    bar.finish_and_clear();
    reported?;
    match told.failure() {
        Some(failure) => Err(failure),
        None => flushed.map_err(failure_of),
    }
}

/// What became of the lines.
#[derive(Default)]
struct Told {
    /// Ranges of lines that are appended, with nothing but blank lines in each; the last may grow.
    appended: Vec<(usize, usize)>,
    /// Whether the line before is appended.
    grows: bool,
    first_failed: Option<(usize, Failure)>,
    failed_count: usize,
    /// Whether some line may be appended or not.
    is_unknown: bool,
    last_line: usize,
}

impl Told {
    async fn report(
        &mut self,
        args: &Append,
        mut answers: mpsc::Receiver<(usize, Result<Appending>)>,
        bar: &indicatif::ProgressBar,
    ) -> Result<()> {
        while let Some((line, sent)) = answers.recv().await {
            self.last_line = line;
            let done = match sent {
                Ok(appending) => appending.await,
                Err(failure) => {
                    self.fail(line, failure);
                    continue;
                }
            };
            match done {
                Ok(appended) => {
                    self.append(line);
                    bar.inc(1);
                    let count = appended.event_count();
                    if appended.action().saturating_add(1) == count {
                        bar.suspend(|| report(appended.answer(), count, args.json))?;
                    }
                }
                Err(error) => {
                    self.is_unknown |= !matches!(error, AppendError::Refused { .. });
                    self.fail(line, failure_of(error));
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, line: usize) {
        match self.appended.last_mut() {
            Some((_, last)) if self.grows => *last = line,
            _ => self.appended.push((line, line)),
        }
        self.grows = true;
    }

    fn fail(&mut self, line: usize, failure: Failure) {
        self.grows = false;
        self.failed_count = self.failed_count.saturating_add(1);
        self.first_failed.get_or_insert((line, failure));
    }

    /// Why not all is appended, and where to go on.
    fn failure(self) -> Option<Failure> {
        let (line, failure) = self.first_failed?;
        let ranges: Vec<String> = self
            .appended
            .iter()
            .take(RANGE_COUNT_MAX)
            .map(|(first, last)| {
                if first == last {
                    format!("line {first}")
                } else {
                    format!("lines {first} to {last}")
                }
            })
            .collect();
        let mut help = match ranges.len() {
            0 => "Nothing of what was read is appended.".to_owned(),
            _ => format!("Appended: {}", ranges.join(", ")),
        };
        let left_out = self.appended.len().saturating_sub(RANGE_COUNT_MAX);
        if left_out > 0 {
            help.push_str(&format!(", and {left_out} ranges more"));
        }
        let go_on = if self.is_unknown {
            format!(
                "Of the others up to line {} it is not known: look with quipu tail, then go on with --from-line {line}.",
                self.last_line
            )
        } else if self.failed_count == 1 && line == self.last_line {
            format!("Mend line {line} and go on with --from-line {line}.")
        } else {
            format!(
                "Mend what is left of the lines up to {}, append it, and go on with --from-line {}.",
                self.last_line,
                self.last_line.saturating_add(1)
            )
        };
        Some(failure.of(&format!("line {line}")).and_help(&help).and_help(&go_on))
    }
}

/// A failure for people.
pub(crate) fn failure_of(error: AppendError) -> Failure {
    let message = error.to_string();
    match error {
        AppendError::Refused { code, .. } => Failure::new(code, message),
        AppendError::Undelivered { .. } => Failure::new(code::UNREACHABLE, message),
        AppendError::Fenced => Failure::new(code::FENCED, message)
            .with_help("One process writes with a key: make another with quipu keys new."),
        AppendError::Client(error) => match &*error {
            ClientError::FalseHeader { error, .. } => Failure::is_false(error.code(), message),
            _ => Failure::new(code::UNREACHABLE, message),
        },
        _ => Failure::new(code::UNREACHABLE, message),
    }
}

/// Lines of JSON objects to rows of a stream.
struct Lines {
    schema: Schema,
    event_key: Vec<u8>,
    /// The first line that is read, 1-based.
    from: usize,
}

impl Lines {
    /// All rows of a text; the first bad line ends it.
    fn read(&self, text: &str) -> Result<Vec<(usize, NewEvent)>, (usize, String)> {
        let mut rows = Vec::new();
        for (text, line) in text.lines().zip(1_usize..) {
            if line >= self.from && !text.trim().is_empty() {
                let event = self.row(text).map_err(|reason| (line, reason))?;
                rows.push((line, event));
            }
        }
        Ok(rows)
    }

    /// Rows as their lines come; the first bad line ends it.
    fn follow(&self, input: impl Read, rows: &mpsc::Sender<Row>) {
        let mut input = BufReader::new(input);
        for line in 1_usize.. {
            let mut bytes = Vec::new();
            let read = (&mut input).take(LINE_SIZE_MAX).read_until(b'\n', &mut bytes);
            let text = std::str::from_utf8(&bytes).map(str::trim);
            let row = match (read, text) {
                (Ok(0), _) => return,
                // The last line may end without a newline; one that was cut short is no line.
                (Ok(size), _) if line < self.from && is_whole(size, &bytes) => continue,
                (Ok(_), Ok("")) => continue,
                (Ok(_), Ok(text)) => self.row(text),
                (Ok(_), Err(error)) => Err(format!("not UTF-8: {error}")),
                (Err(error), _) => Err(format!("standard input: {error}")),
            };
            let is_last = row.is_err();
            if rows.blocking_send((line, row)).is_err() || is_last {
                return;
            }
        }
    }

    fn row(&self, text: &str) -> Result<NewEvent, String> {
        read_row(&self.schema, &self.event_key, text)
    }
}

/// Whether what was read is a line, and not the beginning of one that is too long.
fn is_whole(size: usize, bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n") || u64::try_from(size) != Ok(LINE_SIZE_MAX)
}

fn read_row(schema: &Schema, key: &[u8], text: &str) -> Result<NewEvent, String> {
    let row: Json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let payload = schema.row_from_json(&row).map_err(|error| error.to_string())?;
    Ok(NewEvent { key: key.to_vec(), payload })
}

fn read_routed_row(
    schema: &Schema,
    route_by: Option<usize>,
    key: &[u8],
    text: &str,
) -> Result<(Option<Vec<u8>>, NewEvent), String> {
    let event = read_row(schema, key, text)?;
    let Some(column) = route_by else { return Ok((None, event)) };
    let route = schema.route_bytes(&event.payload, column).map_err(|error| error.to_string())?;
    if route.len() > ROUTE_SIZE_MAX {
        return Err(format!("route has {} bytes, the most is {ROUTE_SIZE_MAX}", route.len()));
    }
    Ok((Some(route), event))
}

fn report(answer: &SubmitAnswer, event_count: u32, json: bool) -> Result<()> {
    if json {
        let mut line = serde_json::json!(answer);
        if let Json::Object(line) = &mut line {
            line.insert("events".into(), event_count.into());
        }
        return tools::print(&line.to_string());
    }
    let events = if event_count == 1 { String::new() } else { format!("  {event_count} events") };
    tools::print(&format!(
        "position {}  height {}  tx {}{events}",
        answer.position.as_deref().unwrap_or_default(),
        answer.height.unwrap_or_default(),
        answer.tx
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: usize) -> Lines {
        let schema = Schema::parse("name text not null, age int2").expect("a schema");
        Lines { schema, event_key: b"k".to_vec(), from }
    }

    #[test]
    fn a_bad_line_is_named_with_its_number_and_reason() {
        let text = "{\"name\":\"a\"}\n\n{\"name\":\"b\",\"age\":70000}\n";
        let (line, reason) = lines(1).read(text).expect_err("age is too large");
        assert_eq!((line, reason.as_str()), (3, "column \"age\": 70000 is not of type int2"));
        let (line, reason) = lines(1).read("{\"nam\":1}").expect_err("unknown");
        assert_eq!((line, reason.as_str()), (1, "no column \"nam\""));
        assert!(lines(1).read("{").is_err());
    }

    #[test]
    fn a_pipe_is_read_as_a_file_is() {
        let text = "{\"name\":\"a\",\"age\":1}\n{\"name\":\"b\"}\n\n{\"name\":\"a\",\"age\":2}";
        for from in 1..6 {
            let file = lines(from).read(text).expect("good rows");
            let (sender, mut rows) = mpsc::channel(8);
            lines(from).follow(text.as_bytes(), &sender);
            drop(sender);
            for (line, event) in file {
                let (other, row) = rows.try_recv().expect("as many");
                let row = row.expect("a row");
                assert_eq!((line, &event.payload, &event.key), (other, &row.payload, &row.key));
            }
            assert!(rows.try_recv().is_err());
        }
        let (sender, mut rows) = mpsc::channel(8);
        lines(1).follow(&b"{}\n{\"name\":\"b\"}"[..], &sender);
        let (line, row) = rows.try_recv().expect("the bad line");
        assert!(line == 1 && row.is_err() && rows.try_recv().is_err(), "nothing follows it");
    }

    #[test]
    fn a_failure_says_what_is_appended_and_where_to_go_on() {
        let mut told = Told::default();
        for line in [1, 2, 4] {
            told.append(line);
        }
        told.fail(5, Failure::new(code::BAD_INPUT, "no column \"nam\""));
        told.last_line = 5;
        let failure = told.failure().expect("a line failed");
        assert_eq!(failure.message(), "line 5: no column \"nam\"");
        let said = format!("{failure:?}");
        assert!(said.contains("Appended: lines 1 to 4"), "{said}");
        assert!(said.contains("go on with --from-line 5"), "{said}");
        assert!(Told::default().failure().is_none());
    }
}
