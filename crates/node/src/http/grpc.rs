//! The interface for programs as gRPC: `quipu.v1.Ledger`, health and reflection, on the address of HTTP.
//!
//! ```text
//!  HTTP/2 ─> listen (L1-L4) ─> router ─> receive: one message, bounded, in the room of all ─> LedgerServer ─> Face
//!                                                   what stands at an HTTP path <─ the same functions ─────────┘
//! ```
//! * G1 A method has no logic: it calls what the handler of its path calls, and says the answer in protobuf ([`shape`]).
//! * G2 An error is an [`ApiError`]: its status follows from that in HTTP, its code and hint are metadata.
//! * G3 A message from a client has at most `SMALL_BODY_SIZE_MAX` bytes ([`receive`]), of other services
//!   [`QUESTION_SIZE_MAX`]; one to a client [`PART_SIZE_MAX`] or an event.
//! * G4 Streams are those of [`super::stream`]: bounded in number and in what waits for a slow client. A stream that
//!   the validator's end cuts off ends with `UNAVAILABLE`.

mod health;
mod receive;
mod shape;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use quipu_replica::Admitted;
use quipu_types::transaction::TRANSACTION_SIZE_MAX;
use quipu_types::{Code, Encode, Height, Position, code};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use super::error::ApiError;
use super::shape::{EventBody, EventsQuery, ProofQuery, TxStatus};
use super::{SMALL_BODY_SIZE_MAX, complain, epochs, feed, follow, on_worker, proof, read, submit};
use crate::driver::When;
use crate::shared::Shared;
use health::Readiness;
use proto::ledger_server::{Ledger, LedgerServer};

/// What the build made of `ledger.proto`.
#[expect(
    clippy::allow_attributes,
    clippy::as_conversions,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated; the documentation is in the file that it is made of"
)]
pub(crate) mod proto {
    tonic::include_proto!("quipu.v1");
}

/// The description of `ledger.proto`, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ledger.bin"));
/// Largest message to health and reflection.
const QUESTION_SIZE_MAX: usize = 4 << 10;
/// Most characters of an error's message: clients take 8 KiB of headers, and one may need 12 bytes there.
const MESSAGE_LENGTH_MAX: usize = 400;
/// Bytes of a feed in one message.
const PART_SIZE_MAX: usize = 1 << 20;

/// The services' routes.
pub(super) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let ledger = LedgerServer::new(Face(Arc::clone(shared)));
    let ledger = ledger.max_decoding_message_size(SMALL_BODY_SIZE_MAX);
    let health = HealthServer::new(Readiness(Arc::clone(shared)));
    let files = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let made = "the descriptors are what the build made";
    // Older clients ask by v1alpha.
    let (new, old) = (files().build_v1().expect(made), files().build_v1alpha().expect(made));
    Router::new()
        .route_service(&path_of(&ledger), ledger)
        .route_layer(middleware::from_fn_with_state(Arc::clone(shared), receive::receive))
        .route_service(&path_of(&health), health.max_decoding_message_size(QUESTION_SIZE_MAX))
        .route_service(&path_of(&new), new.max_decoding_message_size(QUESTION_SIZE_MAX))
        .route_service(&path_of(&old), old.max_decoding_message_size(QUESTION_SIZE_MAX))
}

fn path_of<S: NamedService>(_: &S) -> String {
    format!("/{}/{{method}}", S::NAME)
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let wanted = match error.status().as_u16() {
            404 => tonic::Code::NotFound,
            408 => tonic::Code::DeadlineExceeded,
            409 => tonic::Code::FailedPrecondition,
            410 => tonic::Code::OutOfRange,
            413 | 429 => tonic::Code::ResourceExhausted,
            500 => tonic::Code::Internal,
            501 => tonic::Code::Unimplemented,
            503 => tonic::Code::Unavailable,
            _ => tonic::Code::InvalidArgument,
        };
        let body = error.into_body();
        // It stands in a header, and may name what was sent.
        let message: String = body.message.chars().take(MESSAGE_LENGTH_MAX).collect();
        let mut status = Self::new(wanted, message);
        for (name, text) in [("quipu-code", body.code), ("quipu-hint", body.hint)] {
            if let Ok(value) = MetadataValue::try_from(text) {
                status.metadata_mut().insert(name, value);
            }
        }
        status
    }
}

/// The service: what stands at HTTP's paths, said in protobuf.
struct Face(Arc<Shared>);

