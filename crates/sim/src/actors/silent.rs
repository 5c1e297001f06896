//! A validator that hears everything and, after a while, says nothing.

use std::sync::Arc;

use quipu_replica::Request;

use super::{Actor, Scene};

#[derive(Debug)]
pub(super) struct Silent {
    from_us: u64,
}

impl Silent {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        Self { from_us: random.u64(200_000..1_500_000) }
    }
}

impl Actor for Silent {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        if scene.now_us < self.from_us { vec![bytes] } else { Vec::new() }
    }

    fn serve(
        &mut self,
        scene: &mut Scene<'_>,
        _request: &Request,
        served: Vec<Arc<[u8]>>,
    ) -> Vec<Arc<[u8]>> {
        if scene.now_us < self.from_us { served } else { Vec::new() }
    }
}
