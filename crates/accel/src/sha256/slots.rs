//! Messages of any lengths on a kernel of fixed width.
//!
//! ```text
//!  queue of messages          slots: one per way
//!  [m0 m1 m2 m3 m4 ...] --->  | m0 block 1 | m3 block 0 | m2 block 7 | ...  --compress--> states
//!                    refill when a message ends            | no message left, few slots busy
//!                                                          v
//!                                     the serial kernel takes each state to its end
//!
//!  one message      [head: prefix + first bytes][in place][in place]...[tail: last bytes + padding]
//! ```
//! Padding by FIPS 180-4, section 5.1.1: `0x80`, zeros, the count of bits in 64 bits, big endian. Head and tail are
//! assembled once, when the message gets its slot, by copies of fixed size: what they copy too much is outside of the
//! blocks that are read.
//!
//! # Invariants
//! * A slot without a message is fed zeros, and its state is read by nobody.
//! * A message of `n` bytes with its prefix has `n + 9` bytes rounded up to blocks, whatever `n` is.
//!
//! Loops over ways are written with an index: a debug build leaves iterators as calls, and these are the inner loops.

use std::cmp::Reverse;

use super::kernel::{INITIAL, Kernel, digest};
use super::{BLOCK_SIZE, Finish, Job, RATE_ONE, Serial, block_count};
use crate::PREFIX_SIZE_MAX;

/// What idle slots are fed.
const ZEROS: &[u8; BLOCK_SIZE] = &[0; BLOCK_SIZE];

/// What follows the last byte of a message.
const PADDING: [u8; 2 * BLOCK_SIZE] = {
    let mut padding = [0; 2 * BLOCK_SIZE];
    padding[0] = 0x80;
    padding
};

const _: () = assert!(PREFIX_SIZE_MAX < BLOCK_SIZE, "a prefix lies in the first block");

/// The count of bits that ends the padding.
const fn bit_count(size: usize) -> u64 {
    #[expect(clippy::as_conversions, reason = "no target has a usize wider than 64 bits")]
    let size = size as u64;
    size.wrapping_mul(8)
}

/// One message on its way through a column of the states.
#[derive(Clone, Copy, Debug)]
struct Slot<'a> {
    message: &'a [u8],
    prefix_size: usize,
    place: usize,
    block_next: usize,
    block_count: usize,
    /// The first block that lies in [`Edges::tail`], and where it starts there.
    tail_block: usize,
    tail_start: usize,
}

/// The assembled blocks of a slot's message.
#[derive(Clone, Copy)]
struct Edges {
    /// The prefix, then 64 bytes of the message: the first block, if there is a prefix.
    head: [u8; PREFIX_SIZE_MAX + BLOCK_SIZE],
    /// The last 64 bytes of the message, then its padding; or the prefix, a short message and its padding.
    tail: [u8; 3 * BLOCK_SIZE],
}

impl Edges {
    const EMPTY: Self = Self { head: [0; PREFIX_SIZE_MAX + BLOCK_SIZE], tail: [0; 3 * BLOCK_SIZE] };
}

impl<'a> Slot<'a> {
    const IDLE: Self = Self {
        message: &[],
        prefix_size: 0,
        place: 0,
        block_next: 0,
        block_count: 0,
        tail_block: 0,
        tail_start: 0,
    };

