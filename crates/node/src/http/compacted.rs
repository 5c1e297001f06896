//! The newest event of each key of a compacted stream, with what proves it (`quipu_proof::compacted`).
//!
//! ```text
//!  state at the newest height ─ page, paths ─> its certificate, waited for ─> payloads from the log ─> checked
//! ```
//! The state has no old versions: where the heights that are certified skip the one that was read, and the state moved
//! on, it is read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use quipu_client::events::{key_text, parse_key};
use quipu_proof::compacted::{Newest, PAGE_KEY_COUNT_MAX, PAGE_PAYLOAD_SIZE_MAX, Page};
use quipu_state::compacted::Draft;
use quipu_types::{
    Action, Decode, Encode, Hash, Height, Position, StateCertificate, Transaction, code,
};

use super::error::ApiError;
use super::on_worker;
use super::read::find_stream;
use super::shape::{CompactedBody, CompactedEventBody, CompactedQuery, ErrorBody};
use crate::shared::Shared;

/// How often a state is read that no certificate is of.
const TRY_COUNT_MAX: u32 = 16;
/// How long a height may take to be certified.
const CERTIFIED_TIME_MAX: Duration = Duration::from_secs(10);

/// The newest event of each key of a compacted stream: a page of keys, and the proof that none of them was left out.
///
/// Each page is of one certified height; pages with the same `root` are of one state.
#[utoipa::path(
    get, path = "/v1/streams/{name}/compacted", tag = "streams",
    params(("name" = String, Path, description = "The stream's name"), CompactedQuery),
    responses(
        (status = 200, body = CompactedBody), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
pub(crate) async fn compacted(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<CompactedQuery>,
) -> Result<Json<CompactedBody>, ApiError> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("{what}: {error}"))
    };
    let (start, count_max) = match (&query.from, &query.key) {
        (Some(_), Some(_)) => return Err(ApiError::bad_request("from and key exclude each other")),
        (None, None) => (Hash::ZERO, PAGE_KEY_COUNT_MAX),
        (Some(from), None) => {
            (from.parse().map_err(|error| wrong("from", &error))?, PAGE_KEY_COUNT_MAX)
        }
        (None, Some(key)) => {
            (Newest::place(&parse_key(key).map_err(|error| wrong("key", &error))?), 1)
        }
    };
    let limit = query.limit.unwrap_or(count_max);
    if !(1..=PAGE_KEY_COUNT_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit: 1 to {PAGE_KEY_COUNT_MAX}")));
    }
    let (draft, certificate) = certified(&shared, &name, start, limit.min(count_max)).await?;
    on_worker(move || body(&shared, name, &start, draft, certificate).map(Json)).await
}

/// A page of a state that a quorum signed, and what they signed.
async fn certified(
    shared: &Arc<Shared>,
    name: &str,
    start: Hash,
    count_max: usize,
) -> Result<(Draft, StateCertificate), ApiError> {
    let mut progress = shared.watch();
    for _ in 0..TRY_COUNT_MAX {
        let (reading, name) = (Arc::clone(shared), name.to_owned());
        let draft = on_worker(move || read(&reading, &name, &start, count_max)).await?;
        let moved = progress.wait_for(|seen| seen.stopping || seen.certified >= draft.height);
        // Copied: the watch stays locked for as long as its value is borrowed.
        let moved = async { moved.await.map(|seen| *seen) };
        let seen = match tokio::time::timeout(CERTIFIED_TIME_MAX, moved).await {
            Ok(Ok(seen)) if !seen.stopping => seen.certified,
            Ok(_) => return Err(ApiError::stopping()),
            Err(_) => break,
        };
        let (reading, root, heights) = (Arc::clone(shared), draft.state_root, [draft.height, seen]);
        let found = on_worker(move || certificate_of(&reading, heights, &root)).await?;
        if let Some(certificate) = found {
            return Ok((draft, certificate));
        }
    }
    let text = "no certificate of the state that was read has come; ask again";
    Err(ApiError::new(code::PROOF_UNAVAILABLE, text))
}

fn read(shared: &Shared, name: &str, start: &Hash, count_max: usize) -> Result<Draft, ApiError> {
    if !find_stream(shared, name)?.spec.compacted {
        return Err(ApiError::bad_request(format!(
            "stream {name:?} is not compacted: it was created without WITH (compacted = true)"
        )));
    }
    let page = shared.machine()?.newest_page(name, start, count_max, PAGE_PAYLOAD_SIZE_MAX);
    page.map_err(ApiError::damaged)?.ok_or_else(|| ApiError::new(code::NO_STREAM, "it is gone"))
}

fn certificate_of(
    shared: &Shared,
    heights: [Height; 2],
    root: &Hash,
) -> Result<Option<StateCertificate>, ApiError> {
    for height in heights {
        let held = shared.certificates.get(height).map_err(ApiError::damaged)?;
        if let Some(certificate) = held.filter(|held| held.state.state_root == *root) {
            return Ok(Some(certificate));
        }
    }
    Ok(None)
}

fn body(
    shared: &Shared,
    stream: String,
    start: &Hash,
    draft: Draft,
    certificate: StateCertificate,
) -> Result<CompactedBody, ApiError> {
    let payloads = payloads(shared, &stream, &draft.newest)?;
    let page: Page = draft.finish(certificate, payloads);
    // Never hand out what a verifier would refuse.
    let pinned = shared.pinned()?;
    let shown = page.verify_from(&pinned, &stream, start).map_err(ApiError::damaged)?;
    let mut events = Vec::with_capacity(page.entries.len());
    for entry in &page.entries {
        let newest = &entry.newest;
        let data = shown.spec.schema.row_to_json(&entry.payload).map_err(ApiError::damaged)?;
        events.push(CompactedEventBody {
            key: key_text(&newest.key),
            position: newest.position.to_string(),
            action: newest.action,
            height: newest.height.get(),
            data,
        });
    }
    Ok(CompactedBody {
        stream,
        height: shown.height.get(),
        key_count: shown.keys.count,
        root: shown.keys.root.to_string(),
        next: shown.next.map(|next| next.to_string()),
        events,
        proof: hex::encode(page.to_bytes()),
    })
}

/// The payload of each event, as the log has it: each transaction is read once.
fn payloads(shared: &Shared, stream: &str, newest: &[Newest]) -> Result<Vec<Vec<u8>>, ApiError> {
    let mut wanted: BTreeMap<Position, Vec<(usize, u32)>> = BTreeMap::new();
    for (index, newest) in newest.iter().enumerate() {
        wanted.entry(newest.position).or_default().push((index, newest.action));
    }
    let mut payloads = vec![Vec::new(); newest.len()];
    for (Position { lane, seqno }, places) in wanted {
        let bytes = shared.reader.transaction(lane, seqno).map_err(ApiError::damaged)?;
        let mut actions = Transaction::from_bytes(&bytes).map_err(ApiError::damaged)?.actions;
        for (index, action) in places {
            let action = usize::try_from(action).ok().and_then(|action| actions.get_mut(action));
            match (action, payloads.get_mut(index)) {
                (Some(Action::Append { stream: named, payload, .. }), Some(place))
                    if named == stream =>
                {
                    *place = std::mem::take(payload);
                }
                _ => return Err(ApiError::damaged("a key's newest event is no append")),
            }
        }
    }
    Ok(payloads)
}
