//! What people type: every command with its flags, and an example for each.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use quipu_client::Ack;
use quipu_types::{AccountId, Suite};

use self::rules::Rules;
use crate::{local, tools};

mod bench;
mod clock;
pub(crate) mod rules;
pub(crate) mod stake;
pub(crate) mod validators;

pub(crate) use bench::{Bench, BenchAccel, Consume, Produce, Resume};
pub(crate) use clock::{Before, Clock, ClockCommand};

const ABOUT: &str = "A ledger that many keep and none controls: ordered, timed, committed, proven.";
const FIRST_STEPS: &str = "\
First steps:
  quipu dev                                         a ledger with real data, on this machine
  psql \"$PG\" -c 'select count(*) from flights'      ask it (dev prints the address)
  quipu prove --url U TX > bundle.json              take a proof of one event
  quipu verify --genesis D/genesis.json bundle.json check it, offline

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was checked is false or damaged.";

const CEREMONY: &str = "\
The ceremony, for members who exchange files in any way they like; no private key ever leaves its owner:
  1. one:   quipu genesis new --dir . --name 'Our ledger'          -> genesis.draft.json, for all
  2. each:  quipu keys new --out bank-a.key
            quipu genesis join --genesis genesis.draft.json --name bank-a --key bank-a.key \\
                --power 1 --address quipu.bank-a.example:8642      -> bank-a.join.json, for all
  3. each:  quipu genesis merge genesis.draft.json *.join.json --out genesis.json
            everyone gets the same file; compare the chain id that it prints
  4. each:  quipu genesis sign --genesis genesis.json --key bank-a.key  -> bank-a.sign.json, for all
  5. each:  quipu genesis verify --genesis genesis.json *.sign.json     all signed the same genesis
  6. each:  quipu init --dir ./validator --genesis genesis.json --key bank-a.key --peers *.join.json
            quipu start --dir ./validator";

const GATEWAY: &str = "\
Example, beside a running quipu dev:
  quipu gateway --genesis quipu-dev/genesis.json --dir ./gateway --pg 127.0.0.1:5440 \\
      --validator http://127.0.0.1:8433 --validator http://127.0.0.1:8434 \\
      --role dev=quipu-dev/keys/dev.key
  psql postgresql://dev@127.0.0.1:5440/quipu

It fetches every committed block, checks certificates, links and signatures against the genesis,
executes it here, and answers from that. What you write is signed here and posted to a validator;
the answer comes when this process has verified and executed the block that holds it. A validator
that sends anything false is named and not asked again; the next one is.

