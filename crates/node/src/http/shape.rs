//! What the HTTP interface answers, as JSON: plain data without behaviour.
//!
//! Hashes, keys and signatures are lower-case hexadecimal; positions are `LANE:SEQNO`; times are microseconds
//! since 1970 in members that end in `_us`.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::{IntoParams, ToSchema};

/// Why a request was not served.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable code, `QPnnnn`.
    #[schema(example = "QP0702")]
    pub code: String,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// PostgreSQL's class of the error, for queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
}

/// What became of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TxStatus {
    /// Final, replicated, executed.
    Committed,
    /// Taken; not final yet.
    Pending,
    /// Refused at admission: it stands nowhere.
    Invalid,
    /// This validator has not seen it.
    Unknown,
}

/// Answer to one submitted transaction, or to a question after one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TxAnswer {
    /// The transaction's name; empty when the bytes are no transaction.
    pub tx: String,
    /// What became of it.
    pub status: TxStatus,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The lane of the position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u16>,
    /// The number in the lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seqno: Option<u64>,
    /// The height that ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// The header's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// Whether its actions were applied, when it was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
    /// Why it was refused, at admission or when executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the code means here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// 0-based index of the action that it was refused for when executed, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u32>,
}

/// Where a producer is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProducerBody {
    /// The lane of its route.
    pub lane: u16,
    /// The incarnation that is active there.
    pub incarnation: u32,
    /// The sequence that its next transaction must have.
    pub next_sequence: u64,
}

/// One lane's tip in a cut.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TipBody {
    /// The lane.
    pub lane: u16,
    /// Its term.
    pub term: u64,
    /// Index of the last chunk.
    pub index: u64,
    /// Number of the last transaction.
    pub seqno: u64,
    /// Root of the lane's tree.
    pub lane_root: String,
    /// Hash of the last chunk's header.
    pub chunk_hash: String,
}

/// One committed header.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HeaderBody {
    /// Height.
    pub height: u64,
    /// Its hash.
    pub hash: String,
    /// Hash of the header before.
    pub prev_header: String,
    /// Epoch of the validator set.
    pub epoch: u64,
    /// Index of who made it.
    pub proposer: u16,
    /// Agreed time.
    pub time_us: u64,
    /// One tip a lane.
    pub cut: Vec<TipBody>,
    /// Height whose state certificate it embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_height: Option<u64>,
    /// Canonical bytes of the header.
    pub header: String,
    /// Canonical bytes of its commit certificate.
    pub certificate: String,
}

/// One stream.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamBody {
    /// Name.
    pub name: String,
    /// Columns as `name type [not null], …`.
    pub schema: String,
    /// The column that routes; absent: the signer does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_by: Option<String>,
    /// `creator`, `anyone` or `accounts`.
    pub writers: String,
    /// Accounts that may append, when the stream names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Account that created it.
    pub creator: String,
    /// Whether the state keeps the newest event of each key, and every event has one.
    pub compacted: bool,
    /// Canonical bytes of what created it (`StreamSpec`).
    pub spec: String,
}

/// A page of a compacted stream: the newest event of every key whose hash begins with the page's bits.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CompactedBody {
    /// The stream.
    pub stream: String,
    /// The height that the page is of.
    pub height: u64,
    /// How many keys the stream has at that height.
    pub key_count: u64,
    /// Root of the trie of its keys: pages of one root are of one state.
    pub root: String,
    /// What the next page begins at (`from`); absent behind the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The page's keys, ascending by their SHA-256.
    pub events: Vec<CompactedEventBody>,
    /// What proves all of it against the genesis, in hexadecimal: docs/formats.md, compacted streams.
    pub proof: String,
}

/// The newest event of a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CompactedEventBody {
    /// The key; `\\x` and hexadecimal for one that is no text.
    pub key: String,
    /// `LANE:SEQNO`.
    pub position: String,
    /// 0-based index of the action in its transaction.
    pub action: u32,
    /// Height that ordered it.
    pub height: u64,
    /// The row.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// Which page of a compacted stream.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
pub struct CompactedQuery {
    /// Where it begins: the `next` of the page before, 64 hexadecimal digits.
    pub from: Option<String>,
    /// Only this key; `\\x` and hexadecimal for one that is no text.
    pub key: Option<String>,
    /// Most keys, at most 1,024.
    pub limit: Option<usize>,
}

/// One consumer group in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupSummaryBody {
    /// Name.
    pub name: String,
    /// Account that created it.
    pub creator: String,
    /// Who may join beside its creator: `creator`, `anyone` or `accounts`.
    pub consumers: String,
    /// Accounts that may join, when the group names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// Grows whenever lanes are given.
    pub generation: u64,
    /// How many members it has.
    pub member_count: u16,
}