    /// A message before its first block; what must be assembled goes to `edges`.
    fn new(prefix: &[u8], message: &'a [u8], place: usize, edges: &mut Edges) -> Self {
        let size = prefix.len().saturating_add(message.len());
        let mut slot = Self {
            message,
            prefix_size: prefix.len(),
            place,
            block_next: 0,
            block_count: block_count(prefix.len(), message.len()),
            tail_block: 0,
            tail_start: 0,
        };
        let end = if let (Some(first), Some(last)) = (message.first_chunk(), message.last_chunk()) {
            if !prefix.is_empty() {
                put(&mut edges.head, 0, prefix);
                put_block(&mut edges.head, prefix.len(), first);
            }
            put_block(&mut edges.tail, 0, last);
            slot.tail_block = size / BLOCK_SIZE;
            slot.tail_start = BLOCK_SIZE.saturating_sub(size % BLOCK_SIZE);
            BLOCK_SIZE
        } else {
            put(&mut edges.tail, 0, prefix);
            put(&mut edges.tail, prefix.len(), message);
            size
        };
        // Two blocks of padding may reach beyond the tail's end, but what is read of it does not.
        put(&mut edges.tail, end, &PADDING);
        let blocks = slot.block_count.saturating_sub(slot.tail_block);
        let end = slot.tail_start.saturating_add(blocks.saturating_mul(BLOCK_SIZE));
        let bits = bit_count(size).to_be_bytes();
        *chunk_mut(&mut edges.tail, end.saturating_sub(bits.len())) = bits;
        slot
    }

    #[inline]
    const fn is_busy(&self) -> bool {
        self.block_next < self.block_count
    }

    #[inline]
    const fn left(&self) -> usize {
        self.block_count.saturating_sub(self.block_next)
    }

    /// The next block: where it lies in the message, or where it was assembled (S3).
    #[inline]
    fn block<'b>(&'b self, edges: &'b Edges) -> &'b [u8; BLOCK_SIZE] {
        let at = self.block_next.wrapping_mul(BLOCK_SIZE);
        if self.block_next >= self.tail_block {
            let tail = at.wrapping_sub(self.tail_block.wrapping_mul(BLOCK_SIZE));
            chunk(&edges.tail, tail.wrapping_add(self.tail_start))
        } else if at >= self.prefix_size {
            chunk(self.message, at.wrapping_sub(self.prefix_size))
        } else {
            chunk(&edges.head, 0)
        }
    }

    /// All blocks from the next one on that lie in the message.
    fn in_place(&self) -> &'a [[u8; BLOCK_SIZE]] {
        let at = self.block_next.wrapping_mul(BLOCK_SIZE);
        if self.block_next >= self.tail_block || at < self.prefix_size {
            return &[];
        }
        let rest = self.message.get(at.wrapping_sub(self.prefix_size)..).unwrap_or_default();
        rest.as_chunks().0
    }
}

#[inline]
fn chunk<const SIZE: usize>(bytes: &[u8], at: usize) -> &[u8; SIZE] {
    let chunk = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    chunk.expect("a block ends where its message, head or tail ends, or before")
}

#[inline]
fn chunk_mut<const SIZE: usize>(bytes: &mut [u8], at: usize) -> &mut [u8; SIZE] {
    let chunk = bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut());
    chunk.expect("head and tail have room for what is put there")
}

/// Copy a block: of fixed size, so no call.
#[inline]
fn put_block(bytes: &mut [u8], at: usize, block: &[u8; BLOCK_SIZE]) {
    *chunk_mut(bytes, at) = *block;
}

/// Copy as much as there is room for.
#[inline]
fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    let to = bytes.get_mut(at..).unwrap_or_default();
    let size = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..size), from.get(..size)) {
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
                (Reverse(message.len()), *place)
            });
        }
        Self { job, order, next: 0 }
    }

    #[inline]
    fn pop(&mut self, edges: &mut Edges) -> Option<Slot<'a>> {
        let place = if self.order.is_empty() { self.next } else { *self.order.get(self.next)? };
        let message = self.job.messages.get(place).copied()?;
        self.next = self.next.saturating_add(1);
        Some(Slot::new(self.job.prefix, message, place, edges))
    }
}

/// One message alone.
pub(crate) fn one(serial: &dyn Serial, prefix: &[u8], message: &[u8]) -> [u8; 32] {
    let mut edges = Edges::EMPTY;
    let slot = Slot::new(prefix, message, 0, &mut edges);
    finish_one(serial, slot, &edges, INITIAL)
}