The directory holds the verified ledger; keys stay where they are. A restart goes on where it
stopped. Ctrl-C or SIGTERM stops it; nothing is lost, however it stops.";

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
        after_help = "Examples:\n  quipu dev --dir ./quipu-dev\n  quipu dev --validators 1\n\nAll validators run in this process, each with a directory and ports of its own. An existing\ndirectory is continued with the validators that it has; a restart loses nothing."
    )]
    Dev(Dev),
    /// Make a ledger's genesis, keys and configuration, for development; or a member's directory.
    #[command(
        after_help = "Examples:\n  quipu init --dir ./ledger --validators 4\n  quipu start --dir ./ledger/node0     and so on, one process each\n\n  quipu init --dir ./validator --genesis genesis.json --key bank-a.key --peers *.join.json\n  quipu start --dir ./validator\n\nThe first form makes every key here, in one place: for development. The second makes the directory\nof one member of a consortium after quipu genesis merge; the key stays where it is."
    )]
    Init(Init),
    /// Make a genesis together: members who do not trust each other, each with a key that nobody else sees.
    #[command(subcommand, after_help = CEREMONY)]
    Genesis(GenesisCommand),
    /// Run one validator.
    #[command(
        after_help = "Example:\n  quipu start --dir ./ledger/node0\n\nCtrl-C or SIGTERM stops it; nothing acknowledged is lost, however it stops."
    )]
    Start(Start),
    /// Serve SQL on this machine, with your key, in front of validators that need not be trusted.
    #[command(after_help = GATEWAY)]
    Gateway(Gateway),
    /// Make and look at key files.
    #[command(subcommand)]
    Keys(Keys),
    /// Create streams.
    #[command(subcommand)]
    Stream(Stream),
    /// Append events to a stream.
    #[command(
        after_help = "Examples:\n  quipu append --url U --signer dev.key --stream notes --data '{\"body\":\"hello\"}'\n  quipu append --url U --signer dev.key --stream notes --file notes.jsonl\n  tail -F app.jsonl | quipu append --url U --signer app.key --stream log --file -\n\nA file has one JSON object a line. It is read and checked whole before anything is appended;\nstandard input is appended as it comes. Rows of one route keep their order; each is appended once,\nwhatever is lost on the way. When something fails, the error says which lines are appended and\nwhere to go on with --from-line. Files and standard input want a key that nobody else writes with\nmeanwhile: a second process with it ends the first.\n\nThe sequencer of a lane may keep events out, and the validator asked may be the one. What has no answer\nafter --complain-after is complained of to every validator of --url, so give several: --url U,V,W. They hand\nthe events to the sequencer, and change it when these stay out; nothing is appended twice."
    )]
    Append(Append),
    /// Print a stream's events in the ledger's order.
    #[command(
        after_help = "Examples:\n  quipu tail --url U --stream notes\n  quipu tail --url U --stream notes --from 3:120 --follow --json\n  quipu tail --url U,V --genesis genesis.json --stream notes --follow --cursor-file notes.cursor\n\nWith --genesis every lane is read whole and every event is checked against the validators of that ledger: one that\nis left out, swapped, repeated or invented on the way is found, and what was shown is kept as evidence.\nWithout, --from takes the position of the last transaction that you have; what follows it is printed."
    )]
    Tail(Tail),
    /// Consumer groups: processes that share out the ledger's lanes and commit how far they came.
    #[command(subcommand)]
    Consumers(Consumers),
    /// Evidence against validators.
    #[command(subcommand)]
    Validators(validators::Validators),
    /// Stake: register validators, bond to them, take back, show evidence against them.
    #[command(subcommand, after_help = stake::HELP)]
    Stake(stake::Stake),
    /// Ask a question in SQL.
    #[command(
        after_help = "Example:\n  quipu sql --url U \"select carrier, count(*) from flights group by 1 order by 2 desc\""
    )]
    Sql(Sql),
    /// Show how the lanes' clocks go; prove which of two transactions was first.
    #[command(after_help = clock::HELP, args_conflicts_with_subcommands = true)]
    Clock(Clock),
    /// Fetch the proof of a transaction, or of one of its actions.
    #[command(
        after_help = "Examples:\n  quipu prove --url U TX:0 > bundle.json\n  quipu prove --url U --time TX > bundle.json    with a header that its lane's clock had mixed\n\nTX is what append prints and what the column _tx holds."
    )]
    Prove(Prove),
    /// Verify a proof, offline: only the proof and the genesis are needed.
    #[command(
        after_help = "Examples:\n  quipu verify --genesis ./quipu-dev/genesis.json bundle.json\n  quipu verify --genesis ./quipu-dev/genesis.json --time bundle.json    when it was, and how that is known\n  quipu verify --genesis ./quipu-dev/genesis.json order.json            what quipu clock before wrote\n\nA false proof exits 3 and says what is wrong with it."
    )]
    Verify(Verify),
    /// Say how a validator is, whom it reaches, and who is missing.
    #[command(after_help = "Example:\n  quipu status --url http://127.0.0.1:8433")]
    Status(Status),
    /// Verify everything that a validator has stored, or an archive.
    #[command(
        after_help = "Examples:\n  quipu check --dir ./quipu-dev/node0\n  quipu check --archive ./2026 --genesis genesis.json\n\nReads only. Damage exits 3 and names the file, the lane and the number, or the header. Of a log that was\npruned, what is left is executed again from the checkpoint before it."
    )]
    Check(Check),
    /// Copy a stretch of a stopped validator's log to an archive, which is checked by itself.
    #[command(
        after_help = "Example:\n  quipu export --dir ./validator --out ./2026 --first 1 --last 1000000\n  quipu check --archive ./2026 --genesis genesis.json\n\nExport before heights are pruned ([retention] in config.toml): any validator that still has them can."
    )]
    Export(Export),
    /// Begin again, without a ledger: with a checkpoint that validators of a third of the stake vouch for.
    #[command(
        after_help = "Example:\n  quipu recover --dir ./validator --from http://127.0.0.1:9433,http://127.0.0.1:9434\n\nFor a validator whose disk was lost, or who was away longer than others keep ([retention] in config.toml).\nIt needs config.toml, the genesis, and the key, all from a backup; a key that is lost too is lost for good.\nGive the HTTP addresses of several validators, through tunnels where they listen on loopback: what they say of\nthe state must agree, and every part is checked."
    )]
    Recover(Recover),
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
    /// How many validators, 1 to 7 [default: what the directory has, or 4 in a new one].
    #[arg(long, value_name = "N")]
    pub(crate) validators: Option<usize>,
    /// Load no sample.
    #[arg(long)]
    pub(crate) no_sample: bool,
    /// Write the addresses here, as JSON, when everything is ready.
    #[arg(long, value_name = "F")]
    pub(crate) url_file: Option<PathBuf>,
    /// Port of the first validator's PostgreSQL wire; 0: any free one [default: 5433 or the next free one].
    #[arg(long, value_name = "PORT")]
    pub(crate) pg: Option<u16>,
    /// Port of the first validator's HTTP interface; 0: any free one [default: 8433 or the next free one].
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
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "genesis",
        conflicts_with_all = ["genesis", "key", "peers", "listen"]
    )]
    pub(crate) validators: Option<usize>,
    /// Stake of each validator, or one number for all [default: 1].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', conflicts_with = "genesis")]
    pub(crate) stake: Vec<u64>,
    /// Hashes a second of each lane's clock, or the name of a rate: see `quipu genesis new --help`.
    #[arg(long, value_name = "HZ", default_value = "dev", value_parser = local::clock_rate, conflicts_with = "genesis")]
    pub(crate) clock_rate: u64,
    /// First port: HTTP there, then PostgreSQL, admin and peers, four a validator; 0: any free ones
    /// [default: free ones; with one validator HTTP 8433 and PostgreSQL 5433].
    #[arg(long, value_name = "P")]
    pub(crate) base_port: Option<u16>,
    /// The genesis that the members merged: makes the directory of one of them.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) genesis: Option<PathBuf>,
    /// The member's key file; it is named in the configuration, not copied.
    #[arg(long, value_name = "FILE", requires = "genesis")]
    pub(crate) key: Option<PathBuf>,
    /// The member's shares of the coin, if one was dealt; the file is named in the configuration, not copied.
    #[arg(long, value_name = "NAME.coin.key", requires = "genesis")]
    pub(crate) coin: Option<PathBuf>,
    /// Every member's join file: they say where the others listen.
    #[arg(long, value_name = "NAME.join.json", num_args = 1.., requires = "genesis")]
    pub(crate) peers: Vec<PathBuf>,
    /// Where another validator listens, instead of its join file; may be given several times.
    #[arg(long, value_name = "NAME=HOST:PORT", requires = "genesis")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// The directory that this key was used in is lost: the new one begins as an observer, which signs nothing before it can not
    /// contradict what was signed there.
    #[arg(long, requires = "genesis")]
    pub(crate) again: bool,
    /// Where to listen for the other validators [default: all addresses, port as in the own join file].
    #[arg(long, value_name = "IP:PORT", requires = "genesis")]
    pub(crate) listen: Option<SocketAddr>,
}

