//! SHA-512 of eight messages at once.
//!
//! Source: FIPS 180-4, section 6.4. The functions of three inputs are one instruction each, the rotations too.
//!
//! ```text
//!  block b of every message -> 16 words, a way each -> 80 rounds -> state, where the way has a block b
//! ```
//! # Invariants
//! * H1 Ways never mix, and a way past its last block keeps its state: the digests are those of each message alone.
//! # Limits
//! All eight pay for the longest: [`is_worth_it`] says when that is still cheaper than one after another.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices count words of arrays of that length; sizes of slices fit in half of 64 bits"
)]

use super::ways::{WAY_COUNT, Ways, columns};

/// Bytes of a block.
const BLOCK_SIZE: usize = 128;

/// Words of a block.
const BLOCK_WORD_COUNT: usize = BLOCK_SIZE / 8;

/// Where a digest starts: the square roots of the first 8 primes, 64 bits behind the point.
const START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// What each round adds: the cube roots of the first 80 primes, 64 bits behind the point.
const ROUND: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

/// A message in two parts that are hashed as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// The first bytes.
    pub(crate) head: [u8; 64],
    /// The bytes behind them.
    pub(crate) tail: &'a [u8],
}

impl Parts<'_> {
    fn size(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Blocks with the padding: one byte and the size in 16 bytes.
    fn block_count(&self) -> usize {
        (self.size() + 17).div_ceil(BLOCK_SIZE)
    }

    /// Block `index` with its share of the padding; zeros past the last.
    fn block(&self, index: usize) -> [u64; BLOCK_WORD_COUNT] {
        let mut block = [0; BLOCK_SIZE];
        let start = index * BLOCK_SIZE;
        let room = if index == 0 {
            let (head, room) = block.split_at_mut(self.head.len());
            head.copy_from_slice(&self.head);
            room
        } else {
            &mut block[..]
        };
        let skipped = start.saturating_sub(self.head.len()).min(self.tail.len());
        let part = &self.tail[skipped..];
        let size = part.len().min(room.len());
        room[..size].copy_from_slice(&part[..size]);
        if (start..start + BLOCK_SIZE).contains(&self.size()) {
            block[self.size() - start] = 0x80;
        }
        if index + 1 == self.block_count() {
            let bits = u64::try_from(self.size()).expect("a size has 64 bits") * 8;
            block[BLOCK_SIZE - 8..].copy_from_slice(&bits.to_be_bytes());
        }
        let (words, _) = block.as_chunks();
        std::array::from_fn(|index| u64::from_be_bytes(words[index]))
    }
}