/// One consumer group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupBody {
    /// The height at which it stands so.
    pub height: u64,
    /// That header's time: what leases end by.
    pub time_us: u64,
    /// Name, rights, generation.
    #[serde(flatten)]
    pub summary: GroupSummaryBody,
    /// One for each lane of the ledger, in order.
    pub lanes: Vec<GroupLaneBody>,
    /// Members by name.
    pub members: Vec<MemberBody>,
}

/// One lane in a consumer group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupLaneBody {
    /// The lane.
    pub lane: u16,
    /// The member that holds it; absent while there is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The generation in which the owner was given it: what its commits name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Everything up to this transaction is consumed; 0 for nothing.
    pub seqno: u64,
    /// The height whose cut ends there, as the consumer said.
    pub height: u64,
    /// The lane's root there, as the consumer said; absent where it said none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// One member of a consumer group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemberBody {
    /// Name.
    pub name: String,
    /// Account that signs for it.
    pub account: String,
    /// Where its Join stands: tells the process from a later one of that name.
    pub joined: String,
    /// How long its lease lasts when nothing is heard.
    pub session_us: u32,
    /// The last instant of its lease. It is there until the group's next action after that.
    pub lease_end_us: u64,
}

/// One event, as a line of a followed stream.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventBody {
    /// The stream.
    pub stream: String,
    /// Where its transaction stands: resume with `from=` this.
    pub position: String,
    /// The lane.
    pub lane: u16,
    /// The number in the lane.
    pub seqno: u64,
    /// Its place among the transaction's actions.
    pub action: u32,
    /// The height that ordered it.
    pub height: u64,
    /// The header's time.
    pub time_us: u64,
    /// The transaction's name, with `:ACTION` when it has several actions: what `prove` takes.
    pub tx: String,
    /// Who signed.
    pub signer: String,
    /// The event's key: its text when that is plain UTF-8, else `\x` and hexadecimal.
    pub key: String,
    /// The row.
    pub data: Json,
}

/// A complaint that is heard.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ComplaintBody {
    /// The lane.
    pub lane: u16,
    /// The term whose sequencer is watched from now on.
    pub term: u64,
}

/// One lane in the status.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LaneBody {
    /// The lane.
    pub lane: u16,
    /// Its term.
    pub term: u64,
    /// Number of its last committed transaction.
    pub seqno: u64,
    /// Index of its last committed chunk.
    pub chunk_index: u64,
}

/// How the lanes' clocks went over the last heights, by the time of headers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClockBody {
    /// Ticks a second that the genesis asks of each clock.
    pub declared_hz: u64,
    /// Ticks a second that nobody is taken to be able to exceed.
    pub fastest_hz: u64,
    /// The height after whose header counting began.
    pub from_height: u64,
    /// The last height that was counted; 0 when the validator has only just started.
    pub to_height: u64,
    /// Seconds between the two.
    pub seconds: f64,
    /// Lane by lane.
    pub lanes: Vec<LaneClockBody>,
    /// The brackets of time of the last transactions.
    pub brackets: BracketsBody,
}

/// One lane's clock.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LaneClockBody {
    /// The lane.
    pub lane: u16,
    /// Who runs it.
    pub sequencer: String,
    /// Its term.
    pub term: u64,
    /// Ticks a second, from chunk to chunk; none until two chunks were seen.
    pub rate_hz: Option<f64>,
    /// How much faster than declared: 0.01 is one per cent; -1 is a clock that stands.
    pub drift: Option<f64>,
    /// The share of the time that its ticks prove.
    pub proven: Option<f64>,
    /// Ticks a second over equal times, oldest first.
    pub series_hz: Vec<f64>,
}

/// Widths of the brackets in which transactions were signed and ordered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct BracketsBody {
    /// How many.
    pub count: u64,
    /// The mean, in microseconds.
    pub mean_us: u64,
    /// The widest, in microseconds.
    pub widest_us: u64,
}

/// One validator.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ValidatorBody {
    /// Index in the set.
    pub index: u16,
    /// Name in the genesis.
    pub name: String,
    /// Voting key.
    pub key: String,
    /// Stake.
    pub power: u64,
    /// Whether it is the one that answers.
    pub this: bool,
    /// Whether it can be reached.
    pub connected: bool,
    /// Where its links are dialed.
    pub address: Option<String>,
    /// The height that it last spoke of.
    pub last_height: Option<u64>,
    /// Milliseconds since it last spoke.
    pub last_seen_ms: Option<u64>,
    /// Why the last link to it or from it ended.
    pub last_error: Option<String>,
}

/// Whether enough stake can be reached to go on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct QuorumBody {
    /// Stake of all.
    pub power_total: u64,
    /// Stake of those that can be reached, this one included.
    pub power_reachable: u64,
    /// Whether that is more than two thirds.
    pub has_quorum: bool,
}

/// Rates over the last seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RatesBody {
    /// Heights a second.
    pub heights_per_second: f64,
    /// Transactions a second.
    pub transactions_per_second: f64,
    /// Events a second.
    pub events_per_second: f64,
}