/// `quipu genesis`.
#[derive(Debug, Subcommand)]
pub(crate) enum GenesisCommand {
    /// Make the draft: everything that members agree on but who they are.
    #[command(
        after_help = "Example:\n  quipu genesis new --dir . --name 'Our ledger' --lanes 16\n\nSend the draft to every member. Whoever joins signs this very draft."
    )]
    New(GenesisNew),
    /// Join a draft with one's own key: makes a small signed file for the others.
    #[command(
        after_help = "Example:\n  quipu keys new --out bank-a.key\n  quipu genesis join --genesis genesis.draft.json --name bank-a --key bank-a.key \\\n      --power 1 --address quipu.bank-a.example:8642\n\nThe file holds the name, the public key with a proof that its owner holds it, the power and the\naddress, all signed. The key itself stays here. quipu start can ask for no passphrase, so the key\nhas none."
    )]
    Join(GenesisJoin),
    /// Merge a draft and its join files into the genesis: the same bytes, whoever does it.
    #[command(
        after_help = "Example:\n  quipu genesis merge genesis.draft.json *.join.json --out genesis.json\n\nMembers are ordered by name. Names, keys and addresses that appear twice, weak keys, false proofs\nand joins to another draft are refused. Compare the chain id with the other members'."
    )]
    Merge(GenesisMerge),
    /// Deal the coin that decides heights when leaders fail: one member does, and is trusted to forget what it drew.
    #[command(
        after_help = "Example:\n  quipu genesis deal genesis.draft.json *.join.json --out coin.json --shares .\n\nMakes coin.json for everyone's merge, and NAME.coin.key for each member: bring each to its owner in a\nway that nobody else can read, and remove it here. Whoever holds half of the shares can throw coins\nearly: that can cost progress in bad times, and never what was decided. Without a coin every round\nhas a leader, and a network without timing stops the ledger, until its validators have dealt one\nthemselves: in its next epoch, unless --dealing is 0 or the validators are fixed."
    )]
    Deal(GenesisDeal),
    /// Sign a merged genesis: its member agrees to exactly this one.
    #[command(
        after_help = "Example:\n  quipu genesis sign --genesis genesis.json --key bank-a.key\n\nIt prints what is signed. Merge the draft and the joins yourself first: the chain id must be the same."
    )]
    Sign(GenesisSign),
    /// Check that every member signed this very genesis.
    #[command(
        after_help = "Example:\n  quipu genesis verify --genesis genesis.json *.sign.json\n\nA missing signature exits 1 and names who has not signed; a false one exits 3."
    )]
    Verify(GenesisVerify),
}

