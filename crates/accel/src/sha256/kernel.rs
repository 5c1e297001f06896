//! What a kernel is, and the engine that a kernel becomes when slots drive it.

use std::fmt::Debug;

use super::{BLOCK_SIZE, Engine, Job, Pair, Serial, slots};

/// States of as many messages as there are ways, for vectors: a row is one word of all ways, a column is one way.
pub(crate) type Rows<const WAYS: usize> = [[u32; WAYS]; 8];

/// Section 5.3.3: fractional parts of the square roots of the first eight primes.
pub(crate) const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Section 4.2.2: fractional parts of the cube roots of the first 64 primes, 16 rounds a row.
#[rustfmt::skip]
pub(crate) const ROUND: [[u32; 16]; 4] = [
    [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    ],
    [
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    ],
    [
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    ],
    [
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ],
];

/// What a kernel offers: the compression function on `WAYS` messages at once, and two messages of fixed shape.
pub(crate) trait Kernel<const WAYS: usize>: Copy + Debug + Send + Sync {
    /// The states of all ways, laid out as the kernel reads them.
    type States: Copy;

    /// All ways before their first block.
    const STARTS: Self::States;

    /// Put one way into a state; [`INITIAL`] is that before the first block.
    fn set_column(states: &mut Self::States, way: usize, state: [u32; 8]);

    /// The state of one way.
    fn column(states: &Self::States, way: usize) -> [u32; 8];

    /// Fold one block into each way's state.
    fn compress(self, states: &mut Self::States, blocks: &[&[u8; BLOCK_SIZE]; WAYS]);

    /// `h <- SHA-256(h)`, `count` times for each way.
    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64);

    /// `SHA-256(prefix ‖ left ‖ right)` of each way's pair.
    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]);

    /// Itself, if it is at its best with one message after another.
    fn as_serial(&self) -> Option<&dyn Serial> {
        None
    }
}

/// A kernel that is driven by slots; the last, partly filled group is padded with messages nobody asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide<K, const WAYS: usize>(pub(crate) K);

impl<K: Kernel<WAYS>, const WAYS: usize> Engine for Wide<K, WAYS> {
    fn ways(&self) -> usize {
        WAYS
    }

    fn many(&self, job: &Job<'_>, out: &mut [[u8; 32]]) {
        slots::many(self.0, job, out);
    }

    fn nodes(&self, prefix: u8, pairs: &[Pair], out: &mut [[u8; 32]]) {
        let (groups, tail) = pairs.as_chunks::<WAYS>();
        let (out_groups, out_tail) = out.as_chunks_mut::<WAYS>();
        for (group, hashes) in groups.iter().zip(out_groups) {
            self.0.nodes(prefix, group, hashes);
        }
        if !tail.is_empty() {
            let mut group = [[[0; 32]; 2]; WAYS];
            let mut hashes = [[0; 32]; WAYS];
            copy(&mut group, tail);
            self.0.nodes(prefix, &group, &mut hashes);
            copy(out_tail, &hashes);
        }
    }

    fn chains(&self, hashes: &mut [[u8; 32]], count: u64) {
        let (groups, tail) = hashes.as_chunks_mut::<WAYS>();
        for group in groups {
            self.0.chain(group, count);
        }
        if !tail.is_empty() {
            let mut group = [[0; 32]; WAYS];
            copy(&mut group, tail);
            self.0.chain(&mut group, count);
            copy(tail, &group);
        }
    }
}

/// Copy as many items as both sides have.
fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    for (place, item) in to.iter_mut().zip(from) {
        *place = *item;
    }
}

/// The digest that a state is at the end: its words, big endian.
#[inline]
pub(crate) fn digest(state: [u32; 8]) -> [u8; 32] {
    let [a, b, c, d, e, f, g, h] = state.map(u32::to_be_bytes);
    let mut hash = [0; 32];
    hash.as_chunks_mut::<4>().0.copy_from_slice(&[a, b, c, d, e, f, g, h]);
    hash
}