/// Whether eight at once cost less than one after another: a block of eight costs about two single blocks.
pub(crate) fn is_worth_it(messages: &[Parts<'_>; WAY_COUNT]) -> bool {
    let counts = messages.map(|message| message.block_count());
    let longest = counts.into_iter().max().unwrap_or(0);
    counts.iter().sum::<usize>() >= 2 * longest
}

/// The digest of each message.
pub(crate) fn digests<W: Ways>(w: W, messages: &[Parts<'_>; WAY_COUNT]) -> [[u8; 64]; WAY_COUNT] {
    let counts = messages.map(|message| message.block_count());
    let longest = counts.into_iter().max().unwrap_or(0);
    let mut state = START.map(|word| [word; WAY_COUNT]);
    for index in 0..longest {
        let blocks = messages.each_ref().map(|message| message.block(index));
        let live = (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(index < counts[way]) << way);
        state = compress(w, &state, &blocks, live);
    }
    std::array::from_fn(|way| {
        let mut digest = [0; 64];
        for (bytes, word) in digest.chunks_exact_mut(8).zip(&state) {
            bytes.copy_from_slice(&word[way].to_be_bytes());
        }
        digest
    })
}

/// The state behind one block, in the ways of `live`; as it was in the others.
fn compress<W: Ways>(
    w: W,
    before: &[[u64; WAY_COUNT]; 8],
    blocks: &[[u64; BLOCK_WORD_COUNT]; WAY_COUNT],
    live: u8,
) -> [[u64; WAY_COUNT]; 8] {
    w.run(
        #[inline(always)]
        || {
            let [a, b] = [columns::<W, 0, _>(w, blocks), columns::<W, 8, _>(w, blocks)];
            let mut schedule = [
                a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5],
                b[6], b[7],
            ];
            let mut state = load_state(w, before);
            for part in 0..4 {
                sixteen::<W, true>(w, &mut state, &mut schedule, &ROUND[16 * part..]);
            }
            sixteen::<W, false>(w, &mut state, &mut schedule, &ROUND[64..]);
            let start = load_state(w, before);
            [
                after(w, live, start[0], state[0]),
                after(w, live, start[1], state[1]),
                after(w, live, start[2], state[2]),
                after(w, live, start[3], state[3]),
                after(w, live, start[4], state[4]),
                after(w, live, start[5], state[5]),
                after(w, live, start[6], state[6]),
                after(w, live, start[7], state[7]),
            ]
        },
    )
}

#[inline(always)]
fn load_state<W: Ways>(w: W, state: &[[u64; WAY_COUNT]; 8]) -> [W::Word; 8] {
    [
        w.load(&state[0]),
        w.load(&state[1]),
        w.load(&state[2]),
        w.load(&state[3]),
        w.load(&state[4]),
        w.load(&state[5]),
        w.load(&state[6]),
        w.load(&state[7]),
    ]
}

/// One word of the state behind a block.
#[inline(always)]
fn after<W: Ways>(w: W, live: u8, start: W::Word, word: W::Word) -> [u64; WAY_COUNT] {
    w.store(w.select(live, w.add_wrapping(start, word), start))
}

/// Sixteen rounds, written out: the state stays in registers.
#[inline(always)]
fn sixteen<W: Ways, const EXTEND: bool>(
    w: W,
    state: &mut [W::Word; 8],
    schedule: &mut [W::Word; 16],
    constants: &[u64],
) {
    step::<W, EXTEND, 0>(w, state, schedule, constants);
    step::<W, EXTEND, 1>(w, state, schedule, constants);
    step::<W, EXTEND, 2>(w, state, schedule, constants);
    step::<W, EXTEND, 3>(w, state, schedule, constants);
    step::<W, EXTEND, 4>(w, state, schedule, constants);
    step::<W, EXTEND, 5>(w, state, schedule, constants);
    step::<W, EXTEND, 6>(w, state, schedule, constants);
    step::<W, EXTEND, 7>(w, state, schedule, constants);
    step::<W, EXTEND, 8>(w, state, schedule, constants);
    step::<W, EXTEND, 9>(w, state, schedule, constants);
    step::<W, EXTEND, 10>(w, state, schedule, constants);
    step::<W, EXTEND, 11>(w, state, schedule, constants);
    step::<W, EXTEND, 12>(w, state, schedule, constants);
    step::<W, EXTEND, 13>(w, state, schedule, constants);
    step::<W, EXTEND, 14>(w, state, schedule, constants);
    step::<W, EXTEND, 15>(w, state, schedule, constants);
}

/// A round with word `INDEX` of the schedule, which then makes way for the word 16 behind it if `EXTEND`.
#[inline(always)]
fn step<W: Ways, const EXTEND: bool, const INDEX: usize>(
    w: W,
    state: &mut [W::Word; 8],
    schedule: &mut [W::Word; 16],
    constants: &[u64],
) {
    let word = schedule[INDEX];
    round(w, state, w.add_wrapping(w.splat(constants[INDEX]), word));
    if EXTEND {
        let near = schedule[(INDEX + 14) % 16];
        let far = schedule[(INDEX + 1) % 16];
        let sigma_1 = w.xor3(w.rotate_left::<45>(near), w.rotate_left::<3>(near), w.shr::<6>(near));
        let sigma_0 = w.xor3(w.rotate_left::<63>(far), w.rotate_left::<56>(far), w.shr::<7>(far));
        let sum = w.add_wrapping(word, schedule[(INDEX + 9) % 16]);
        schedule[INDEX] = w.add_wrapping(sum, w.add_wrapping(sigma_0, sigma_1));
    }
}

/// One round with the sum of its constant and its word.
#[inline(always)]
fn round<W: Ways>(w: W, state: &mut [W::Word; 8], addend: W::Word) {
    let [a, b, c, d, e, f, g, h] = *state;
    let sum_1 = w.xor3(w.rotate_left::<50>(e), w.rotate_left::<46>(e), w.rotate_left::<23>(e));
    let sum_0 = w.xor3(w.rotate_left::<36>(a), w.rotate_left::<30>(a), w.rotate_left::<25>(a));
    let first = w.add_wrapping(w.add_wrapping(h, addend), w.add_wrapping(sum_1, w.choose(e, f, g)));
    let second = w.add_wrapping(sum_0, w.majority(a, b, c));
    *state = [w.add_wrapping(first, second), a, b, c, w.add_wrapping(d, first), e, f, g];
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha512};

    use super::*;
    use crate::many::on_each_ways;

    #[test]
    fn eight_digests_are_those_of_each_message_alone_at_every_size_of_the_last_block() {
        let bytes: Vec<u8> = (0..=255).collect();
        let alone = |parts: &Parts<'_>| -> [u8; 64] {
            Sha512::new().chain_update(parts.head).chain_update(parts.tail).finalize().into()
        };
        for size in 0..200 {
            let messages: [Parts<'_>; WAY_COUNT] = std::array::from_fn(|way| Parts {
                head: [u8::try_from(way).expect("eight ways"); 64],
                tail: &bytes[..(size + way * way) % 250],
            });
            let expected = messages.each_ref().map(alone);
            on_each_ways!(w => assert_eq!(digests(w, &messages), expected, "size {size}"));
        }
    }

    #[test]
    fn one_long_message_among_short_ones_goes_alone() {
        let long = vec![0; 100_000];
        let mut messages = [Parts { head: [0; 64], tail: &[] }; WAY_COUNT];
        assert!(is_worth_it(&messages));
        messages[3].tail = &long;
        assert!(!is_worth_it(&messages));
    }
}
