//! Messages of any lengths on a kernel of fixed width.
//!
//! ```text
//!  queue of messages          slots: one per way
//!  [m0 m1 m2 m3 m4 ...] --->  | m0 block 1 | m3 block 0 | m2 block 7 | ...  --compress--> state columns
//!                    refill when a message ends            | no message left, few slots busy
//!                                                          v
//!                                     the serial kernel takes each column to its end
//! ```
//! Padding by FIPS 180-4, section 5.1.1: `0x80`, zeros, the count of bits in 64 bits, big endian.
//!
//! # Invariants
//! * A slot without a message is fed zeros, and its column is read by nobody.
//! * A message of `n` bytes with its prefix has `(n + 9)` bytes rounded up to blocks, whatever `n` is.

use super::{BLOCK_SIZE, INITIAL, Kernel, Serial, State, digest};
use crate::PREFIX_SIZE_MAX;

/// Bytes that padding adds at least: the bit that ends the message, and the count of bits.
const PADDING_SIZE_MIN: usize = 9;

/// What idle slots are fed.
const ZEROS: &[u8; BLOCK_SIZE] = &[0; BLOCK_SIZE];

/// One call of `sha256_many`, and who may finish what is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// At most [`PREFIX_SIZE_MAX`] bytes before each message.
    pub(crate) prefix: &'a [u8],
    pub(crate) messages: &'a [&'a [u8]],
    /// None when the wide kernel must do it alone.
    pub(crate) finish: Option<Finish<'a>>,
}

/// Who takes the last few messages, one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) serial: &'a dyn Serial,
    /// Blocks that `serial` does in the time of one step of the wide kernel, times [`RATE_ONE`].
    pub(crate) rate: u64,
}

/// Unit of [`Finish::rate`].
pub(crate) const RATE_ONE: u64 = 16;

/// Blocks of a message with its prefix.
pub(crate) const fn block_count(prefix_size: usize, message_size: usize) -> usize {
    // A slice has at most `isize::MAX` bytes, so nothing saturates; if it did, it would only be slow.
    message_size.saturating_add(prefix_size).saturating_add(PADDING_SIZE_MIN).div_ceil(BLOCK_SIZE)
}

/// The count of bits that ends the padding.
const fn bit_count(size: usize) -> u64 {
    #[expect(clippy::as_conversions, reason = "no target has a usize wider than 64 bits")]
    let size = size as u64;
    size.wrapping_mul(8)
}

/// One message on its way through a column of the state.
#[derive(Clone, Copy, Debug)]
struct Slot<'a> {
    message: &'a [u8],
    place: usize,
    block_next: usize,
    block_count: usize,
}

impl<'a> Slot<'a> {
    const IDLE: Self = Self { message: &[], place: 0, block_next: 0, block_count: 0 };

    fn is_busy(&self) -> bool {
        self.block_next < self.block_count
    }

    fn left(&self) -> usize {
        self.block_count.saturating_sub(self.block_next)
    }

    /// The next block where it lies in the message, if it lies there whole (S3).
    fn whole(&self, prefix_size: usize) -> Option<&'a [u8; BLOCK_SIZE]> {
        let start = self.block_next.wrapping_mul(BLOCK_SIZE).checked_sub(prefix_size)?;
        self.message.get(start..)?.first_chunk()
    }

    /// Assemble the next block: what the prefix, the message and the padding have of it.
    fn assemble(&self, prefix: &[u8], block: &mut [u8; BLOCK_SIZE]) {
        let start = self.block_next.wrapping_mul(BLOCK_SIZE);
        let size = prefix.len().saturating_add(self.message.len());
        *block = [0; BLOCK_SIZE];
        let mut used = 0;
        if start < prefix.len() {
            // The whole prefix: it is shorter than a block.
            put(block, 0, prefix);
            used = prefix.len();
        }
        let at = start.saturating_add(used).saturating_sub(prefix.len());
        let rest = self.message.get(at..).unwrap_or_default();
        put(block, used, rest);
        if start <= size {
            put(block, size.saturating_sub(start), &[0x80]);
        }
        if self.left() == 1 {
            put(block, BLOCK_SIZE.saturating_sub(8), &bit_count(size).to_be_bytes());
        }
    }
}

/// Write as much of `bytes` at `at` as the block holds.
#[inline]
fn put(block: &mut [u8; BLOCK_SIZE], at: usize, bytes: &[u8]) {
    let to = block.get_mut(at..).unwrap_or_default();
    let size = to.len().min(bytes.len());
    if let (Some(to), Some(from)) = (to.get_mut(..size), bytes.get(..size)) {
        to.copy_from_slice(from);
    }
}

/// The messages, the longest first where it matters.
struct Queue<'a> {
    job: &'a Job<'a>,
    /// Empty when the order is that of the job.
    order: Vec<usize>,
    next: usize,
}

impl<'a> Queue<'a> {
    fn new(job: &'a Job<'a>, ways: usize) -> Self {
        let mut longest = 0_usize;
        let mut total = 0_usize;
        for message in job.messages {
            let blocks = block_count(job.prefix.len(), message.len());
            longest = longest.max(blocks);
            total = total.saturating_add(blocks);
        }
        // A long message that starts last runs alone. That costs little when it is short beside the whole.
        let uneven = longest.saturating_mul(job.messages.len()) != total;
        let matters = longest.saturating_mul(ways).saturating_mul(8) > total;
        let mut order = Vec::new();
        if uneven && matters && job.messages.len() > ways {
            order.extend(0..job.messages.len());
            order.sort_unstable_by_key(|place| {
                let message = job.messages.get(*place).copied().unwrap_or_default();
                (std::cmp::Reverse(message.len()), *place)
            });
        }
        Self { job, order, next: 0 }
    }

