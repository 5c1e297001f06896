//! A validator whose every word comes seconds late: votes, proposals, chunks and answers are held up and come in bursts, in
//! any order. What it says is right when it is said, and mostly of no use when it is heard.

use std::sync::Arc;

use super::{Actor, Scene};

/// Longest time between two bursts.
const BURST_US_MAX: u64 = 4_000_000;
/// How long one takes.
const BURST_LENGTH_US: u64 = 30_000;

#[derive(Debug, Default)]
pub(super) struct Late {
    /// When the next burst begins.
    burst_us: u64,
}

impl Actor for Late {
    fn send(&mut self, _scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        vec![bytes]
    }

    fn delay_us(&mut self, scene: &mut Scene<'_>) -> u64 {
        if self.burst_us <= scene.now_us {
            let wait_us = scene.random.u64(BURST_US_MAX / 4..BURST_US_MAX);
            self.burst_us = scene.now_us.saturating_add(wait_us);
        }
        scene.did();
        let wait_us = self.burst_us.saturating_sub(scene.now_us);
        wait_us.saturating_add(scene.random.u64(..BURST_LENGTH_US))
    }
}