/// The directory's disk.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DiskBody {
    /// Free bytes.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// How a validator is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusBody {
    /// Chain id.
    pub chain: String,
    /// The ledger's name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Newest committed height.
    pub height: u64,
    /// Its header's time.
    pub time_us: u64,
    /// Its header's hash.
    pub header_hash: String,
    /// Newest executed height.
    pub executed_height: u64,
    /// Newest height whose state certificate is known.
    pub certified_height: u64,
    /// Transactions that were executed since genesis.
    pub transactions: u64,
    /// Transactions and bytes that wait to be ordered.
    pub pending_bytes: u64,
    /// The lanes.
    pub lanes: Vec<LaneBody>,
    /// The validators.
    pub validators: Vec<ValidatorBody>,
    /// Whether enough of them can be reached.
    pub quorum: QuorumBody,
    /// What is waited for, in words; none when nothing is.
    pub waiting: Option<String>,
    /// How heights begin.
    pub rounds: RoundsBody,
    /// Rates.
    pub rates: RatesBody,
    /// The disk.
    pub disk: DiskBody,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Address of the PostgreSQL wire.
    pub pg: String,
}

/// How heights begin, as the newest header says.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoundsBody {
    /// `led`: with a leader and timers. `open`: without either, by a coin, because led rounds failed. `led-only`: no coin
    /// was dealt, so there are no open rounds.
    pub mode: String,
    /// In mode `open`: the height that begins with a leader, to see whether that is possible again.
    pub trial_height: Option<u64>,
}

/// A query.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One SQL statement.
    pub query: String,
}

/// A column of a query's answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SqlColumn {
    /// Name.
    pub name: String,
    /// Type, as PostgreSQL names it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A query's answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SqlAnswer {
    /// The columns.
    pub columns: Vec<SqlColumn>,
    /// The rows: a text or null for each column.
    pub rows: Vec<Vec<Option<String>>>,
}

/// When a submission is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// When it is final, replicated and executed.
    #[default]
    Executed,
    /// When it is taken.
    None,
}

/// How far a transaction has to be when it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// Final, replicated and executed: the answer says whether it was applied.
    #[default]
    Executed,
    /// Final and replicated: the answer comes sooner, and does not say whether it was applied.
    Final,
}

/// Query of a submission.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// When to answer.
    #[serde(default)]
    #[param(inline)]
    pub wait: Wait,
    /// How far it has to be, unless the answer comes when it is taken.
    #[serde(default)]
    #[param(inline)]
    pub ack: Ack,
}

/// A checkpoint that a validator has.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckpointBody {
    /// The height after which it was saved.
    pub height: u64,
    /// Hash of that height's header, in hexadecimal.
    pub header_hash: String,
    /// Digest of the state and of the failover logs, in hexadecimal.
    pub digest: String,
    /// The validator's signed statement of these, in hexadecimal (`docs/formats.md`).
    pub statement: String,
}

/// Query of the committed heights.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BlocksQuery {
    /// The first height that is wanted, from 1; one that is not committed yet is waited for.
    pub from: u64,
}

/// Query of how epochs ended.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EpochsQuery {
    /// The first epoch that is wanted, from 0.
    pub from: u64,
}

/// Query of a proof.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProofQuery {
    /// Index of the action to prove alone, from 0.
    pub action: Option<u32>,
    /// Whether to show a header that the lane's clock mixed before the transaction.
    #[serde(default)]
    pub time: bool,
}

/// Query of the order of two transactions.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BeforeQuery {
    /// A transaction's name in hexadecimal.
    pub first: String,
    /// Another one's.
    pub second: String,
}

/// How the first transaction stands to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderAnswer {
    /// The first was there before the second was stamped.
    Before,
    /// The second was there before the first was stamped.
    After,
    /// No chain of mixings leads from either to the other.
    Concurrent,
}

/// The order of two transactions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OrderBody {
    /// How the first stands to the second.
    pub answer: OrderAnswer,
    /// The proof; its `first` is the earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub proof: Option<serde_json::Value>,
}

/// Query of a producer.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProducerQuery {
    /// Route in hexadecimal; the producer's key when absent.
    pub route: Option<String>,
}

/// Query of a list of headers.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HeadersQuery {
    /// First height; 1 when absent.
    pub from: Option<u64>,
    /// Most headers, at most 100.
    pub limit: Option<u64>,
}

/// Query of a list of consumer groups.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GroupsQuery {
    /// Only groups whose names are behind this one.
    pub after: Option<String>,
    /// Most groups, at most 1,000.
    pub limit: Option<usize>,
}

/// Query of a stream's events.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// `LANE:SEQNO`: only what stands after that transaction in the ledger's order.
    pub from: Option<String>,
    /// Whether to go on with new events for ever.
    #[serde(default)]
    pub follow: bool,
    /// Most events.
    pub limit: Option<u64>,
    /// Only events of this key: its text, or `\x` and hexadecimal.
    pub key: Option<String>,
}
