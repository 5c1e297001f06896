//! Consumer groups as they stand at the newest height that is applied.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use quipu_state::{Group, GroupHead, Lease};
use quipu_types::{Hash, Lane, code};

use super::error::ApiError;
use super::on_worker;
use super::read::writers_shown;
use super::shape::{
    ErrorBody, GroupBody, GroupLaneBody, GroupSummaryBody, GroupsQuery, MemberBody,
};
use crate::shared::Shared;

/// Most groups of one answer.
const GROUP_COUNT_MAX: usize = 1_000;

/// Consumer groups, by name.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", params(GroupsQuery),
    responses((status = 200, body = [GroupSummaryBody]), (status = 400, body = ErrorBody))
)]
pub(crate) async fn groups(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<GroupsQuery>,
) -> Result<Json<Vec<GroupSummaryBody>>, ApiError> {
    let after = query.after.unwrap_or_default();
    if !after.is_empty() {
        check_name(&after)?;
    }
    let limit = query.limit.map_or(GROUP_COUNT_MAX, |limit| limit.min(GROUP_COUNT_MAX));
    on_worker(move || {
        let groups = shared.machine()?.groups(&after, limit).map_err(ApiError::damaged)?;
        Ok(Json(groups.into_iter().map(|(name, head)| summary(name, &head)).collect()))
    })
    .await
}

/// One consumer group: its members with their leases, who holds which lane, and how far each lane is.
#[utoipa::path(
    get, path = "/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "The group's name")),
    responses((status = 200, body = GroupBody), (status = 404, body = ErrorBody))
)]
pub(crate) async fn group(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<GroupBody>, ApiError> {
    check_name(&name)?;
    on_worker(move || {
        let machine = shared.machine()?;
        let Some(group) = machine.group(&name).map_err(ApiError::damaged)? else {
            let text = format!("there is no consumer group {name:?}");
            return Err(ApiError::new(code::NO_GROUP, text));
        };
        let height = machine.applied();
        let state = machine.state(height).map_err(ApiError::damaged)?;
        let time_us = state.map_or(shared.genesis.time_us, |state| state.time_us);
        drop(machine);
        let Group { head, members, lanes } = group;
        let lanes = (0..).map(Lane::new).zip(lanes).map(|(lane, record)| {
            let (owner, generation) =
                record.owner.map(|owner| (owner.member, owner.generation)).unzip();
            let cursor = record.cursor;
            GroupLaneBody {
                lane: lane.get(),
                owner,
                generation,
                seqno: cursor.seqno.get(),
                height: cursor.height.get(),
                root: (cursor.root != Hash::ZERO).then(|| cursor.root.to_string()),
            }
        });
        Ok(Json(GroupBody {
            height: height.get(),
            time_us: time_us.get(),
            summary: summary(name, &head),
            lanes: lanes.collect(),
            members: members.into_iter().map(|(name, lease)| member_body(name, &lease)).collect(),
        }))
    })
    .await
}

fn check_name(name: &str) -> Result<(), ApiError> {
    quipu_types::row::check_name(name)
        .map_err(|reason| ApiError::bad_request(format!("group name: {reason}")))
}

fn summary(name: String, head: &GroupHead) -> GroupSummaryBody {
    let (consumers, accounts) = writers_shown(&head.consumers);
    GroupSummaryBody {
        name,
        creator: head.creator.to_string(),
        consumers: consumers.to_owned(),
        accounts,
        generation: head.generation,
        member_count: head.member_count,
    }
}

fn member_body(name: String, lease: &Lease) -> MemberBody {
    MemberBody {
        name,
        account: lease.account.to_string(),
        joined: lease.joined.to_string(),
        session_us: lease.session_us,
        lease_end_us: lease.end.get(),
    }
}
