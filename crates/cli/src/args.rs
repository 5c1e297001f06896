//! What people type: every command with its flags, and an example for each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use quipu_types::Suite;

const ABOUT: &str = "A ledger that many keep and none controls: ordered, timed, committed, proven.";
const FIRST_STEPS: &str = "\
First steps:
  quipu dev                                         a ledger with real data, on this machine
  psql \"$PG\" -c 'select count(*) from flights'      ask it (dev prints the address)
  quipu prove --url U TX > bundle.json              take a proof of one event
  quipu verify --genesis D/genesis.json bundle.json check it, offline

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was checked is false or damaged.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, about = ABOUT, after_help = FIRST_STEPS, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a ledger on this machine, with real data, to try things out.
    #[command(
        after_help = "Example:\n  quipu dev --dir ./quipu-dev\n\nAn existing directory is continued; a restart loses nothing."
    )]
    Dev(Dev),
    /// Make a ledger's genesis, keys and configuration, for development.
    #[command(
        after_help = "Example:\n  quipu init --dir ./ledger --validators 1\n  quipu start --dir ./ledger/node0"
    )]
    Init(Init),
    /// Run one validator.
    #[command(
        after_help = "Example:\n  quipu start --dir ./ledger/node0\n\nCtrl-C or SIGTERM stops it; nothing acknowledged is lost, however it stops."
    )]
    Start(Start),
    /// Make and look at key files.
    #[command(subcommand)]
    Keys(Keys),
    /// Create streams.
    #[command(subcommand)]
    Stream(Stream),
    /// Append events to a stream.
    #[command(
        after_help = "Examples:\n  quipu append --url U --signer dev.key --stream notes --data '{\"body\":\"hello\"}'\n  quipu append --url U --signer dev.key --stream notes --file notes.jsonl\n\nA file has one JSON object a line. It is read and checked whole before anything is appended."
    )]
    Append(Append),
    /// Print a stream's events in the ledger's order.
    #[command(
        after_help = "Examples:\n  quipu tail --url U --stream notes\n  quipu tail --url U --stream notes --from 3:120 --follow --json\n\n--from takes the position of the last transaction that you have; what follows it is printed."
    )]
    Tail(Tail),
    /// Ask a question in SQL.
    #[command(
        after_help = "Example:\n  quipu sql --url U \"select carrier, count(*) from flights group by 1 order by 2 desc\""
    )]
    Sql(Sql),
    /// Fetch the proof of a transaction, or of one of its actions.
    #[command(
        after_help = "Example:\n  quipu prove --url U TX:0 > bundle.json\n\nTX is what append prints and what the column _tx holds."
    )]
    Prove(Prove),
    /// Verify a proof, offline: only the bundle and the genesis are needed.
    #[command(
        after_help = "Example:\n  quipu verify --genesis ./quipu-dev/genesis.json bundle.json\n\nA false proof exits 3 and says what is wrong with it."
    )]
    Verify(Verify),
    /// Say how a validator is.
    #[command(after_help = "Example:\n  quipu status --url http://127.0.0.1:8433")]
    Status(Status),
    /// Verify everything that a validator has stored.
    #[command(
        after_help = "Example:\n  quipu check --dir ./quipu-dev/node0\n\nReads only. Damage exits 3 and names the file, the lane and the number, or the header."
    )]
    Check(Check),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Run a simulated world with faults; a seed replays exactly.
    #[command(
        after_help = "Examples:\n  quipu sim --seeds 1000 --profile long\n  quipu sim --seed 17 --trace"
    )]
    Sim(Sim),
    /// Look at configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  quipu completions bash > ~/.local/share/bash-completion/completions/quipu"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Explain an error code.
    #[command(after_help = "Example:\n  quipu explain QP0603")]
    Explain {
        /// The code, or none for a list of all.
        code: Option<String>,
    },
}

/// `quipu dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where the ledger lives; made when it is not there.
    #[arg(long, value_name = "D", default_value = "quipu-dev")]
    pub(crate) dir: PathBuf,
    /// How many validators.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) validators: usize,
    /// Load no sample.
    #[arg(long)]
    pub(crate) no_sample: bool,
    /// Write the addresses here, as JSON, when everything is ready.
    #[arg(long, value_name = "F")]
    pub(crate) url_file: Option<PathBuf>,
    /// Port of the PostgreSQL wire; 0: any free one [default: 5433 or the next free one].
    #[arg(long, value_name = "PORT")]
    pub(crate) pg: Option<u16>,
    /// Port of the HTTP interface; 0: any free one [default: 8433 or the next free one].
    #[arg(long, value_name = "PORT")]
    pub(crate) http: Option<u16>,
    /// Flip one stored byte, show who notices and what they say, put it back, and end.
    #[arg(long)]
    pub(crate) tamper: bool,
}

/// `quipu init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Directory to make.
    #[arg(long, value_name = "D")]
    pub(crate) dir: PathBuf,
    /// How many validators.
    #[arg(long, value_name = "N")]
    pub(crate) validators: usize,
    /// Stake of each validator [default: 1 each].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) stake: Vec<u64>,
    /// First port: HTTP there, PostgreSQL and admin on the next two; 0: any free ones.
    #[arg(long, value_name = "P")]
    pub(crate) base_port: Option<u16>,
}

/// `quipu start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The validator's directory, with its config.toml.
    #[arg(long, value_name = "D/node0")]
    pub(crate) dir: PathBuf,
}

