//! What servers answer, as JSON. Unknown members are ignored, so that older clients read newer servers.

use quipu_types::{Code, Hash, code};
use serde::{Deserialize, Serialize};

/// What became of one submitted transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubmitAnswer {
    /// The transaction's name; empty when the bytes were no transaction.
    #[serde(default)]
    pub tx: String,
    /// `committed`, `final` (committed, not executed yet), `pending`, `invalid` or `unknown`.
    pub status: String,
    /// `LANE:SEQNO`.
    pub position: Option<String>,
    /// Height that ordered it.
    pub height: Option<u64>,
    /// Time of that height's header, microseconds since 1970.
    pub time_us: Option<u64>,
    /// Stable code when it was refused.
    pub code: Option<String>,
    /// What happened, in words.
    pub message: Option<String>,
    /// 0-based index of the action that it was refused for when executed, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u32>,
}

impl SubmitAnswer {
    /// Whether it is final, and nothing tells that it changed nothing.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self.status.as_str(), "committed" | "final") && self.code.is_none()
    }

    /// The code of a refusal, when it is one that this client knows.
    #[must_use]
    pub fn refusal(&self) -> Option<Code> {
        self.code.as_deref()?.parse().ok()
    }

    /// Whether the same bytes may be taken a moment later, or by another validator: this one was busy, behind or stopping,
    /// or they are on their way.
    #[must_use]
    pub fn is_worth_repeating(&self) -> bool {
        self.status == "pending"
            || matches!(self.refusal(), Some(code::OVERLOADED | code::STOPPING))
    }
}

/// Where a producer stands in a lane.
#[derive(Clone, Debug, Deserialize)]
pub struct ProducerInfo {
    /// The lane of the route.
    pub lane: u16,
    /// The producer's current incarnation.
    pub incarnation: u32,
    /// The sequence that the lane takes next.
    pub next_sequence: u64,
}

/// A stream as the ledger knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// `"col type [not null], …"`.
    pub schema: String,
    /// The column it is routed by; by the signer when absent.
    pub route_by: Option<String>,
}

/// One event of a followed stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// `LANE:SEQNO`: where to resume after.
    pub position: String,
    /// 0-based index of the action in its transaction.
    pub action: u32,
    /// Height that ordered it.
    pub height: u64,
    /// Time of that height's header, microseconds since 1970.
    pub time_us: u64,
    /// The transaction's name, with `:ACTION` when it has several; what `prove` takes.
    pub tx: String,
    /// Who signed.
    pub signer: String,
    /// The event's key; may be empty.
    #[serde(default)]
    pub key: String,
    /// The row.
    pub data: serde_json::Value,
}

/// A header as served, of which only the bytes count.
#[derive(Clone, Debug, Deserialize)]
pub struct HeaderBody {
    /// The header's encoding, in hexadecimal.
    pub header: String,
    /// That of its commit certificate.
    pub certificate: String,
}

/// A consumer group as a server says that it stands.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupInfo {
    /// The height at which it stands so.
    pub height: u64,
    /// That header's time, by which leases end; microseconds since 1970.
    pub time_us: u64,
    /// One a lane, in order.
    pub lanes: Vec<GroupLaneInfo>,
    /// By name.
    pub members: Vec<MemberInfo>,
}

/// A lane in a consumer group.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupLaneInfo {
    /// The lane.
    pub lane: u16,
    /// The member that holds it.
    pub owner: Option<String>,
    /// The generation in which the owner was given it.
    pub generation: Option<u64>,
    /// Everything up to this transaction is consumed.
    pub seqno: u64,
    /// The height whose cut ends there, as the consumer said.
    pub height: u64,
    /// The lane's root there, as the consumer said.
    pub root: Option<Hash>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, Deserialize)]
pub struct MemberInfo {
    /// Its name.
    pub name: String,
    /// Where its Join stands, `LANE:SEQNO`.
    pub joined: String,
    /// The last instant of its lease, microseconds since 1970.
    pub lease_end_us: u64,
}

/// A validator's word on itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The chain id.
    pub chain: Hash,
    /// Newest committed height.
    pub height: u64,
    /// Everything else, as served.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// What a query gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SqlAnswer {
    /// Names of the columns.
    pub columns: Vec<SqlColumn>,
    /// Rows, each `[column_count]`.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// A column of an answer: its name alone, or with its type.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SqlColumn {
    /// Only the name.
    Name(String),
    /// With the type.
    Typed {
        /// The name.
        name: String,
        /// The type, as PostgreSQL names it.
        #[serde(rename = "type", default)]
        kind: String,
    },
}

impl SqlColumn {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Typed { name, .. } => name,
        }
    }
}

/// An error as served.
#[derive(Clone, Debug, Deserialize)]
pub struct ErrorBody {
    /// Stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}
