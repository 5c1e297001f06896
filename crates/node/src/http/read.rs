//! Point reads: transactions, proofs, producers, headers, streams, status.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use quipu_proof::names::{header_hash, lane_of};
use quipu_types::round::Mode;
use quipu_types::transaction::ROUTE_SIZE_MAX;
use quipu_types::{
    CommitCertificate, Encode, Hash, Header, Height, PublicKey, Rounds, RouteRule, ValidatorIndex,
    Writers, code,
};

use super::error::ApiError;
use super::on_worker;
use super::shape::{
    DiskBody, ErrorBody, HeaderBody, HeadersQuery, LaneBody, ProducerBody, ProducerQuery,
    QuorumBody, RatesBody, RoundsBody, StatusBody, StreamBody, TipBody, TxAnswer, TxStatus,
    ValidatorBody,
};
use super::submit::{committed, pending};
use crate::members::members;
use crate::shared::{Sample, Shared};

/// Most headers of one answer.
const HEADER_COUNT_MAX: u64 = 100;
/// Streams read at a time, and most of one answer.
const STREAM_COUNT: usize = 256;
const STREAM_COUNT_MAX: usize = 16_384;

/// What became of a transaction.
#[utoipa::path(
    get, path = "/v1/transactions/{tx}", tag = "transactions",
    params(("tx" = String, Path, description = "The transaction's name in hexadecimal")),
    responses((status = 200, body = TxAnswer), (status = 400, body = ErrorBody))
)]
pub(crate) async fn transaction(
    State(shared): State<Arc<Shared>>,
    Path(tx): Path<String>,
) -> Result<Json<TxAnswer>, ApiError> {
    let tx = parse_tx(&tx)?;
    on_worker(move || find_transaction(&shared, tx).map(Json)).await
}

/// What became of a transaction.
pub(super) fn find_transaction(shared: &Shared, tx: Hash) -> Result<TxAnswer, ApiError> {
    Ok(match shared.find(&tx)? {
        Some(found) => committed(&found),
        None => TxAnswer { status: TxStatus::Unknown, ..pending(tx) },
    })
}

/// Where a producer is: what its next transaction must say.
#[utoipa::path(
    get, path = "/v1/producers/{key}", tag = "transactions",
    params(("key" = String, Path, description = "Public key in hexadecimal, suite first"), ProducerQuery),
    responses((status = 200, body = ProducerBody), (status = 400, body = ErrorBody))
)]
pub(crate) async fn producer(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
    Query(query): Query<ProducerQuery>,
) -> Result<Json<ProducerBody>, ApiError> {
    let key: PublicKey =
        key.parse().map_err(|error| ApiError::bad_request(format!("key: {error}")))?;
    let route = match &query.route {
        None => key.bytes().to_vec(),
        Some(text) if text.len() <= ROUTE_SIZE_MAX.saturating_mul(2) => {
            hex::decode(text).map_err(|error| ApiError::bad_request(format!("route: {error}")))?
        }
        Some(_) => {
            return Err(ApiError::bad_request(format!("route: at most {ROUTE_SIZE_MAX} bytes")));
        }
    };
    on_worker(move || {
        let lane = lane_of(&route, shared.lane_count());
        let sequence = shared.machine()?.sequence(lane, &key).map_err(ApiError::damaged)?;
        Ok(Json(ProducerBody {
            lane: lane.get(),
            incarnation: sequence.incarnation,
            next_sequence: sequence.next,
        }))
    })
    .await
}

/// One committed header.
#[utoipa::path(
    get, path = "/v1/headers/{height}", tag = "ledger",
    params(("height" = String, Path, description = "Height, or `latest`")),
    responses((status = 200, body = HeaderBody), (status = 404, body = ErrorBody))
)]
pub(crate) async fn header(
    State(shared): State<Arc<Shared>>,
    Path(height): Path<String>,
) -> Result<Json<HeaderBody>, ApiError> {
    let height = match height.as_str() {
        "latest" => None,
        text => Some(Height::new(text.parse().map_err(|_| {
            ApiError::bad_request(format!("height: {text:?} is neither a number nor latest"))
        })?)),
    };
    on_worker(move || {
        let (header, certificate) = find_header(&shared, height)?;
        Ok(Json(header_body(&header, &certificate)))
    })
    .await
}