impl Face {
    /// Runs what reads the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let shared = Arc::clone(&self.0);
        Ok(Response::new(on_worker(move || work(&shared)).await?))
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Ledger for Face {
    type FollowStream = Answers<proto::Event>;
    type FeedStream = Answers<proto::FeedPart>;

    async fn submit(
        &self,
        request: Request<proto::SubmitRequest>,
    ) -> Result<Response<proto::TransactionStatus>, Status> {
        let proto::SubmitRequest { transaction, wait } = request.into_inner();
        let when = match proto::Wait::try_from(wait) {
            Ok(proto::Wait::Unspecified | proto::Wait::Executed) => When::Executed,
            Ok(proto::Wait::Final) => When::Final,
            Ok(proto::Wait::None) => When::Taken,
            Err(_) => return Err(ApiError::bad_request(format!("wait: {wait} is none")).into()),
        };
        Ok(Response::new(submitted(&self.0, &transaction, when).await?))
    }

    async fn complain(
        &self,
        request: Request<proto::ComplainRequest>,
    ) -> Result<Response<proto::Heard>, Status> {
        let heard = complain::hear(&self.0, request.into_inner().complaint).await?;
        Ok(Response::new(proto::Heard { lane: heard.lane.into(), term: heard.term }))
    }

    async fn get_transaction(
        &self,
        request: Request<proto::GetTransactionRequest>,
    ) -> Result<Response<proto::TransactionStatus>, Status> {
        let tx = read::parse_tx(&request.into_inner().tx)?;
        self.read(move |shared| read::find_transaction(shared, tx).map(Into::into)).await
    }

    async fn prove(
        &self,
        request: Request<proto::ProveRequest>,
    ) -> Result<Response<proto::Proof>, Status> {
        let proto::ProveRequest { tx, action, time } = request.into_inner();
        let tx = read::parse_tx(&tx)?;
        let prove = move |shared: &Shared| {
            let bundle = proof::bundle(shared, &tx, &ProofQuery { action, time })?.into();
            Ok(proto::Proof { bundle })
        };
        self.read(prove).await
    }

    async fn get_header(
        &self,
        request: Request<proto::GetHeaderRequest>,
    ) -> Result<Response<proto::Header>, Status> {
        let height = request.into_inner().height.map(Height::new);
        let find = move |shared: &Shared| {
            let (header, certificate) = read::find_header(shared, height)?;
            let bytes = (header.to_bytes().into(), certificate.to_bytes().into());
            Ok(shape::header(read::header_body(&header, &certificate), bytes))
        };
        self.read(find).await
    }

    async fn get_epochs(
        &self,
        request: Request<proto::GetEpochsRequest>,
    ) -> Result<Response<proto::Epochs>, Status> {
        let from = request.into_inner().from;
        let find = move |shared: &Shared| {
            let handovers = epochs::read(shared, from)?.to_bytes().into();
            Ok(proto::Epochs { handovers })
        };
        self.read(find).await
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        self.read(|shared| read::status_body(shared).map(Into::into)).await
    }

    async fn follow(
        &self,
        request: Request<proto::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let proto::FollowRequest { stream, cursor, follow, limit, key } = request.into_inner();
        let from = (!cursor.is_empty()).then_some(cursor);
        let query = EventsQuery { from, follow, limit, key };
        let pages = follow::open(&self.0, stream, query, Events::default()).await?;
        Ok(Response::new(told(pages, |page| page)))
    }

    async fn feed(
        &self,
        request: Request<proto::FeedRequest>,
    ) -> Result<Response<Self::FeedStream>, Status> {
        let pages = feed::open(&self.0, &request.into_inner().request).await?;
        Ok(Response::new(told(pages, parts)))
    }
}

/// Checks one transaction and gives it to be ordered. What is refused at admission stands nowhere: an error.
async fn submitted(
    shared: &Arc<Shared>,
    bytes: &[u8],
    when: When,
) -> Result<proto::TransactionStatus, ApiError> {
    if shared.stopping() {
        return Err(ApiError::stopping());
    }
    if bytes.len() > TRANSACTION_SIZE_MAX {
        let text = format!("a transaction has at most {TRANSACTION_SIZE_MAX} bytes");
        return Err(ApiError::new(code::TOO_LARGE, text));
    }
    let (worker, bytes): (_, Arc<[u8]>) = (Arc::clone(shared), Arc::from(bytes));
    let admit = move || -> Result<Vec<Result<Arc<Admitted>, Code>>, ApiError> {
        Ok(worker.admissions.admit_many(vec![bytes]))
    };
    let answers = submit::order(shared, on_worker(admit).await?, when).await?;
    let answer = answers.into_iter().next().ok_or_else(ApiError::stopping)?;
    let refused = answer.code.as_ref().filter(|_| answer.status == TxStatus::Invalid);
    match refused.and_then(|code| code.parse::<Code>().ok()) {
        Some(code) => Err(ApiError::new(code, answer.message.unwrap_or_default())),
        None => Ok(answer.into()),
    }
}

/// Pages as the messages that they hold.
fn told<P: Send + 'static, T: Send + 'static>(
    pages: impl futures::Stream<Item = Result<P, ApiError>> + Send + 'static,
    messages: fn(P) -> Vec<T>,
) -> Answers<T> {
    let told = move |page: Result<P, ApiError>| {
        stream::iter(match page {
            Ok(page) => messages(page).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(Status::from(error))],
        })
    };
    pages.flat_map(told).boxed()
}

/// A page of a feed in parts that clients take.
fn parts(mut page: Bytes) -> Vec<proto::FeedPart> {
    let mut parts = Vec::new();
    while !page.is_empty() {
        let frames = page.split_to(page.len().min(PART_SIZE_MAX));
        parts.push(proto::FeedPart { frames });
    }
    parts
}

/// Events as messages.
#[derive(Default)]
struct Events {
    page: Vec<proto::Event>,
    size: usize,
}

impl follow::Form for Events {
    type Page = Vec<proto::Event>;

    fn put(&mut self, event: EventBody, cursor: Option<Position>) -> Result<(), ApiError> {
        let event = shape::event(event, cursor)?;
        self.size = self.size.saturating_add(event.encoded_len());
        self.page.push(event);
        Ok(())
    }

    fn size(&self) -> usize {
        self.size
    }

    fn take(&mut self) -> Vec<proto::Event> {
        self.size = 0;
        std::mem::take(&mut self.page)
    }

    /// HTTP/2 is pinged.
    fn idle(&self) -> Option<Vec<proto::Event>> {
        None
    }

    /// The stream's status says it.
    fn failure(&self, _: &ApiError) -> Option<Vec<proto::Event>> {
        None
    }
}
