//! Chunks of eight for the kernel, and the net beneath it.
use std::sync::OnceLock;

use curve25519_dalek::{EdwardsPoint, Scalar};

use super::kernel::{self, BASE_MULTIPLE_MAX, BaseTable, Prepared};
use super::scalar::Scalars;
use crate::Ed25519Item;
use crate::many::ways::{WAY_COUNT, Ways};

/// The kernel over one implementation of the ways.
pub(super) struct Wide<W: Ways> {
    w: W,
    base: BaseTable,
}

impl<W: Ways> Wide<W> {
    /// Make the table of B's multiples.
    pub(super) fn new(w: W) -> Self {
        let one = Scalar::ONE;
        let mut factor = Scalar::ZERO;
        let encodings: [[u8; 32]; BASE_MULTIPLE_MAX] = std::array::from_fn(|_| {
            factor += one;
            EdwardsPoint::mul_base(&factor).compress().to_bytes()
        });
        Self { w, base: BaseTable::new(w, &encodings) }
    }

    /// What the kernel says of each item, not re-checked.
    pub(super) fn verdicts(&self, items: &[Ed25519Item<'_>]) -> Vec<bool> {
        let mut verdicts = vec![false; items.len()];
        let mut waiting: Vec<(usize, Prepared)> = Vec::with_capacity(WAY_COUNT);
        for (index, item) in items.iter().enumerate() {
            let Some(scalars) = Scalars::new(item) else { continue };
            let (commitment, _) = item.signature.split_at(32);
            let commitment = commitment.try_into().expect("half of 64 bytes is 32 bytes");
            waiting.push((index, Prepared { key: *item.key, commitment, scalars }));
            if waiting.len() == WAY_COUNT {
                self.flush(&mut waiting, &mut verdicts);
            }
        }
        if !waiting.is_empty() {
            self.flush(&mut waiting, &mut verdicts);
        }
        verdicts
    }

    fn flush(&self, waiting: &mut Vec<(usize, Prepared)>, verdicts: &mut [bool]) {
        let first = waiting[0].1;
        let items = std::array::from_fn(|way| waiting.get(way).map_or(first, |(_, item)| *item));
        let mask = kernel::verify(self.w, &self.base, &items);
        for (way, (index, _)) in waiting.drain(..).enumerate() {
            verdicts[index] = mask >> way & 1 == 1;
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::ed25519::vectors;
    #[test]
    fn every_path_gives_zip_215_s_verdicts() {
        let all = vectors::all();
        let items: Vec<_> = all.iter().map(|j| j.item()).collect();
        let expected: Vec<_> = all.iter().map(|j| j.valid).collect();
        let single: Vec<_> = items.iter().map(|i| ed25519_zebra::VerificationKey::try_from(*i.key).is_ok_and(|k| k.verify(&ed25519_zebra::Signature::from(*i.signature), i.message).is_ok())).collect();
        assert_eq!(single, expected);
        let t = std::time::Instant::now();
        let twin = Wide::new(crate::many::twin::Twin);
        println!("twin table {:?}", t.elapsed());
        assert_eq!(twin.verdicts(&items), expected);
        println!("twin {:?}", t.elapsed());
        let t = std::time::Instant::now();
        let wide = Wide::new(crate::many::avx512::Avx512::detect().unwrap());
        println!("table {:?}", t.elapsed());
        assert_eq!(wide.verdicts(&items), expected);
        let t = std::time::Instant::now();
        for _ in 0..20 { wide.verdicts(&items); }
        println!("{} wide {:?}/s", items.len(), 20.0*items.len() as f64/ t.elapsed().as_secs_f64());
        let it: Vec<_> = items.iter().take(8).map(|i| Prepared{key:*i.key, commitment: i.signature[..32].try_into().unwrap(), scalars: Scalars::new(i).unwrap()}).collect();
        let it: [Prepared;8] = it.try_into().ok().unwrap();
        let mut best = f64::MAX;
        for _ in 0..400 {
        let t = std::time::Instant::now();
        for _ in 0..100 { kernel::verify(wide.w, &wide.base, std::hint::black_box(&it)); }
        best = best.min(t.elapsed().as_secs_f64());
        }
        println!("kernel best {:?}/s", 800.0/best);
        let t = std::time::Instant::now();
        for _ in 0..20 { for i in &items {std::hint::black_box(Scalars::new(i));} }
        println!("scalars {:?}/s", 20.0*items.len() as f64/ t.elapsed().as_secs_f64());
    }
}