/// `quipu genesis new`.
#[derive(Debug, Args)]
pub(crate) struct GenesisNew {
    /// Directory for genesis.draft.json.
    #[arg(long, value_name = "D", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The ledger's name, for people.
    #[arg(long, value_name = "X")]
    pub(crate) name: String,
    /// Lanes, 1 to 64; never changes.
    #[arg(long, value_name = "L", default_value_t = local::LANE_COUNT)]
    pub(crate) lanes: u16,
    /// Hashes a second of each lane's clock; `dev` is 10,000, `production` 1,000,000 (the clocks then have a thread).
    #[arg(long, value_name = "HZ", default_value = "dev", value_parser = local::clock_rate)]
    pub(crate) clock_rate: u64,
    /// Least milliseconds between two heights.
    #[arg(long, value_name = "MS", default_value_t = 1)]
    pub(crate) interval_min: u64,
    /// Milliseconds after which a height is made though nothing is pending.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub(crate) interval_idle: u64,
    /// Only the creator of a stream appends to it, unless the creator says otherwise.
    #[arg(long)]
    pub(crate) closed_streams: bool,
    /// A public text that no clock can have started before, such as today's headline [default: drawn].
    #[arg(long, value_name = "TEXT")]
    pub(crate) clock_seed: Option<String>,
    /// A balance to begin with; may be given several times.
    #[arg(long = "account", value_name = "ACCOUNT=UNITS")]
    pub(crate) accounts: Vec<String>,
    #[command(flatten)]
    pub(crate) rules: Rules,
}

/// `quipu genesis join`.
#[derive(Debug, Args)]
pub(crate) struct GenesisJoin {
    /// The draft.
    #[arg(long, value_name = "DRAFT")]
    pub(crate) genesis: PathBuf,
    /// The member's name: 1 to 32 of a-z, 0-9, - and _.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The validator's key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The stake.
    #[arg(long, value_name = "P")]
    pub(crate) power: u64,
    /// Where the other validators reach this one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: String,
    /// Account that may bond to it and unbond [default: nobody may].
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) owner: Option<AccountId>,
    /// The file to make [default: NAME.join.json].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `quipu genesis merge`.