/// The header of a height, or the newest.
pub(super) fn find_header(
    shared: &Shared,
    height: Option<Height>,
) -> Result<(Header, CommitCertificate), ApiError> {
    let top = shared.reader.height();
    let height = height.unwrap_or(top);
    if height.get() == 0 || height > top {
        let text = format!("there is no header of height {height}; the newest is {top}");
        return Err(ApiError::new(code::POSITION, text));
    }
    shared.reader.header(height).map_err(ApiError::from)
}

/// Committed headers, ascending.
#[utoipa::path(
    get, path = "/v1/headers", tag = "ledger", params(HeadersQuery),
    responses((status = 200, body = [HeaderBody]), (status = 400, body = ErrorBody))
)]
pub(crate) async fn headers(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HeadersQuery>,
) -> Result<Json<Vec<HeaderBody>>, ApiError> {
    let from = query.from.unwrap_or(1).max(1);
    let count = query.limit.unwrap_or(HEADER_COUNT_MAX).min(HEADER_COUNT_MAX);
    on_worker(move || {
        let end = from.saturating_add(count).min(shared.reader.height().get().saturating_add(1));
        (from..end)
            .map(|height| {
                let (header, certificate) = shared.reader.header(Height::new(height))?;
                Ok(header_body(&header, &certificate))
            })
            .collect::<Result<Vec<_>, ApiError>>()
            .map(Json)
    })
    .await
}

pub(super) fn header_body(header: &Header, certificate: &CommitCertificate) -> HeaderBody {
    let cut = header
        .cut
        .iter()
        .map(|tip| TipBody {
            lane: tip.lane.get(),
            term: tip.term.get(),
            index: tip.index,
            seqno: tip.seqno.get(),
            lane_root: tip.lane_root.to_string(),
            chunk_hash: tip.chunk_hash.to_string(),
        })
        .collect();
    HeaderBody {
        height: header.height.get(),
        hash: header_hash(header).to_string(),
        prev_header: header.prev_header.to_string(),
        epoch: header.epoch,
        proposer: header.proposer.get(),
        time_us: header.time.get(),
        cut,
        state_height: header.state_certificate.as_ref().map(|held| held.state.height.get()),
        header: hex::encode(header.to_bytes()),
        certificate: hex::encode(certificate.to_bytes()),
    }
}

/// Every stream, by name (the first 16,384).
#[utoipa::path(
    get, path = "/v1/streams", tag = "streams", responses((status = 200, body = [StreamBody]))
)]
pub(crate) async fn streams(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<StreamBody>>, ApiError> {
    on_worker(move || {
        let machine = shared.machine()?;
        let mut bodies = Vec::new();
        let mut from = String::new();
        loop {
            let streams = machine.streams(&from, STREAM_COUNT).map_err(ApiError::damaged)?;
            bodies.extend(streams.iter().map(stream_body));
            match streams.last() {
                Some(last) if streams.len() == STREAM_COUNT && bodies.len() < STREAM_COUNT_MAX => {
                    from = format!("{}\0", last.spec.name);
                }
                _ => return Ok(Json(bodies)),
            }
        }
    })
    .await
}

/// One stream.
#[utoipa::path(
    get, path = "/v1/streams/{name}", tag = "streams",
    params(("name" = String, Path, description = "The stream's name")),
    responses((status = 200, body = StreamBody), (status = 404, body = ErrorBody))
)]
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<StreamBody>, ApiError> {
    on_worker(move || Ok(Json(stream_body(&find_stream(&shared, &name)?)))).await
}