    fn pop(&mut self) -> Option<Slot<'a>> {
        let place = if self.order.is_empty() { self.next } else { *self.order.get(self.next)? };
        let message = self.job.messages.get(place).copied()?;
        self.next = self.next.saturating_add(1);
        let block_count = block_count(self.job.prefix.len(), message.len());
        Some(Slot { message, place, block_next: 0, block_count })
    }
}

/// Hash each message of the job to its place.
pub(super) fn many<const WAYS: usize, K: Kernel<WAYS>>(
    kernel: K,
    job: &Job<'_>,
    out: &mut [[u8; 32]],
) {
    assert_eq!(job.messages.len(), out.len(), "each message has one place for its hash");
    assert!(job.prefix.len() <= PREFIX_SIZE_MAX, "a prefix has a bound");
    let mut queue = Queue::new(job, WAYS);
    let mut slots = [Slot::IDLE; WAYS];
    let mut state = [[0; WAYS]; 8];
    let mut scratch = [[0; BLOCK_SIZE]; WAYS];
    loop {
        refill(&mut slots, &mut state, &mut queue);
        // Until the first message ends, every busy slot just goes on.
        let steps = slots.iter().filter(|slot| slot.is_busy()).map(Slot::left).min();
        let Some(steps) = steps else { return };
        if let Some(finish) = &job.finish
            && serial_is_faster(finish, &slots)
        {
            finish_serially(finish.serial, job.prefix, &slots, &state, out);
            // What is still queued starts in empty slots.
            slots = [Slot::IDLE; WAYS];
            continue;
        }
        for _ in 0..steps {
            step(kernel, job.prefix, &mut slots, &mut state, &mut scratch);
        }
        for (way, slot) in slots.iter_mut().enumerate() {
            if slot.block_count > 0 && !slot.is_busy() {
                let hash = out.get_mut(slot.place).expect("each message has one place");
                *hash = digest(&state, way);
                *slot = Slot::IDLE;
            }
        }
    }
}

fn refill<'a, const WAYS: usize>(
    slots: &mut [Slot<'a>; WAYS],
    state: &mut State<WAYS>,
    queue: &mut Queue<'a>,
) {
    for (way, slot) in slots.iter_mut().enumerate() {
        if !slot.is_busy() {
            let Some(next) = queue.pop() else { return };
            *slot = next;
            for (row, word) in state.iter_mut().zip(INITIAL) {
                if let Some(place) = row.get_mut(way) {
                    *place = word;
                }
            }
        }
    }
}

/// One block of each slot.
#[inline]
fn step<const WAYS: usize, K: Kernel<WAYS>>(
    kernel: K,
    prefix: &[u8],
    slots: &mut [Slot<'_>; WAYS],
    state: &mut State<WAYS>,
    scratch: &mut [[u8; BLOCK_SIZE]; WAYS],
) {
    let mut blocks = [ZEROS; WAYS];
    for ((slot, scratch), block) in slots.iter_mut().zip(scratch).zip(&mut blocks) {
        if slot.is_busy() {
            *block = match slot.whole(prefix.len()) {
                Some(whole) => whole,
                None => {
                    slot.assemble(prefix, scratch);
                    scratch
                }
            };
            slot.block_next = slot.block_next.wrapping_add(1);
        }
    }
    kernel.compress(state, &blocks);
}

/// Whether the busy slots are done sooner one after another than side by side.
fn serial_is_faster(finish: &Finish<'_>, slots: &[Slot<'_>]) -> bool {
    if slots.iter().all(Slot::is_busy) {
        return false;
    }
    let longest = slots.iter().map(Slot::left).max().unwrap_or_default();
    let total = slots.iter().fold(0_usize, |sum, slot| sum.saturating_add(slot.left()));
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    wide(total).saturating_mul(RATE_ONE) < wide(longest).saturating_mul(finish.rate)
}

fn finish_serially<const WAYS: usize>(
    serial: &dyn Serial,
    prefix: &[u8],
    slots: &[Slot<'_>; WAYS],
    state: &State<WAYS>,
    out: &mut [[u8; 32]],
) {
    for (way, slot) in slots.iter().enumerate() {
        if slot.is_busy() {
            let mut column = state.map(|row| row.get(way).copied().unwrap_or_default());
            finish_one(serial, prefix, *slot, &mut column);
            let hash = out.get_mut(slot.place).expect("each message has one place");
            *hash = digest(&column.map(|word| [word]), 0);
        }
    }
}

fn finish_one(serial: &dyn Serial, prefix: &[u8], mut slot: Slot<'_>, state: &mut [u32; 8]) {
    let mut scratch = [0; BLOCK_SIZE];
    while slot.is_busy() {
        if slot.whole(prefix.len()).is_some() {
            let start = slot.block_next.wrapping_mul(BLOCK_SIZE).saturating_sub(prefix.len());
            let (blocks, _) = slot.message.get(start..).unwrap_or_default().as_chunks();
            serial.blocks(state, blocks);
            slot.block_next = slot.block_next.saturating_add(blocks.len());
        } else {
            slot.assemble(prefix, &mut scratch);
            serial.blocks(state, &[scratch]);
            slot.block_next = slot.block_next.saturating_add(1);
        }
    }
}