#[derive(Debug, Args)]
pub(crate) struct GenesisMerge {
    /// The draft.
    pub(crate) draft: PathBuf,
    /// Every member's join file.
    #[arg(value_name = "NAME.join.json", required = true)]
    pub(crate) joins: Vec<PathBuf>,
    /// The coin that a member dealt for these very files [default: none, every round has a leader].
    #[arg(long, value_name = "coin.json")]
    pub(crate) coin: Option<PathBuf>,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `quipu genesis deal`.
#[derive(Debug, Args)]
pub(crate) struct GenesisDeal {
    /// The draft.
    pub(crate) draft: PathBuf,
    /// Every member's join file.
    #[arg(value_name = "NAME.join.json", required = true)]
    pub(crate) joins: Vec<PathBuf>,
    /// The file to make for everyone.
    #[arg(long, value_name = "coin.json")]
    pub(crate) out: PathBuf,
    /// Directory for each member's NAME.coin.key.
    #[arg(long, value_name = "D")]
    pub(crate) shares: PathBuf,
}

/// `quipu genesis sign`.
#[derive(Debug, Args)]
pub(crate) struct GenesisSign {
    /// The merged genesis.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The validator's key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The file to make [default: NAME.sign.json].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `quipu genesis verify`.
#[derive(Debug, Args)]
pub(crate) struct GenesisVerify {
    /// The merged genesis.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// Every member's signature file.
    #[arg(value_name = "NAME.sign.json", required = true)]
    pub(crate) signatures: Vec<PathBuf>,
}

/// `quipu start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The validator's directory, with its config.toml.
    #[arg(long, value_name = "D/node0")]
    pub(crate) dir: PathBuf,
    /// Stop when standard input ends: whoever started it has gone.
    #[arg(long, hide = true)]
    pub(crate) until_input_ends: bool,
}

/// `quipu gateway`.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The genesis file, from whoever operates the ledger: everything is checked against it.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// HTTP address of a validator; may be given several times: when one fails the next is asked.
    #[arg(long = "validator", value_name = "URL", required = true, value_delimiter = ',')]
    pub(crate) validators: Vec<String>,
    /// The gateway's directory; made when it is not there.
    #[arg(long, value_name = "D")]
    pub(crate) dir: PathBuf,
    /// A user of SQL and the key file that signs what that user writes; may be given several times.
    #[arg(long = "role", value_name = "NAME=KEYFILE")]
    pub(crate) roles: Vec<String>,
    /// Where to listen for PostgreSQL clients; port 0: any free one. Others than loopback need passwords and TLS.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5433")]
    pub(crate) pg: SocketAddr,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) admin: SocketAddr,
    /// A user and a file with what quipu keys verifier printed; may be given several times.
    #[arg(long = "password", value_name = "NAME=FILE")]
    pub(crate) passwords: Vec<String>,
    /// Certificate of the PostgreSQL listener, PEM.
    #[arg(long, value_name = "FILE", requires = "pg_key")]
    pub(crate) pg_certificate: Option<PathBuf>,
    /// Its key, PEM, readable by its owner only.
    #[arg(long, value_name = "FILE", requires = "pg_certificate")]
    pub(crate) pg_key: Option<PathBuf>,
    /// Clients of other machines need neither TLS nor a password: the network sees to both.
    #[arg(long)]
    pub(crate) network_trusted: bool,
    /// What is logged, on standard error.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
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
    /// Print what a validator keeps of a password, for [passwords] of its config.toml.
    #[command(
        after_help = "Example:\n  quipu keys verifier\n  echo \"$PASSWORD\" | quipu keys verifier\n\nIt asks for the password, or reads one line of standard input. The line that it prints can check\na password and can not be turned back into it; it is PostgreSQL's own form, so pg_authid's will do:\n\n  [passwords]\n  ann = \"SCRAM-SHA-256$4096:…\""
    )]
    Verifier,
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
        /// Let the state keep the newest event of each key; then every event has a key.
        #[arg(long)]
        compacted: bool,
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
    /// Leave out the lines before this one, 1-based.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "data")]
    pub(crate) from_line: usize,
    /// Most events of one transaction.
    #[arg(long, value_name = "B", default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// When to answer: once the order is final, or once it is executed too.
    #[arg(long, value_enum, default_value_t = AckName::Executed)]
    pub(crate) ack: AckName,
    /// How long events may go unanswered until every validator of --url is told that the lane's sequencer keeps them out,
    /// and again after as long: 5s, 500ms, never.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = tools::patience)]
    pub(crate) complain_after: tools::Patience,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AckName {
    /// Ordered for ever and durable on a quorum; what becomes of it is not known yet.
    Final,
    /// The same, and executed: a refusal by the state is told.
    Executed,
}

