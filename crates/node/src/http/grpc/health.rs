//! `grpc.health.v1`: serving exactly when `/readyz` says so, for the whole and for the ledger.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::super::error::ApiError;
use super::Face;
use super::proto::ledger_server::LedgerServer;
use crate::admin::readiness;
use crate::shared::{Progress, Shared};

/// The service.
pub(super) struct Readiness(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match status(&service, self.0.progress()) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("there is no service of this name here"))
            }
            status => Ok(Response::new(answer(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let watching = Watching { service, progress: self.0.watch(), told: None, is_over: false };
        Ok(Response::new(stream::unfold(watching, Watching::next).boxed()))
    }
}

fn status(service: &str, progress: Progress) -> ServingStatus {
    if !["", LedgerServer::<Face>::NAME].contains(&service) {
        return ServingStatus::ServiceUnknown;
    }
    match readiness(progress) {
        Ok(_) => ServingStatus::Serving,
        Err(_) => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// One who wants to know when it changes.
struct Watching {
    service: String,
    progress: watch::Receiver<Progress>,
    told: Option<ServingStatus>,
    is_over: bool,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        while !self.is_over {
            let seen = *self.progress.borrow_and_update();
            let status = status(&self.service, seen);
            if self.told.replace(status) != Some(status) {
                return Some((Ok(answer(status)), self));
            }
            if seen.stopping || self.progress.changed().await.is_err() {
                self.is_over = true;
                return Some((Err(ApiError::stopping().into()), self));
            }
        }
        None
    }
}