/// Hash each message of the job to its place.
#[expect(
    clippy::indexing_slicing,
    reason = "a way is less than WAYS, a place is that of a message"
)]
pub(super) fn many<const WAYS: usize, K: Kernel<WAYS>>(
    kernel: K,
    job: &Job<'_>,
    out: &mut [[u8; 32]],
) {
    assert_eq!(job.messages.len(), out.len(), "each message has one place for its hash");
    assert!(job.prefix.len() <= PREFIX_SIZE_MAX, "a prefix has a bound");
    if let Some(serial) = kernel.as_serial() {
        for (message, hash) in job.messages.iter().zip(out) {
            *hash = one(serial, job.prefix, message);
        }
        return;
    }
    let mut queue = Queue::new(job, WAYS);
    let mut slots = [Slot::IDLE; WAYS];
    let mut edges = [Edges::EMPTY; WAYS];
    let mut states = K::STARTS;
    loop {
        // Until the first message ends, every busy slot just goes on.
        let mut steps = usize::MAX;
        let mut busy_count = 0_usize;
        for way in 0..WAYS {
            if !slots[way].is_busy() {
                let Some(slot) = queue.pop(&mut edges[way]) else { continue };
                slots[way] = slot;
                K::set_column(&mut states, way, INITIAL);
            }
            steps = steps.min(slots[way].left());
            busy_count = busy_count.wrapping_add(1);
        }
        if busy_count == 0 {
            return;
        }
        if let Some(finish) = &job.finish
            && busy_count < WAYS
            && serial_is_faster(finish, &slots)
        {
            for (way, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.is_busy()) {
                let state = K::column(&states, way);
                out[slot.place] = finish_one(finish.serial, *slot, &edges[way], state);
            }
            // A way is idle only when no message is left to fill it.
            return;
        }
        for _ in 0..steps {
            step(kernel, &mut slots, &edges, &mut states);
        }
        for (way, slot) in slots.iter_mut().enumerate() {
            if slot.block_count > 0 && !slot.is_busy() {
                out[slot.place] = digest(K::column(&states, way));
                slot.block_count = 0;
            }
        }
    }
}

/// One block of each slot.
#[inline]
#[expect(clippy::indexing_slicing, reason = "a way is less than WAYS")]
fn step<const WAYS: usize, K: Kernel<WAYS>>(
    kernel: K,
    slots: &mut [Slot<'_>; WAYS],
    edges: &[Edges; WAYS],
    states: &mut K::States,
) {
    let mut blocks = [ZEROS; WAYS];
    for way in 0..WAYS {
        if slots[way].is_busy() {
            blocks[way] = slots[way].block(&edges[way]);
        }
    }
    kernel.compress(states, &blocks);
    for slot in slots {
        slot.block_next = slot.block_next.wrapping_add(1);
    }
}

/// Whether the busy slots are done sooner one after another than side by side.
fn serial_is_faster(finish: &Finish<'_>, slots: &[Slot<'_>]) -> bool {
    let longest = slots.iter().map(Slot::left).max().unwrap_or_default();
    let total = slots.iter().fold(0_usize, |sum, slot| sum.saturating_add(slot.left()));
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    wide(total).saturating_mul(RATE_ONE) < wide(longest).saturating_mul(finish.rate)
}

fn finish_one(
    serial: &dyn Serial,
    mut slot: Slot<'_>,
    edges: &Edges,
    mut state: [u32; 8],
) -> [u8; 32] {
    while slot.is_busy() {
        let blocks = slot.in_place();
        if blocks.is_empty() {
            serial.blocks(&mut state, std::slice::from_ref(slot.block(edges)));
            slot.block_next = slot.block_next.saturating_add(1);
        } else {
            serial.blocks(&mut state, blocks);
            slot.block_next = slot.block_next.saturating_add(blocks.len());
        }
    }
    digest(state)
}
