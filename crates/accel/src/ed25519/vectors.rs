//! Published signatures and ZIP-215's verdicts on them: what every path must give.
//!
//! `data/published.txt` and `data/cctv.txt` name their sources, licences and formats. The pairs of small order are
//! those of ZIP-215's own test: fourteen encodings of the eight points of small order, each as `A` with each as `R`,
//! `s = 0`, all valid for every message.

use crate::Ed25519Item;

/// Signatures of RFC 8032 and of "Taming the many EdDSAs".
const PUBLISHED: &str = include_str!("data/published.txt");

/// Edge cases of A and R.
const EDGES: &str = include_str!("data/cctv.txt");

/// Every encoding of a point of small order that decodes, the last six not canonical.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// A signature and what ZIP-215 says of it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
    /// Whether it is valid.
    pub(super) valid: bool,
}

impl Judged {
    pub(super) fn item(&self) -> Ed25519Item<'_> {
        Ed25519Item { key: &self.key, message: &self.message, signature: &self.signature }
    }
}

/// All of them.
pub(super) fn all() -> Vec<Judged> {
    let mut all = Vec::new();
    for line in lines(PUBLISHED) {
        let mut fields = line.split(' ');
        let mut next = || fields.next().unwrap_or("");
        let (key, signature, verdict, message) = (next(), next(), next(), next());
        all.push(judged(key, signature, bytes(message), verdict));
    }
    for line in lines(EDGES) {
        let mut fields = line.split(' ');
        let mut next = || fields.next().unwrap_or("");
        let (key, signature) = (next(), next());
        for field in fields {
            let (verdict, number) = field.split_at(1);
            let message = format!("ed25519vectors {number}");
            all.push(judged(key, signature, message.trim_end().into(), verdict));
        }
    }
    for key in SMALL_ORDER {
        for commitment in SMALL_ORDER {
            let signature = format!("{commitment}{:064}", 0);
            all.push(judged(key, &signature, b"Zcash".to_vec(), "+"));
        }
    }
    all
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn judged(key: &str, signature: &str, message: Vec<u8>, verdict: &str) -> Judged {
    let valid = match verdict {
        "+" => true,
        "-" => false,
        other => panic!("a verdict is + or -, not {other:?}"),
    };
    Judged { key: array(key), message, signature: array(signature), valid }
}

fn array<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    bytes(text).try_into().expect("the data give each field its size")
}

fn bytes(text: &str) -> Vec<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("the data are hexadecimal");
    let byte = |pair: &[u8; 2]| {
        let [high, low] = pair.each_ref().map(digit);
        u8::try_from(high << 4 | low).expect("two hexadecimal digits are a byte")
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "the data give each byte two digits");
    pairs.iter().map(byte).collect()
}