/// The stream of a name, or the error that says there is none.
pub(crate) fn find_stream(shared: &Shared, name: &str) -> Result<quipu_state::Stream, ApiError> {
    quipu_types::row::check_name(name)
        .map_err(|reason| ApiError::bad_request(format!("stream name: {reason}")))?;
    shared
        .machine()?
        .stream(name)
        .map_err(ApiError::damaged)?
        .ok_or_else(|| ApiError::new(code::NO_STREAM, format!("there is no stream {name:?}")))
}

fn stream_body(stream: &quipu_state::Stream) -> StreamBody {
    let spec = &stream.spec;
    let (writers, accounts) = writers_shown(&spec.writers);
    StreamBody {
        name: spec.name.clone(),
        schema: spec.schema.to_string(),
        route_by: match &spec.route {
            RouteRule::Signer => None,
            RouteRule::Column(column) => Some(column.clone()),
        },
        writers: writers.to_owned(),
        accounts,
        creator: stream.creator.to_string(),
        compacted: spec.compacted,
        spec: hex::encode(spec.to_bytes()),
    }
}

/// Who may do something, and which accounts where they are named.
pub(super) fn writers_shown(writers: &Writers) -> (&'static str, Vec<String>) {
    match writers {
        Writers::Creator => ("creator", Vec::new()),
        Writers::Anyone => ("anyone", Vec::new()),
        Writers::Accounts(accounts) => {
            ("accounts", accounts.iter().map(ToString::to_string).collect())
        }
    }
}

/// How this validator is.
#[utoipa::path(
    get, path = "/v1/status", tag = "ledger", responses((status = 200, body = StatusBody))
)]
pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<StatusBody>, ApiError> {
    on_worker(move || status_body(&shared).map(Json)).await
}

pub(super) fn status_body(shared: &Shared) -> Result<StatusBody, ApiError> {
    let progress = shared.progress();
    let head = match progress.committed.get() {
        0 => None,
        _ => Some(shared.reader.header(progress.committed)?.0),
    };
    let lanes = (0..shared.lane_count())
        .map(|lane| {
            let lane = quipu_types::Lane::new(lane);
            let tip = shared.reader.tip(lane)?;
            Ok(LaneBody {
                lane: lane.get(),
                term: shared.term(lane).unwrap_or_default().max(tip.term).get(),
                seqno: tip.seqno.get(),
                chunk_index: tip.index,
            })
        })
        .collect::<Result<Vec<_>, ApiError>>()?;
    let (free_bytes, total_bytes) = shared.disk();
    let validators = validator_bodies(shared);
    Ok(StatusBody {
        chain: shared.chain.to_string(),
        name: shared.genesis.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        height: progress.committed.get(),
        time_us: head.as_ref().map_or(shared.genesis.time_us, |head| head.time).get(),
        header_hash: head.as_ref().map_or(shared.chain, header_hash).to_string(),
        executed_height: progress.executed.get(),
        certified_height: progress.certified.get(),
        transactions: lanes.iter().map(|lane| lane.seqno).fold(0, u64::saturating_add),
        pending_bytes: shared.pending_bytes(),
        lanes,
        quorum: quorum(shared, &validators),
        waiting: waiting(shared, &validators),
        validators,
        rounds: rounds(head.as_ref().map_or(shared.genesis.rounds(), |head| head.rounds)),
        rates: rates(*shared.samples()),
        disk: DiskBody { free_bytes, total_bytes },
        uptime_seconds: shared.uptime_seconds(),
        pg: format!("postgresql://quipu@{}/quipu", shared.pg),
    })
}

fn rounds(rounds: Rounds) -> RoundsBody {
    let (mode, trial) = match rounds.mode {
        Mode::LedOnly => ("led-only", None),
        Mode::Led => ("led", None),
        Mode::Open => ("open", Some(rounds.trial.get())),
    };
    RoundsBody { mode: mode.to_owned(), trial_height: trial }
}

