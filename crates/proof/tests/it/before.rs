//! That one transaction was before another: over a lane, an anchor, a header and a chain of chunks; and every way to lie about it.

use expect_test::expect;
use quipu_proof::names::chunk_hash;
use quipu_proof::order::tip_of;
use quipu_proof::{
    BEFORE_VERSION, Basis, BeforeProof, Bundle, Hexed, LanePart, Link, MixedPart, Mixings,
    STEP_COUNT_MAX, Step, verify, verify_before,
};
use quipu_types::{ChunkHeader, Height, Mix, Position, Seqno, Time, code};

use crate::first_word;
use crate::world::{LANE_COUNT, Thing, World};

/// Three heights over four lanes. At the second height lane 1 mixes lane 0's chunk of that height and lane 2 mixes lane 1's, so
/// lanes 0 and 2 never met; lane 3 mixes headers only, the second at the third height. Anchors are the genesis but where a test says otherwise.
struct Told {
    world: World,
}

impl Told {
    fn new() -> Self {
        let mut world = World::new("w", &[1, 1, 1, 1]);
        let quiet = || (0..LANE_COUNT).map(|lane| (lane, vec![])).collect();
        let mut sequence = 0;
        let orders: [Vec<(u16, Vec<Thing>)>; 3] = [
            quiet(),
            vec![
                (0, vec![Thing::Header(1)]),
                (1, vec![Thing::Header(1), Thing::Tip(0)]),
                (2, vec![Thing::Tip(1)]),
                (3, vec![Thing::Header(1)]),
            ],
            vec![(0, vec![]), (1, vec![]), (2, vec![]), (3, vec![Thing::Header(2)])],
        ];
        for mixes in orders {
            world.mixes = Some(mixes);
            let transactions = (0..24)
                .map(|_| {
                    sequence += 1;
                    world.transaction(sequence, 1, world.chain)
                })
                .collect();
            world.commit(transactions);
        }
        Self { world }
    }

    /// The bundle of a lane's last transaction at a height.
    fn bundle(&self, height: usize, lane: u16) -> Bundle {
        let transactions = &self.world.blocks[height - 1].transactions;
        let place = transactions.iter().rposition(|(position, _)| position.lane.get() == lane);
        self.world.bundle(height - 1, place.unwrap(), None)
    }

    /// The chunk of a lane at a height.
    fn chunk(&self, height: usize, lane: u16) -> ChunkHeader {
        self.world.chunks[usize::from(lane)][height - 1].clone()
    }

    fn header(&self, height: usize) -> Step {
        Step::Header(Hexed(self.world.blocks[height - 1].header().clone()))
    }

    /// A step, then chunks.
    fn steps(&self, first: Step, chunks: &[(usize, u16)]) -> Mixings {
        let chunks = chunks.iter().map(|(height, lane)| self.step(*height, *lane));
        Mixings(std::iter::once(first).chain(chunks).collect())
    }

    fn step(&self, height: usize, lane: u16) -> Step {
        Step::Chunk(Hexed(self.chunk(height, lane)))
    }

    fn path(&self, of: &Bundle, size: Seqno) -> LanePart {
        self.world.path(of.position(), size)
    }

    fn by_chunk(&self, first: &Bundle, from: (usize, u16), chunks: &[(usize, u16)]) -> Link {
        let path = self.path(first, self.chunk(from.0, from.1).last_seqno());
        Link::Mixed { path, steps: self.steps(self.step(from.0, from.1), chunks) }
    }

    fn by_header(&self, first: &Bundle, height: usize, chunks: &[(usize, u16)]) -> Link {
        let cut = &self.world.blocks[height - 1].header().cut;
        let path = self.path(first, tip_of(cut, first.position().lane).unwrap().seqno);
        Link::Mixed { path, steps: self.steps(self.header(height), chunks) }
    }

    fn judge(&self, first: Bundle, second: Bundle, link: Link) -> String {
        let proof = BeforeProof { version: BEFORE_VERSION, first, second, link };
        match verify_before(&proof.to_json_pretty(), &self.world.genesis) {
            Ok(before) => before.by.to_string(),
            Err(error) => {
                assert_eq!(error.code(), code::PROOF_FALSE, "{error}");
                format!("{}: {error}", first_word(&error))
            }
        }
    }
}

