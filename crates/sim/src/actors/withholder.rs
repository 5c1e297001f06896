//! A validator that tells its votes, proposals and chunks to as many as are, with itself, a quorum less one, and serves
//! nobody: what it says is known to some, and others must hear of it from them.

use std::sync::Arc;

use quipu_replica::Request;

use super::{Actor, Scene};

#[derive(Debug)]
pub(super) struct Withholder;

impl Actor for Withholder {
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let set = &scene.context.set;
        let own = set.power(scene.own);
        let told = scene.first_others(|power| !set.is_quorum(power.saturating_add(own)));
        if told.contains(&to) { vec![bytes] } else { Vec::new() }
    }

    fn serve(
        &mut self,
        _scene: &mut Scene<'_>,
        _request: &Request,
        _served: Vec<Arc<[u8]>>,
    ) -> Vec<Arc<[u8]>> {
        Vec::new()
    }
}
