//! How the lanes' clocks go.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use quipu_types::Lane;

use super::error::ApiError;
use super::on_worker;
use super::shape::{BracketsBody, ClockBody, ErrorBody, LaneClockBody};
use crate::clocks::LanePace;
use crate::members::members;
use crate::metrics::gauge_value;
use crate::shared::Shared;

/// The lanes' clocks over the last heights: rates, what they prove, and how wide the brackets of transactions are.
#[utoipa::path(
    get, path = "/v1/clock", tag = "ledger",
    responses((status = 200, body = ClockBody), (status = 503, body = ErrorBody))
)]
pub(crate) async fn clock(State(shared): State<Arc<Shared>>) -> Result<Json<ClockBody>, ApiError> {
    on_worker(move || body(&shared).map(Json)).await
}

fn body(shared: &Shared) -> Result<ClockBody, ApiError> {
    let pace = shared.clocks.pace().unwrap_or_default();
    let context = shared.context();
    let members = members(&*shared.machine()?).map_err(ApiError::damaged)?;
    let lane = |(lane, clock): (u16, &LanePace)| -> Result<LaneClockBody, ApiError> {
        let tip = shared.reader.tip(Lane::new(lane))?;
        let sequencer = context.epochs.sequencer(Lane::new(lane), tip.term);
        let named = members.get(usize::from(sequencer.get()));
        Ok(LaneClockBody {
            lane,
            sequencer: named.map_or_else(|| sequencer.to_string(), |one| one.name.clone()),
            term: tip.term.get(),
            rate_hz: clock.rate_hz,
            drift: clock.rate_hz.map(|rate| rate / gauge_value(shared.genesis.clock_rate_hz) - 1.0),
            proven: clock
                .rate_hz
                .map(|rate| rate / gauge_value(shared.genesis.hash_rate_fastest_hz)),
            series_hz: clock.series.clone(),
        })
    };
    let lanes = (0..).zip(&pace.lanes).map(lane).collect::<Result<_, _>>()?;
    let widths = shared.clocks.widths();
    Ok(ClockBody {
        declared_hz: shared.genesis.clock_rate_hz,
        fastest_hz: shared.genesis.hash_rate_fastest_hz,
        from_height: pace.heights.0.get(),
        to_height: pace.heights.1.get(),
        seconds: crate::driver::seconds(pace.micros),
        lanes,
        brackets: BracketsBody {
            count: widths.count,
            mean_us: widths.sum_us.checked_div(widths.count).unwrap_or(0),
            widest_us: widths.max_us,
        },
    })
}
