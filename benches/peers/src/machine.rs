//! What the machine is, and what it allows at most: bounds by counting instructions.
//!
//! A bound is clock * ways * ports / instructions, for the instructions that no order of them avoids. Ports by maker,
//! as measured by uops.info and Agner Fog:
//!
//! | maker | 512-bit: any, rotates | 256-bit: any, shifts | SHA-NI rounds of two: latency, every |
//! |---|---|---|---|
//! | AMD family 26 (Zen 5) | 4, 2 | 4, 2 | 4, 2 cycles |
//! | AMD family 25 (Zen 4) | 2, 1 | 4, 2 | 4, 2 cycles |
//! | Intel since Ice Lake | 2, 1 | 3, 2 | 4, 2 cycles |
//!
//! # Limits
//! Loads, carries and what a kernel spends around its rounds are not counted, so 100 % is out of reach; constants that
//! fold (padding) are not counted either, so a chain or node may come a few percent nearer than it should.

use std::hint::black_box;
use std::time::Instant;

/// Vector and rotate instructions a cycle at one width.
#[derive(Clone, Copy, Debug)]
struct Ports {
    any: f64,
    rotates: f64,
}

/// The machine, as far as bounds depend on it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) clock_hz: f64,
    wide_512: Option<Ports>,
    wide_256: Option<Ports>,
    has_sha: bool,
    has_ifma: bool,
}

impl Machine {
    pub(crate) fn detect() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line =
                info.lines().find(|line| line.split(':').next().unwrap_or("").trim() == name);
            line.and_then(|line| line.split(':').nth(1)).unwrap_or("").trim().to_owned()
        };
        let flags = field("flags");
        let has = |flag: &str| flags.split(' ').any(|word| word == flag);
        let family: u32 = field("cpu family").parse().unwrap_or(0);
        let is_amd = field("vendor_id") == "AuthenticAMD";
        let wide = |any, rotates| Ports { any, rotates };
        let wide_512 = if is_amd && family >= 26 { wide(4.0, 2.0) } else { wide(2.0, 1.0) };
        let wide_256 = if is_amd { wide(4.0, 2.0) } else { wide(3.0, 2.0) };
        Self {
            name: format!("{}, family {family}, model {}", field("model name"), field("model")),
            clock_hz: clock_hz(),
            wide_512: has("avx512f").then_some(wide_512),
            wide_256: has("avx2").then_some(wide_256),
            has_sha: has("sha_ni"),
            has_ifma: has("avx512ifma"),
        }
    }

    /// `(ways, instructions, rotates)` at the two widths, the better of them, a second.
    fn wide(&self, at_512: (f64, f64, f64), at_256: Option<(f64, f64, f64)>) -> Option<f64> {
        let rate = |(ways, any, rotates): (f64, f64, f64), ports: Ports| {
            ways * self.clock_hz / (any / ports.any).max(rotates / ports.rotates)
        };
        let narrow = self.wide_256.zip(at_256).map(|(ports, counts)| rate(counts, ports));
        self.wide_512.map(|ports| rate(at_512, ports)).or(narrow)
    }

    /// Compressions of SHA-256 a second when each waits for the one before: 32 double rounds of SHA-NI at their
    /// latency; without it 2,032 scalar instructions, four a cycle.
    pub(crate) fn sha256_serial(&self) -> f64 {
        self.clock_hz / if self.has_sha { 32.0 * 4.0 } else { 2_032.0 / 4.0 }
    }

    /// Compressions of SHA-256 a second when many are independent: the best of the vector registers and SHA-NI.
    ///
    /// A round is 6 rotates, 4 three-way bit functions, 7 additions; a word of the schedule 4 rotates, 2 shifts, 2
    /// functions, 3 additions. With AVX2 a rotate is two shifts and each function two or more instructions.
    pub(crate) fn sha256_wide(&self) -> f64 {
        let at_512 = (16.0, 64.0 * 17.0 + 48.0 * 11.0, 64.0 * 6.0 + 48.0 * 6.0);
        let at_256 = (8.0, 64.0 * 35.0 + 48.0 * 21.0, 64.0 * 12.0 + 48.0 * 10.0);
        let vector = self.wide(at_512, Some(at_256)).unwrap_or(0.0);
        let sha = if self.has_sha { self.clock_hz / (32.0 * 2.0) } else { 0.0 };
        vector.max(sha).max(self.sha256_serial())
    }

    /// Permutations of Keccak a second: 24 rounds of 90 instructions, 29 of them rotates, 8 ways.
    pub(crate) fn keccak(&self) -> Option<f64> {
        self.wide((8.0, 24.0 * 90.0, 24.0 * 29.0), None)
    }

    /// Compressions of BLAKE2b a second: 96 times 6 additions, 4 exclusive ors, 4 rotates (of which AVX2 has none, but
    /// shuffles for three).
    pub(crate) fn blake2b(&self) -> Option<f64> {
        self.wide((8.0, 96.0 * 14.0, 96.0 * 4.0), Some((4.0, 96.0 * 16.0, 96.0)))
    }

    /// As many multiplications of field elements of 255 or 256 bits a second: 25 products of limbs each. With IFMA 50
    /// halves of products, 8 ways, two instructions a cycle; else one product a cycle.
    pub(crate) fn field_multiplications(&self) -> f64 {
        self.clock_hz / if self.has_ifma { 50.0 / 8.0 / 2.0 } else { 25.0 }
    }

    /// The same, one after another in the scalar unit.
    pub(crate) fn field_multiplications_scalar(&self) -> f64 {
        self.clock_hz / 25.0
    }
}

/// Cycles a second of this core, by a chain of instructions that wait for each other: a rotate and an addition, one
/// cycle each on every processor of the table. The best of many short tries: a neighbour on the core only adds time.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn clock_hz() -> f64 {
    const STEP_COUNT: u32 = 4_000_000;
    let attempt = || {
        let start = Instant::now();
        let mut x = black_box(1_u64);
        let y = black_box(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..STEP_COUNT {
            x = x.rotate_left(7).wrapping_add(y);
        }
        black_box(x);
        2.0 * f64::from(STEP_COUNT) / start.elapsed().as_secs_f64()
    };
    (0..50).map(|_| attempt()).fold(0.0, f64::max)
}
