//! `quipu bench`.

use clap::{Args, Subcommand};

use crate::local;

/// `quipu bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure how many events a second are ordered, committed, stored and executed.
    #[command(
        alias = "ingest",
        after_help = "Examples:\n  quipu bench produce --json\n  quipu bench produce --validators 4 --batch 1000\n  quipu bench produce --validators 4 --batch 1000 --rate 20000    latency below the full rate\n  quipu bench produce --batch 1000 --linger 5    events one by one, as a program has them\n  quipu bench produce --url U1,U2 --batch 1000 --producers 4\n\nWithout --url it starts a ledger of its own, each validator another process, in a temporary\ndirectory. Producers are spread over the validators. Without --batch or --producers it measures\nbatches of 1, 100 and 1,000 with 1 and 4 producers a validator. An answer counts when its events\nare final, durable on a quorum and executed."
    )]
    Produce(Produce),
    /// Measure how fast a consumer reads that checks every event, alone and with others.
    #[command(
        after_help = "Examples:\n  quipu bench consume --json\n  quipu bench consume --consumers 100 --idle 1000\n\nIt starts a ledger of its own, fills it, and reads all of it over sockets, each byte checked against the genesis."
    )]
    Consume(Consume),
    /// Measure how soon a consumer goes on from a cursor.
    Resume(Resume),
    /// Show this machine's kernels for hashes and signatures, and measure them on one core.
    #[command(
        after_help = "Examples:\n  quipu bench accel\n  QUIPU_ACCEL=scalar quipu bench accel    the same without wide kernels\n\nQUIPU_ACCEL is auto, scalar, shani, avx2 or avx512, for every command. Results never depend on it."
    )]
    Accel(BenchAccel),
}

/// `quipu bench consume`.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// Validators of the ledger that is started.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) validators: usize,
    /// Events.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) events: u64,
    /// Events of one transaction.
    #[arg(long, value_name = "B", default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// Bytes of an event.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub(crate) size: usize,
    /// Consumers that follow while as many events come again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) consumers: usize,
    /// Consumers that wait at the end.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) idle: usize,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu bench resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Validators of the ledger that is started.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) validators: usize,
    /// Events.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub(crate) events: u64,
    /// Events of one transaction.
    #[arg(long, value_name = "B", default_value_t = 100)]
    pub(crate) batch: usize,
    /// How many cursors are resumed.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) times: usize,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu bench accel`.
#[derive(Debug, Args)]
pub(crate) struct BenchAccel {
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu bench produce`.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// HTTP addresses of a running ledger, with commas between them.
    #[arg(long = "url", value_name = "U1,U2,…")]
    pub(crate) urls: Option<String>,
    /// Validators of the ledger that is started.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "urls")]
    pub(crate) validators: usize,
    /// Hashes a second of each lane's clock, or the name of a rate: see `quipu genesis new --help`.
    #[arg(long, value_name = "HZ", default_value = "dev", value_parser = local::clock_rate, conflicts_with = "urls")]
    pub(crate) clock_rate: u64,
    /// Events of each measurement [default: about five seconds' worth].
    #[arg(long, value_name = "N")]
    pub(crate) events: Option<u64>,
    /// Bytes of an event's row.
    #[arg(long, default_value_t = 200)]
    pub(crate) size: usize,
    /// Events of one transaction.
    #[arg(long, value_name = "B")]
    pub(crate) batch: Option<usize>,
    /// Producers, each with a key of its own.
    #[arg(long, value_name = "P")]
    pub(crate) producers: Option<usize>,
    /// Events a second to keep to, over all producers; latency counts from when each was due [default: as many as go].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Batches of a producer that wait for their answers at most [default: 256, 32 or 8, by the batch's size].
    #[arg(long, value_name = "N", conflicts_with = "linger", value_parser = clap::value_parser!(u64).range(1..=4_096))]
    pub(crate) in_flight: Option<u64>,
    /// Hand events over one by one, to be gathered for at most this long; latency is each event's own
    /// [default: batches are made beforehand].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub(crate) linger: Option<u64>,
    /// Rows of words, compressed on their way [default: rows of noise, as they are].
    #[arg(long)]
    pub(crate) compress: bool,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}
