//! HTTP's answers as messages, member by member: plain data without behaviour.

use bytes::Bytes;
use quipu_types::Position;

use super::super::error::ApiError;
use super::super::shape::{
    EventBody, HeaderBody, LaneBody, StatusBody, TipBody, TxAnswer, TxStatus, ValidatorBody,
};
use super::proto;
use super::proto::transaction_status::State;

impl From<TxAnswer> for proto::TransactionStatus {
    fn from(answer: TxAnswer) -> Self {
        let state = match answer.status {
            TxStatus::Committed => State::Committed,
            TxStatus::Pending => State::Pending,
            // What is invalid is answered with an error.
            TxStatus::Unknown | TxStatus::Invalid => State::Unknown,
        };
        Self {
            tx: answer.tx,
            state: state.into(),
            position: answer.position,
            lane: answer.lane.map(u32::from),
            seqno: answer.seqno,
            height: answer.height,
            time_us: answer.time_us,
            applied: answer.applied,
            code: answer.code,
            message: answer.message,
            action: answer.action,
        }
    }
}

impl From<TipBody> for proto::Tip {
    fn from(tip: TipBody) -> Self {
        Self {
            lane: tip.lane.into(),
            term: tip.term,
            index: tip.index,
            seqno: tip.seqno,
            lane_root: tip.lane_root,
            chunk_hash: tip.chunk_hash,
        }
    }
}

impl From<LaneBody> for proto::LaneStatus {
    fn from(lane: LaneBody) -> Self {
        Self {
            lane: lane.lane.into(),
            term: lane.term,
            seqno: lane.seqno,
            chunk_index: lane.chunk_index,
        }
    }
}

impl From<ValidatorBody> for proto::Validator {
    fn from(validator: ValidatorBody) -> Self {
        Self {
            index: validator.index.into(),
            name: validator.name,
            key: validator.key,
            power: validator.power,
            this: validator.this,
            connected: validator.connected,
            last_height: validator.last_height,
        }
    }
}

impl From<StatusBody> for proto::Status {
    fn from(status: StatusBody) -> Self {
        Self {
            chain: status.chain,
            name: status.name,
            version: status.version,
            height: status.height,
            time_us: status.time_us,
            header_hash: status.header_hash,
            executed_height: status.executed_height,
            certified_height: status.certified_height,
            transactions: status.transactions,
            pending_bytes: status.pending_bytes,
            lanes: status.lanes.into_iter().map(Into::into).collect(),
            validators: status.validators.into_iter().map(Into::into).collect(),
            has_quorum: status.quorum.has_quorum,
            waiting: status.waiting,
            uptime_seconds: status.uptime_seconds,
            pg: status.pg,
            rounds: status.rounds.mode,
        }
    }
}

/// A header, with its encoding and its certificate's.
pub(super) fn header(body: HeaderBody, (header, certificate): (Bytes, Bytes)) -> proto::Header {
    proto::Header {
        height: body.height,
        hash: body.hash,
        prev_header: body.prev_header,
        epoch: body.epoch,
        proposer: body.proposer.into(),
        time_us: body.time_us,
        cut: body.cut.into_iter().map(Into::into).collect(),
        state_height: body.state_height,
        header,
        certificate,
    }
}

/// An event. `cursor` is where a client resumes after it, if it can.
pub(super) fn event(body: EventBody, cursor: Option<Position>) -> Result<proto::Event, ApiError> {
    Ok(proto::Event {
        position: body.position,
        cursor: cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
        lane: body.lane.into(),
        seqno: body.seqno,
        action: body.action,
        height: body.height,
        time_us: body.time_us,
        tx: body.tx,
        signer: body.signer,
        key: body.key,
        data: serde_json::to_string(&body.data).map_err(ApiError::damaged)?,
    })
}