fn mixed(path: LanePart, steps: &Mixings) -> Link {
    Link::Mixed { path, steps: steps.clone() }
}

/// The three-lane chain of mixings: lanes 0 and 2 never met.
fn over_three_lanes(told: &Told) -> (Bundle, Bundle, Link) {
    let (first, second) = (told.bundle(2, 0), told.bundle(2, 2));
    let link = told.by_chunk(&first, (2, 0), &[(2, 1), (2, 2)]);
    (first, second, link)
}

#[test]
fn what_was_before_is_shown_by_lane_header_and_chains_of_chunks() {
    let told = Told::new();
    let bundle = |height, lane| told.bundle(height, lane);
    let mut lines = vec![told.judge(bundle(1, 3), bundle(3, 3), Link::Lane {})];
    let first = bundle(1, 3);
    let link = told.by_header(&first, 1, &[(2, 0)]);
    lines.push(told.judge(first.clone(), bundle(2, 0), link));
    // The mixing of the second height stands for all that comes after.
    let link = told.by_header(&first, 1, &[(2, 0), (3, 0)]);
    lines.push(told.judge(first, bundle(3, 0), link));
    let (first, second, link) = over_three_lanes(&told);
    lines.push(told.judge(first, second, link));
    let first = bundle(2, 0);
    let link = told.by_chunk(&first, (2, 0), &[(2, 1), (2, 2), (3, 2)]);
    lines.push(told.judge(first, bundle(3, 2), link));
    // A header covers the chunk, and is mixed.
    let first = bundle(2, 1);
    let path = told.path(&first, told.chunk(2, 1).last_seqno());
    let steps = Mixings(vec![told.step(2, 1), told.header(2), told.step(3, 3)]);
    lines.push(told.judge(first, bundle(3, 3), mixed(path, &steps)));
    expect![[r#"
        the order of lane 3
        header 1 -> chunk 2 of lane 0
        header 1 -> chunk 2 of lane 0
        chunk 2 of lane 0 -> chunk 2 of lane 1 -> chunk 2 of lane 2
        chunk 2 of lane 0 -> chunk 2 of lane 1 -> chunk 2 of lane 2
        chunk 2 of lane 1 -> header 2 -> chunk 3 of lane 3"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn an_anchor_shows_what_its_client_had_seen() {
    let mut told = Told::new();
    told.world.mixes = Some(vec![]);
    let anchor = told.world.tip_hash();
    told.world.commit((100..124).map(|n| told.world.transaction(n, 1, anchor)).collect());
    let (first, mut second) = (told.bundle(2, 1), told.bundle(4, 0));
    let size = tip_of(&told.world.blocks[2].header().cut, first.position().lane).unwrap().seqno;
    let link = Link::Anchor { path: told.path(&first, size) };
    assert_eq!(
        told.judge(first.clone(), second.clone(), link.clone()),
        "the second is anchored at header 3"
    );
    // What came with the anchor's header, but not in it.
    let late = told.bundle(4, 1);
    let tip = tip_of(&told.world.blocks[3].header().cut, late.position().lane).unwrap();
    let other = Link::Anchor { path: told.path(&late, tip.seqno) };
    assert!(told.judge(late, second.clone(), other).starts_with("NotCovered"));
    second.time.anchor = None;
    assert!(told.judge(first, second, link).starts_with("NoAnchor"));
}

#[test]
fn no_lie_about_the_order_is_taken() {
    let told = Told::new();
    let (first, second, link) = over_three_lanes(&told);
    let mut lines = vec![];
    let mut lie = |what: &str, first: &Bundle, second: &Bundle, link: Link| {
        let said = told.judge(first.clone(), second.clone(), link);
        lines.push(format!("{what}: {said}"));
    };
    lie("the other way round", &second, &first, link.clone());
    lie("by lanes that differ", &first, &second, Link::Lane {});
    let later = told.bundle(3, 0);
    lie("one lane, the other way round", &later, &first, Link::Lane {});
    let skip = told.by_chunk(&first, (2, 0), &[(2, 2)]);
    lie("a lane left out", &first, &second, skip);
    let twice = told.by_chunk(&first, (2, 0), &[(2, 1), (3, 1), (2, 2)]);
    lie("a chunk that was not the one mixed", &first, &second, twice);
    let short = told.by_chunk(&first, (2, 0), &[(2, 1)]);
    lie("the last lane left out", &first, &second, short);
    let early = told.bundle(1, 2);
    lie("a second that stood there before", &first, &early, link.clone());
    let old = told.by_chunk(&told.bundle(1, 0), (1, 0), &[(2, 1), (2, 2)]);
    lie("an older chunk than the one mixed", &told.bundle(1, 0), &second, old);
    let header = told.by_header(&told.bundle(1, 0), 1, &[(2, 2)]);
    lie("a header that the lane did not mix", &told.bundle(1, 0), &second, header);
    let header = told.by_header(&told.bundle(1, 0), 1, &[(2, 0)]);
    lie("a header that does not cover it", &told.bundle(2, 1), &told.bundle(2, 0), header);
    if let Link::Mixed { path, steps } = &link {
        let mut moved = path.clone();
        moved.index -= 1;
        lie("a path of another leaf", &first, &second, mixed(moved, steps));
        let mut cut = path.clone();
        cut.path.pop();
        lie("a path cut short", &first, &second, mixed(cut, steps));
        let none = Mixings(vec![]);
        lie("no steps", &first, &second, mixed(path.clone(), &none));
        let many = Mixings(steps.0.iter().cycle().take(STEP_COUNT_MAX + 1).cloned().collect());
        lie("too many steps", &first, &second, mixed(path.clone(), &many));
    }
    let mut forged = second.clone();
    forged.certificate.0.precommits.truncate(2);
    lie("a second that nobody committed", &first, &forged, link.clone());
    let mut forged = first.clone();
    forged.envelope.0.sequence += 1;
    lie("a first that nobody signed", &forged, &second, link);
    expect![[r#"
        the other way round: NotCovered: what is said to cover the first transaction ends at 29
        by lanes that differ: NotInLane: the first transaction does not stand before the second in one lane
        one lane, the other way round: NotInLane: the first transaction does not stand before the second in one lane
        a lane left out: Mixing: between the two: chunk 2 of lane 2 does not follow, mix or cover chunk 2 of lane 0
        a chunk that was not the one mixed: Mixing: between the two: chunk 2 of lane 2 does not follow, mix or cover chunk 3 of lane 1
        the last lane left out: Mixing: between the two: the last step is not the tip that the cut names
        a second that stood there before: Mixing: between the two: the last step is not the tip that the cut names
        an older chunk than the one mixed: Mixing: between the two: chunk 2 of lane 1 does not follow, mix or cover chunk 1 of lane 0
        a header that the lane did not mix: Mixing: between the two: chunk 2 of lane 2 does not follow, mix or cover header 1
        a header that does not cover it: NotCovered: what is said to cover the first transaction ends at 3
        a path of another leaf: OtherLeaf: path of the first transaction is of another leaf or tree
        a path cut short: Path: path of the first transaction: the path has 2 hashes and ends before the root
        no steps: NotCovered: what is said to cover the first transaction ends at 0
        too many steps: Mixing: between the two: 257 steps, there are 1 to 256
        a second that nobody committed: Bundle: the second transaction: certificate of header: signers hold 2 of 4 stake, no more than two thirds
        a first that nobody signed: Bundle: the first transaction: bundle names transaction 914ee54258f8fe7ac2254c5b3dcbd44773efe998999cca2e05bc1e653fe5095d, its envelope is of 37dfa106e83ec229f7d86cf0ce7f3b608a146c2242e0b65bbd150109ad0585ea"#]].assert_eq(&lines.join("\n"));
}

/// A sequencer may write its entries in any order and sign them: the stamp has to come after what is mixed, by the clock.
#[test]
fn a_batch_that_is_stamped_before_what_it_should_follow_shows_nothing() {
    let told = Told::new();
    let second = told.bundle(2, 1);
    let position = second.position();
    let honest = told.chunk(2, 1);
    let judged_at = |header: ChunkHeader, position: Position| {
        let mut tip = *tip_of(&second.header.0.cut, position.lane).unwrap();
        tip.chunk_hash = chunk_hash(&header);
        let steps = Mixings(vec![told.step(2, 0), Step::Chunk(Hexed(header))]);
        let said = steps.verify(position, &tip);
        said.map_or_else(|error| error.to_string(), |way| format!("{way:?}"))
    };
    let judged = |header| judged_at(header, position);
    let mut before = position;
    before.seqno = told.bundle(1, 1).position().seqno;
    assert!(judged_at(honest.clone(), before).starts_with("chunk 2 of lane 1 begins after"));
    assert_eq!(judged(honest.clone()), "[Chunk(Lane(0), 2), Chunk(Lane(1), 2)]");
    let mut swapped = honest.clone();
    swapped.clock.rotate_right(1);
    assert!(judged(swapped).ends_with("does not stamp its batch after what it mixes"));
    let mut silent = honest.clone();
    silent.clock.retain(|entry| entry.mix != Mix::Batch);
    assert!(judged(silent).ends_with("does not stamp its batch after what it mixes"));
    let mut skipped = honest;
    skipped.clock.last_mut().unwrap().count += 1;
    assert!(judged(skipped).starts_with("clock of chunk 2 of lane 1: "));
}

#[test]
fn a_mixed_header_bounds_when_a_transaction_was_stamped() {
    let told = Told::new();
    let mixed = |height: usize, chunks| {
        let certificate = told.world.blocks[height - 1].committed.certificate.clone();
        Some(MixedPart { certificate, steps: told.steps(told.header(height), chunks) })
    };
    let judge = |bundle: &Bundle| match verify(&bundle.to_json(), &told.world.genesis) {
        Ok(found) => found
            .stamped_after
            .map_or_else(|| "open".into(), |bound| format!("{} {}", bound.time, bound.basis)),
        Err(error) => error.to_string(),
    };
    let mut bundle = told.bundle(3, 1);
    assert_eq!(judge(&bundle), "open");
    bundle.time.mixed = mixed(1, &[(2, 1), (3, 1)]);
    assert_eq!(judge(&bundle), "1005000 mixed header 1");
    let found = verify(&bundle.to_json(), &told.world.genesis).unwrap();
    assert_eq!(found.stamped_after.unwrap().basis, Basis::Mixed(Height::new(1)));
    let mut lines = vec![];
    let mut lie = |what: &str, change: &dyn Fn(&mut Bundle)| {
        let mut bundle = bundle.clone();
        change(&mut bundle);
        lines.push(format!("{what}: {}", judge(&bundle)));
    };
    lie("a header that was not mixed", &|bundle| bundle.time.mixed = mixed(2, &[(2, 1), (3, 1)]));
    lie("a chunk left out", &|bundle| bundle.time.mixed = mixed(1, &[(2, 1)]));
    lie("another lane", &|bundle| bundle.time.mixed = mixed(1, &[(2, 0), (3, 0)]));
    lie("the covering header", &|bundle| bundle.time.mixed = mixed(3, &[(2, 1), (3, 1)]));
    lie("another time", &|bundle| {
        let part = bundle.time.mixed.as_mut().unwrap();
        let Some(Step::Header(header)) = part.steps.0.first_mut() else { panic!("a header") };
        header.0.time = Time::new(1_009_000);
        part.certificate.0 = told.world.certify(&header.0);
    });
    lie("a header that nobody committed", &|bundle| {
        bundle.time.mixed.as_mut().unwrap().certificate.0.precommits.truncate(2);
    });
    lie("no header", &|bundle| {
        bundle.time.mixed.as_mut().unwrap().steps.0.remove(0);
    });
    expect![[r#"
        a header that was not mixed: mixed header: chunk 2 of lane 1 does not follow, mix or cover header 2
        a chunk left out: mixed header: the last step is not the tip that the cut names
        another lane: mixed header: the last step is not the tip that the cut names
        the covering header: mixed header is not on its side of the covering header
        another time: mixed header: chunk 2 of lane 1 does not follow, mix or cover header 1
        a header that nobody committed: certificate of mixed header: signers hold 2 of 4 stake, no more than two thirds
        no header: mixed header: no chunk mixes what was there before"#]].assert_eq(&lines.join("\n"));
}