fn rates(samples: [Sample; 2]) -> RatesBody {
    let [old, new] = samples;
    let micros = new.mono_us.saturating_sub(old.mono_us);
    if micros == 0 {
        return RatesBody::default();
    }
    let seconds = crate::driver::seconds(micros);
    let rate = |old: u64, new: u64| {
        let a_second = crate::metrics::gauge_value(new.saturating_sub(old)) / seconds;
        (a_second * 10.0).round() / 10.0
    };
    RatesBody {
        heights_per_second: rate(old.height, new.height),
        transactions_per_second: rate(old.transactions, new.transactions),
        events_per_second: rate(old.events, new.events),
    }
}

/// Whether more than two thirds of the stake can be reached.
fn quorum(shared: &Shared, validators: &[ValidatorBody]) -> QuorumBody {
    let set = &shared.context().set;
    let reachable = validators.iter().filter(|validator| validator.connected);
    let power: u128 = reachable.map(|validator| u128::from(validator.power)).sum();
    let narrow = |power: u128| u64::try_from(power).unwrap_or(u64::MAX);
    QuorumBody {
        power_total: narrow(set.power_total()),
        power_reachable: narrow(power),
        has_quorum: set.is_quorum(power),
    }
}

/// What keeps the ledger from going on.
fn waiting(shared: &Shared, validators: &[ValidatorBody]) -> Option<String> {
    if quorum(shared, validators).has_quorum {
        return None;
    }
    let missing: Vec<String> = validators
        .iter()
        .filter(|validator| !validator.connected)
        .map(|validator| match &validator.address {
            Some(address) => format!("{} ({address})", validator.name),
            None => validator.name.clone(),
        })
        .collect();
    Some(format!("a quorum: {} can not be reached", missing.join(", ")))
}

/// The validators.
#[utoipa::path(
    get, path = "/v1/validators", tag = "ledger", responses((status = 200, body = [ValidatorBody]))
)]
pub(crate) async fn validators(State(shared): State<Arc<Shared>>) -> Json<Vec<ValidatorBody>> {
    Json(validator_bodies(&shared))
}

fn validator_bodies(shared: &Shared) -> Vec<ValidatorBody> {
    let members = shared.machine().ok().and_then(|machine| members(&*machine).ok());
    let states = shared.peers.states();
    let now_us = shared.clock.mono_us();
    let validators = members.unwrap_or_default().into_iter().zip(0_u16..);
    validators
        .map(|(validator, index)| {
            let number = ValidatorIndex::new(index);
            let this = Some(number) == shared.index;
            let state = states.iter().find(|state| state.validator == number);
            let heard = shared.peers.heard(number);
            let last_height = heard.map(|(height, _)| height.get());
            ValidatorBody {
                index,
                name: validator.name,
                key: validator.key.to_string(),
                power: validator.power,
                this,
                connected: this
                    || state.is_some_and(|state| state.connected_out && state.connected_in),
                address: state.and_then(|state| state.address.clone()).or(validator.address),
                last_height: if this {
                    Some(shared.progress().committed.get())
                } else {
                    last_height
                },
                last_seen_ms: heard.map(|(_, at_us)| now_us.saturating_sub(at_us) / 1_000),
                last_error: state.and_then(|state| state.last_error.clone()),
            }
        })
        .collect()
}

/// The genesis, as its file has it. Take it from whoever operates the ledger, not from here, before trusting proofs.
#[utoipa::path(
    get, path = "/v1/genesis", tag = "ledger",
    responses((status = 200, description = "The genesis file", content_type = "application/json"))
)]
pub(crate) async fn genesis(State(shared): State<Arc<Shared>>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], shared.genesis.to_json()).into_response()
}

pub(crate) fn parse_tx(text: &str) -> Result<Hash, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "tx: {text:?} is not 64 lower-case hexadecimal digits; give an action as ?action=N"
        ))
    })
}
