//! What was used last, within a bound: one piece for every cache of values that never change under their keys.
//!
//! ```text
//!  keep ──> young ──(half of the room is taken)──> old ──(the next time)──> forgotten
//!             ^────────── get finds it in old ──────┘
//! ```
//! # Invariants
//! * Q1 A value is found under its key exactly as it was kept, or not at all.
//! * Q2 What the kept values are said to take is never more than the bound. Between half of it and all of it is used;
//!   what was not asked for meanwhile goes first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A cache. Its users share it by reference.
pub struct Recent<K, V> {
    kept: Mutex<Kept<K, V>>,
    size_half: usize,
    hit_count: AtomicU64,
    miss_count: AtomicU64,
}

struct Kept<K, V> {
    young: Generation<K, V>,
    young_size: usize,
    old: Generation<K, V>,
}

/// Values, and what each is said to take.
type Generation<K, V> = BTreeMap<K, (V, usize)>;

/// How often a cache was asked, and knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// It knew.
    pub hits: u64,
    /// It did not.
    pub misses: u64,
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("size_half", &self.size_half).finish_non_exhaustive()
    }
}

impl<K: Ord + Clone, V: Clone> Recent<K, V> {
    /// Keeps nothing yet, and at most values of `size_max` together, in whatever unit they are kept with.
    #[must_use]
    pub const fn new(size_max: usize) -> Self {
        let kept = Kept { young: BTreeMap::new(), young_size: 0, old: BTreeMap::new() };
        Self {
            kept: Mutex::new(kept),
            size_half: size_max / 2,
            hit_count: AtomicU64::new(0),
            miss_count: AtomicU64::new(0),
        }
    }

    /// The value of `key`, if it is kept; asking keeps it longer.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        let (found, forgotten) = {
            let mut kept = self.lock();
            match kept.young.get(key) {
                Some((value, _)) => (Some(value.clone()), None),
                None => match kept.old.remove(key) {
                    Some((value, size)) => {
                        let forgotten = kept.keep(key.clone(), value.clone(), size, self.size_half);
                        (Some(value), forgotten)
                    }
                    None => (None, None),
                },
            }
        };
        drop(forgotten);
        let count = if found.is_some() { &self.hit_count } else { &self.miss_count };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a value, unless it alone takes more than half of the room.
    pub fn keep(&self, key: K, value: V, size: usize) {
        if size <= self.size_half {
            let forgotten = self.lock().keep(key, value, size, self.size_half);
            // Giving back much memory takes long: nobody waits for it.
            drop(forgotten);
        }
    }

    /// How often it was asked.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hit_count.load(Ordering::Relaxed),
            misses: self.miss_count.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K, V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord, V> Kept<K, V> {
    /// Keeps one, and gives what is forgotten for it.
    fn keep(&mut self, key: K, value: V, size: usize, half: usize) -> Option<Generation<K, V>> {
        let is_full = self.young_size.saturating_add(size) > half;
        let forgotten = is_full.then(|| {
            self.young_size = 0;
            std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
        });
        let replaced = self.young.insert(key, (value, size));
        let size_before = replaced.map_or(0, |(_, size)| size);
        self.young_size = self.young_size.saturating_sub(size_before).saturating_add(size);
        forgotten
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_found_as_they_were_kept_within_the_bound(
            deeds in prop::collection::vec((0_u8..20, 0_usize..9, any::<bool>()), 0..200),
            size_max in 0_usize..60,
        ) {
            let recent = Recent::new(size_max);
            let (mut truth, mut asked) = (BTreeMap::new(), 0);
            for (key, size, keeps) in deeds {
                if keeps {
                    recent.keep(key, size, size);
                    truth.insert(key, size);
                } else {
                    asked += 1;
                    let found = recent.get(&key);
                    // Q1; one that was too large to be kept leaves what was kept before it.
                    prop_assert!(found.is_none() || size_max < 18 || found == truth.get(&key).copied());
                }
                let kept = recent.lock();
                let sum = |all: &Generation<u8, usize>| all.values().map(|one| one.1).sum::<usize>();
                prop_assert_eq!(sum(&kept.young), kept.young_size);
                prop_assert!(sum(&kept.young).max(sum(&kept.old)) <= size_max / 2);
            }
            let CacheCounts { hits, misses } = recent.counts();
            prop_assert_eq!(hits + misses, asked);
        }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let recent = Recent::new(8);
        recent.keep("asked", 0, 1);
        for number in 1..100 {
            recent.keep("other", number, 1);
            recent.keep("more", number, 3);
            assert_eq!(recent.get(&"asked"), Some(0));
        }
        recent.keep("too large", 0, 5);
        assert_eq!(recent.get(&"too large"), None);
    }
}