impl From<AckName> for Ack {
    fn from(name: AckName) -> Self {
        match name {
            AckName::Final => Self::Final,
            AckName::Executed => Self::Executed,
        }
    }
}

/// `quipu tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The stream.
    #[arg(long, value_name = "S")]
    pub(crate) stream: String,
    /// The genesis file that you trust: every event is checked against its validators.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Begin after this transaction (LANE:SEQNO); with --genesis: a cursor, height:N (after it), time:T (from it) or end.
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<String>,
    /// Go on with new events until stopped.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only events with this key; \\x and hexadecimal for one that is no text.
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// Instead of all events the newest of each key of a compacted stream, or of the one --key; none is left out.
    #[arg(long, requires = "genesis", conflicts_with_all = ["from", "follow", "lanes", "tentative", "cursor_file"])]
    pub(crate) compacted: bool,
    /// Only these lanes of the ledger.
    #[arg(long = "lane", value_name = "N")]
    pub(crate) lanes: Vec<u16>,
    /// Also what is not certified yet, milliseconds earlier; it may be rolled back.
    #[arg(long)]
    pub(crate) tentative: bool,
    /// Where to keep what a server showed that is false.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) evidence_dir: PathBuf,
    /// Begin after the cursor in this file if it is there, and keep it up to date.
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor_file: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu consumers`.
#[derive(Debug, Subcommand)]
pub(crate) enum Consumers {
    /// List the groups.
    #[command(after_help = "Example:\n  quipu consumers list --url U")]
    List {
        #[command(flatten)]
        server: Server,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
    /// Show a group: members with their leases, and who holds each lane, how far it is and how many transactions behind.
    #[command(after_help = "Example:\n  quipu consumers show --url U billing")]
    Show {
        #[command(flatten)]
        server: Server,
        /// The group.
        name: String,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
    /// Create a group.
    #[command(
        after_help = "Example:\n  quipu consumers create --url U --signer dev.key billing --from end --consumers anyone"
    )]
    Create {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        signer: Signer,
        /// The group's name.
        name: String,
        /// Who may join beside you: creator (nobody, unless the ledger is open), anyone, or accounts with commas between them.
        #[arg(long, value_name = "WHO", default_value = "creator")]
        consumers: String,
        /// Where every lane begins: start, end or height:N.
        #[arg(long, value_name = "PLACE", default_value = "start")]
        from: String,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
    /// Delete a group that has no members.
    #[command(after_help = "Example:\n  quipu consumers delete --url U --signer dev.key billing")]
    Delete {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        signer: Signer,
        /// The group.
        name: String,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
    /// Set the cursors of a group that has no members.
    #[command(
        after_help = "Examples:\n  quipu consumers seek --url U --signer dev.key billing --to start\n  quipu consumers seek --url U --signer dev.key billing --to height:1200 --lane 3"
    )]
    Seek {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        signer: Signer,
        /// The group.
        name: String,
        /// Where to: start, end or height:N (after it).
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Only these lanes.
        #[arg(long = "lane", value_name = "N")]
        lanes: Vec<u16>,
        /// Machine output.
        #[arg(long)]
        json: bool,
    },
    /// Be a member: read a share of the lanes, checked, and commit after each batch.
    #[command(
        after_help = "Examples:\n  quipu consumers run --url U --genesis G --signer dev.key --group billing --stream orders\n  quipu consumers run --url U --genesis G --signer dev.key --group billing --stream orders --exec ./bill\n\nEach batch is printed as JSON lines, or given to the program's standard input; when that has ended\nwell, it is committed. What was worked on and not committed when a process dies comes again, to\nwhoever holds the lane then. Ctrl-C or SIGTERM gives the lanes up at once."
    )]
    Run(RunConsumer),
}

/// `quipu consumers run`.
#[derive(Debug, Args)]
pub(crate) struct RunConsumer {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// The genesis file that you trust: every event is checked against its validators.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The group.
    #[arg(long, value_name = "G")]
    pub(crate) group: String,
    /// The stream.
    #[arg(long, value_name = "S")]
    pub(crate) stream: String,
    /// This process' name in the group [default: host and process number].
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// Seconds after which the lanes go to others when this process is silent, 1 to 300.
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub(crate) session: u64,
    /// A shell's command that gets each batch on its standard input.
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
    /// End when everything that is there is read.
    #[arg(long)]
    pub(crate) once: bool,
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
    /// Show a header that the lane's clock mixed before the transaction, too: when it was sequenced at the earliest.
    #[arg(long)]
    pub(crate) time: bool,
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
    /// The bundle, or a proof of order; `-` reads standard input.
    #[arg(required_unless_present = "evidence")]
    pub(crate) bundle: Option<PathBuf>,
    /// Where the validators that were followed are kept: read before, and extended by what the proof brings. A proof of another
    /// branch than the one that was followed is false. Evidence of a later epoch needs it: quipu validators evidence --out
    /// makes it, and GET /v1/epochs?from=0 gives it.
    #[arg(long, value_name = "FILE")]
    pub(crate) epochs: Option<PathBuf>,
    /// Say only when it was: signed, stamped and ordered, between what times, and on what each bound rests.
    #[arg(long, conflicts_with = "evidence")]
    pub(crate) time: bool,
    /// What a server showed that was refused: says whether, and why, it is false. Or what a validator kept against another:
    /// says whom it names, and for what; if it names nobody it is false.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    pub(crate) evidence: Option<PathBuf>,
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

/// `quipu export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The validator's directory; it must be stopped.
    #[arg(long, value_name = "D/node0")]
    pub(crate) dir: PathBuf,
    /// The archive's directory, to be made.
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) out: PathBuf,
    /// The first height whose transactions it gets [default: the first that is there].
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) first: Option<u64>,
    /// The last height [default: the last that is there].
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) last: Option<u64>,
}

