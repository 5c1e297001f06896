//! A validator that sends, between its own words, old ones: of earlier heights, rounds and terms, its own and others', in
//! the bytes in which they were said.

use std::sync::Arc;

use super::{Actor, Scene};

/// Old words that are kept.
const KEPT_COUNT: usize = 300;

#[derive(Debug, Default)]
pub(super) struct Replayer {
    kept: Vec<Arc<[u8]>>,
}

impl Replayer {
    /// Keeps some of what passes, old and new.
    fn keep(&mut self, random: &mut fastrand::Rng, bytes: &Arc<[u8]>) {
        if self.kept.len() < KEPT_COUNT {
            self.kept.push(Arc::clone(bytes));
        } else if let Some(place) = self.kept.get_mut(random.usize(..KEPT_COUNT)) {
            *place = Arc::clone(bytes);
        }
    }
}

impl Actor for Replayer {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        self.keep(scene.random, &bytes);
        let count = scene.random.usize(..3);
        let mut sent = vec![bytes];
        for _ in 0..count {
            sent.extend(scene.random.choice(&self.kept).map(Arc::clone));
        }
        sent
    }

    fn hear(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        self.keep(scene.random, bytes);
    }
}
