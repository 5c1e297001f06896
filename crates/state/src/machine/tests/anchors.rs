//! Orders that anchors give away: a transaction stands in no history but one that has its anchor, and behind that.
#![expect(clippy::arithmetic_side_effects, reason = "a test's numbers are small")]

use super::*;

/// Longer than every history here.
const LONG: u64 = 50;
/// Transactions of a history, each of a signer of its own.
const COUNT: usize = 24;

fn outcomes(applied: &Applied) -> Vec<Option<Code>> {
    let code = |receipt: &Receipt| match receipt.outcome {
        Outcome::Refused { code, .. } => Some(code),
        Outcome::Applied => None,
    };
    applied.receipts.iter().map(code).collect()
}

/// A header stands on the one before and on every transaction that its cut adds.
fn header_over(before: &Hash, block: &[Transaction]) -> Hash {
    let bytes: Vec<u8> = block.iter().flat_map(Encode::to_bytes).collect();
    sha256_concat(&[before.bytes(), &bytes])
}

fn opened() -> Machine<MemoryStore> {
    let genesis = Genesis { anchor_window_heights: LONG, ..genesis(false) };
    Machine::open(MemoryStore::new(), &genesis).expect("memory opens")
}

/// Executes the next height; its header, and what became of each transaction.
fn execute(
    machine: &mut Machine<MemoryStore>,
    before: &Hash,
    block: &[Transaction],
) -> (Hash, Vec<Option<Code>>) {
    let header = header_over(before, block);
    let applied = with_block(machine.applied().next(), header, block, |block| machine.apply(block));
    (header, outcomes(&applied.expect("memory is healthy")))
}

/// What is told: a transaction anchored so many heights before its own, for each of them. Its headers, from the chain id on.
fn told(sizes: &[usize], backs: &[u64]) -> (Vec<Hash>, Vec<(u64, Transaction)>) {
    let mut machine = opened();
    let (mut headers, mut all) = (vec![machine.chain()], Vec::new());
    for size in sizes {
        let newest = u64::try_from(headers.len()).expect("few heights") - 1;
        let made = |place: usize| {
            let anchor = newest.saturating_sub(backs[place]);
            let name = char::from(b'a' + u8::try_from(place).expect("few transactions"));
            let signed = tx(&format!("{name}.1"), None, vec![transfer('a', 0)]);
            let header = headers[usize::try_from(anchor).expect("few heights")];
            (anchor, Transaction { anchor: header, ..signed })
        };
        let block: Vec<_> = (all.len()..all.len() + size).map(made).collect();
        let transactions: Vec<_> = block.iter().map(|(_, one)| one.clone()).collect();
        let (header, codes) = execute(&mut machine, &headers[headers.len() - 1], &transactions);
        assert!(codes.iter().all(Option::is_none), "what is told stands: {codes:?}");
        headers.push(header);
        all.extend(block);
    }
    (headers, all)
}

/// Sizes of heights, together `COUNT`.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(0..5_usize, 6..12).prop_map(|mut sizes| {
        let mut left = COUNT;
        for size in &mut sizes {
            *size = left.min(*size);
            left -= *size;
        }
        sizes.push(left);
        sizes
    })
}

proptest! {
    /// Stamping before the anchor: whatever the order says, the height of the anchor's own header is too early.
    #[test]
    fn a_transaction_that_the_order_puts_before_its_anchor_is_refused(
        place in 1..12_u64,
        anchor in 0..14_u64,
    ) {
        let mut machine = open(MemoryStore::new());
        for _ in 1..place {
            apply(&mut machine, &[]);
        }
        let early = tx(&format!("a.1@{anchor}"), None, vec![transfer('c', 7)]);
        let codes = outcomes(&apply(&mut machine, &[early]));
        let wanted = match place.checked_sub(anchor) {
            None | Some(0) => Some(code::ANCHOR_UNKNOWN),
            Some(age) if age > 2 * WINDOW => Some(code::ANCHOR_UNKNOWN),
            Some(age) if age > WINDOW => Some(code::EXPIRED),
            Some(_) => None,
        };
        prop_assert_eq!(&codes, &[wanted]);
        let got = machine.balance(&account('c')).expect("memory is healthy");
        prop_assert_eq!(got, if wanted.is_none() { 7 } else { 0 });
    }

    /// A hidden sequence with the same events in another order. How far it succeeds: every transaction whose anchor is below the
    /// first height that differs can be ordered anew, by who can have headers committed; no other stands in it, wherever it is put.
    #[test]
    fn a_hidden_order_of_the_same_events_has_those_refused_whose_anchors_it_changed(
        sizes in sizes(),
        backs in vec(0..4_u64, COUNT),
        order in Just((0..COUNT).collect::<Vec<_>>()).prop_shuffle(),
        kept in 0..COUNT,
    ) {
        let (headers, all) = told(&sizes, &backs);
        // The first ones stay where they are.
        let moved: Vec<usize> = order.into_iter().filter(|place| *place >= kept).collect();
        let order: Vec<usize> = (0..kept).chain(moved).collect();
        let mut hidden = order.iter().map(|place| &all[*place]);
        let (mut machine, mut before) = (opened(), headers[0]);
        let mut same = 0;
        for (height, size) in (1_u64..).zip(&sizes) {
            let block: Vec<_> = hidden.by_ref().take(*size).collect();
            let transactions: Vec<_> = block.iter().map(|(_, one)| one.clone()).collect();
            let (header, codes) = execute(&mut machine, &before, &transactions);
            for ((anchor, _), code) in block.into_iter().zip(codes) {
                // The last header that both have is `same`; what is anchored above it is in no header of this history.
                let stands = *anchor <= same;
                let wanted = (!stands).then_some(code::ANCHOR_UNKNOWN);
                prop_assert_eq!(code, wanted, "height {}, anchor {}, same {}", height, anchor, same);
            }
            if same + 1 == height && headers.contains(&header) {
                same = height;
            }
            before = header;
        }
        // Both ways: the order is the told one, or no header from the first difference on is.
        prop_assert_eq!(before == headers[headers.len() - 1], order.is_sorted());
    }
}
