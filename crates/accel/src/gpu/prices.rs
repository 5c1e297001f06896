//! What a batch costs on a device with many threads: a call, bytes across the bus, steps.
//!
//! ```text
//!  call + size × byte + max(all steps × step, longest item × step alone)
//! ```
//! Steps of one item wait for each other, so a few long chains take as long as many.

use crate::{BatchBackend, BatchError, Shape, Work};

/// Prices of one device. Fractions of a nanosecond are picoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prices {
    /// An empty call: launch, wait, memory.
    pub(super) call_ns: u64,
    /// One byte in.
    pub(super) byte_ps: u64,
    /// One compression, with every thread busy.
    pub(super) step_ps: u64,
    /// One compression as its thread sees it.
    pub(super) step_serial_ps: u64,
}

/// Items that fill any device, and as nodes make a batch of 16 MiB.
const MANY_COUNT: usize = 1 << 18;

/// Steps of chains that fill the device; of all of them together; and of the one that is timed alone.
const STEP_COUNT: u64 = 64;
const STEP_COUNT_TOTAL: u64 = STEP_COUNT << 18;
const STEP_COUNT_ALONE: u64 = 1 << 10;

/// Bytes of as many nodes.
const NODES_SIZE: u64 = 64 << 18;

impl Prices {
    /// Nanoseconds of a batch.
    pub(super) fn predict_ns(&self, shape: &Shape) -> u64 {
        // A node is two compressions.
        let compressions = if shape.work == Work::Nodes { 2 } else { 1 };
        let all = shape.step_count_total.saturating_mul(self.step_ps);
        let longest = shape.step_count_longest.saturating_mul(self.step_serial_ps);
        let steps = all.max(longest).saturating_mul(compressions);
        let bytes = shape.size.saturating_mul(self.byte_ps);
        self.call_ns.saturating_add(bytes.saturating_add(steps) / 1_000)
    }

    /// The prices of a device, by batches that are large enough to tell them apart.
    pub(super) fn measure(
        device: &dyn BatchBackend,
        now_ns: &dyn Fn() -> u64,
    ) -> Result<Self, BatchError> {
        let (start, mut end) = ([[0; 32]], [[0; 32]]);
        let call_ns = best_ns(now_ns, &mut || device.sha256_chains(&start, 1, &mut end))?;
        let alone_ns =
            best_ns(now_ns, &mut || device.sha256_chains(&start, STEP_COUNT_ALONE, &mut end))?;
        let (starts, mut ends) = (vec![[0; 32]; MANY_COUNT], vec![[0; 32]; MANY_COUNT]);
        let busy_ns =
            best_ns(now_ns, &mut || device.sha256_chains(&starts, STEP_COUNT, &mut ends))?;
        let pairs = vec![[[0; 32]; 2]; MANY_COUNT];
        let nodes_ns = best_ns(now_ns, &mut || device.sha256_nodes(0, &pairs, &mut ends))?;
        // The nodes' own steps are left in the price of a byte: they are few beside the copy.
        let price_ps = |ns: u64, parts: u64| {
            ns.saturating_sub(call_ns).saturating_mul(1_000).checked_div(parts).unwrap_or(u64::MAX)
        };
        Ok(Self {
            call_ns,
            byte_ps: price_ps(nodes_ns, NODES_SIZE),
            step_ps: price_ps(busy_ns, STEP_COUNT_TOTAL),
            step_serial_ps: price_ps(alone_ns, STEP_COUNT_ALONE),
        })
    }
}

/// The shortest of three runs after one to warm up: what disturbs only adds.
fn best_ns(
    now_ns: &dyn Fn() -> u64,
    run: &mut dyn FnMut() -> Result<(), BatchError>,
) -> Result<u64, BatchError> {
    run()?;
    let mut best = u64::MAX;
    for _ in 0..3 {
        let before = now_ns();
        run()?;
        best = best.min(now_ns().saturating_sub(before));
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A device of known prices on a clock of its own.
    #[derive(Debug)]
    struct Priced {
        prices: Prices,
        clock_ns: AtomicU64,
    }

    impl Priced {
        #[expect(clippy::arithmetic_side_effects, reason = "a few items")]
        fn pass(&self, work: Work, items: usize, steps: u64, item_size: u64) {
            let item_count = u64::try_from(items).expect("few");
            let shape = Shape {
                work,
                item_count,
                step_count_total: item_count * steps,
                step_count_longest: steps,
                size: item_count * item_size,
            };
            self.clock_ns.fetch_add(self.prices.predict_ns(&shape), Ordering::Relaxed);
        }
    }

    impl BatchBackend for Priced {
        fn name(&self) -> &'static str {
            "priced"
        }

        fn predict_ns(&self, shape: &Shape) -> Option<u64> {
            Some(self.prices.predict_ns(shape))
        }

        fn sha256_many(&self, _: &[u8], _: &[&[u8]], _: &mut [[u8; 32]]) -> Result<(), BatchError> {
            Ok(())
        }

        fn sha256_nodes(
            &self,
            _: u8,
            pairs: &[[[u8; 32]; 2]],
            _: &mut [[u8; 32]],
        ) -> Result<(), BatchError> {
            self.pass(Work::Nodes, pairs.len(), 1, 64);
            Ok(())
        }

        fn sha256_chains(
            &self,
            starts: &[[u8; 32]],
            count: u64,
            _: &mut [[u8; 32]],
        ) -> Result<(), BatchError> {
            self.pass(Work::Chains, starts.len(), count, 32);
            Ok(())
        }
    }

    #[test]
    fn measured_prices_are_near_those_of_the_device() {
        let prices =
            Prices { call_ns: 30_000, byte_ps: 50, step_ps: 100, step_serial_ps: 2_000_000 };
        let device = Priced { prices, clock_ns: AtomicU64::new(0) };
        let now_ns = || device.clock_ns.load(Ordering::Relaxed);
        let found = Prices::measure(&device, &now_ns).expect("it has no errors");
        for (found, real) in [
            (found.call_ns, prices.call_ns),
            (found.byte_ps, prices.byte_ps),
            (found.step_ps, prices.step_ps),
            (found.step_serial_ps, prices.step_serial_ps),
        ] {
            assert!(found * 10 >= real * 9 && found <= real * 2, "{found} for {real}");
        }
    }

    #[test]
    fn one_long_chain_costs_its_length_and_many_short_ones_their_sum() {
        let prices = Prices { call_ns: 10, byte_ps: 0, step_ps: 1_000, step_serial_ps: 50_000 };
        let price = |item_count: u64, step_count_longest: u64| {
            let step_count_total = item_count.saturating_mul(step_count_longest);
            let work = Work::Chains;
            let size = 0;
            let shape = Shape { work, item_count, step_count_total, step_count_longest, size };
            prices.predict_ns(&shape)
        };
        assert_eq!(price(1, 100), 10 + 5_000);
        assert_eq!(price(50, 100), 10 + 5_000);
        assert_eq!(price(1_000, 100), 10 + 100_000);
        assert_eq!(price(1, u64::MAX), 10 + u64::MAX / 1_000, "it saturates");
    }
}