/// `quipu keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key file, readable by its owner only.
    #[command(after_help = "Example:\n  quipu keys new --out me.key --passphrase")]
    New {
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The signature suite.
        #[arg(long, value_enum, default_value_t = SuiteName::Ed25519Sha256)]
        suite: SuiteName,
        /// Ask for a passphrase to seal the file with.
        #[arg(long)]
        passphrase: bool,
    },
    /// Print the public key and the account of a key file.
    #[command(after_help = "Example:\n  quipu keys show me.key")]
    Show {
        /// The file.
        file: PathBuf,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
}

/// A suite by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SuiteName {
    /// ed25519 over the message.
    Ed25519Sha256,
    /// ed25519 over the message's BLAKE2b.
    Ed25519Blake2b,
    /// secp256k1 over the message's keccak.
    Secp256k1Keccak,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::Ed25519Sha256 => Self::Ed25519Sha256,
            SuiteName::Ed25519Blake2b => Self::Ed25519Blake2b,
            SuiteName::Secp256k1Keccak => Self::Secp256k1Keccak,
        }
    }
}

/// Which ledger to talk to.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// HTTP address of a validator, or several with commas between them.
    #[arg(long = "url", value_name = "U")]
    pub(crate) urls: String,
}

/// Who signs.
#[derive(Debug, Args)]
pub(crate) struct Signer {
    /// The key file to sign with.
    #[arg(long, value_name = "FILE")]
    pub(crate) signer: PathBuf,
}

/// `quipu stream`.
#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Create a stream with typed columns.
    #[command(
        after_help = "Example:\n  quipu stream create --url U --signer dev.key readings \\\n    --schema \"sensor text not null, at timestamptz not null, celsius numeric(6,2)\" --route-by sensor\n\nTypes: bool, int2, int4, int8, numeric(p,s), text, bytea, date, timestamptz, uuid, jsonb, float8.\nEvents with the same route are kept in order; without --route-by the route is who signs."
    )]
    Create {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        signer: Signer,
        /// The stream's name.
        name: String,
        /// Columns: `name type [not null], …`.
        #[arg(long)]
        schema: String,
        /// The column that routes.
        #[arg(long, value_name = "COL")]
        route_by: Option<String>,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
}

/// `quipu append`.
#[derive(Debug, Args)]
pub(crate) struct Append {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// The stream.
    #[arg(long, value_name = "S")]
    pub(crate) stream: String,
    /// A key to find the events by later.
    #[arg(long, value_name = "K", default_value = "")]
    pub(crate) event_key: String,
    /// One row, as a JSON object.
    #[arg(long, value_name = "JSON", conflicts_with = "file", required_unless_present = "file")]
    pub(crate) data: Option<String>,
    /// A file with one row a line, as JSON objects; `-` reads standard input.
    #[arg(long, value_name = "F.jsonl")]
    pub(crate) file: Option<PathBuf>,
    /// Most events of one transaction.
    #[arg(long, value_name = "B", default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The stream.
    #[arg(long, value_name = "S")]
    pub(crate) stream: String,
    /// Begin after this transaction.
    #[arg(long, value_name = "LANE:SEQNO")]
    pub(crate) from: Option<String>,
    /// Go on with new events until stopped.
    #[arg(long)]
    pub(crate) follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu sql`.
#[derive(Debug, Args)]
pub(crate) struct Sql {
    #[command(flatten)]
    pub(crate) server: Server,
    /// One statement.
    pub(crate) query: String,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The transaction's name, or one of its actions.
    #[arg(value_name = "TX[:ACTION]")]
    pub(crate) tx: String,
}

/// `quipu verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The genesis file that you trust.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The bundle; `-` reads standard input.
    pub(crate) bundle: PathBuf,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The validator's directory.
    #[arg(long, value_name = "D/node0")]
    pub(crate) dir: PathBuf,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Check in this very process: what `check` starts, to outlive a store that ends its reader.
    #[arg(long, hide = true)]
    pub(crate) in_process: bool,
}

/// `quipu bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure how many events a second are ordered, committed, stored and executed.
    #[command(
        after_help = "Examples:\n  quipu bench ingest --json\n  quipu bench ingest --url U --batch 1000 --producers 4\n\nWithout --url it starts a ledger of its own, as another process, in a temporary directory. Without\n--batch or --producers it measures batches of 1, 100 and 1,000 with 1 and 4 producers."
    )]
    Ingest(Ingest),
}

/// `quipu bench ingest`.
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// HTTP addresses of a running ledger, with commas between them.
    #[arg(long = "url", value_name = "U1,U2,…")]
    pub(crate) urls: Option<String>,
    /// Validators of the ledger that is started.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "urls")]
    pub(crate) validators: usize,
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
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu sim`.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// How many worlds.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seeds: u64,
    /// The first seed, or the only one.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print everything that happens.
    #[arg(long)]
    pub(crate) trace: bool,
    /// How long each world lives.
    #[arg(long, value_enum, default_value_t = SimProfile::Short)]
    pub(crate) profile: SimProfile,
}

/// How long a world lives.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SimProfile {
    /// 500 turns with faults, as in the tests.
    Short,
    /// 10,000 turns with faults.
    Long,
}

/// `quipu config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file.
    #[command(after_help = "Example:\n  quipu config check ./ledger/node0/config.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
}