/// `quipu recover`.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The validator's directory, with its configuration and no ledger.
    #[arg(long, value_name = "D")]
    pub(crate) dir: PathBuf,
    /// HTTP addresses of other validators, several.
    #[arg(long, value_name = "URL,…", value_delimiter = ',', required = true)]
    pub(crate) from: Vec<String>,
}

/// `quipu check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The validator's directory.
    #[arg(long, value_name = "D/node0", required_unless_present = "archive")]
    pub(crate) dir: Option<PathBuf>,
    /// An archive's directory instead.
    #[arg(long, value_name = "ARCHIVE", requires = "genesis", conflicts_with = "dir")]
    pub(crate) archive: Option<PathBuf>,
    /// The genesis to check an archive against: yours, not the copy inside.
    #[arg(long, value_name = "FILE", requires = "archive")]
    pub(crate) genesis: Option<PathBuf>,
    /// Threads that execute a block's transactions side by side: all processors unless said. The result is the same.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Check in this very process: what `check` starts, to outlive a store that ends its reader.
    #[arg(long, hide = true)]
    pub(crate) in_process: bool,
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
    /// One validator instead of four or seven.
    #[arg(long)]
    pub(crate) alone: bool,
}

/// How long a world lives.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SimProfile {
    /// 2.5 seconds of virtual time with faults, as in the tests.
    Short,
    /// Twenty times as long.
    Long,
    /// No faults, but in the middle third every leader's timer fires at once: a plot of what is decided, and by which kind
    /// of round.
    Storm,
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
