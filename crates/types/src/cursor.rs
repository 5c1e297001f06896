//! Where a consumer stands in a lane: its resume token, and what it asks a server for.
//!
//! ```text
//!  lane     ──────────●═══════════════▶─────────┤
//!                certified          seqno       end of the snapshot
//!                     └ never rolled back
//!  cursor   lane u16 · certified (height u64 · seqno u64 · root 32) · branch 32 · seqno u64 · start u64 · end u64 · root 32
//!           · older (count u32, each: branch 32 · seqno u64 · root 32)
//!  cursors  chain 32 · list of cursors, lanes ascending
//!  text     hexadecimal of the encoding and its CRC-32C (little endian)
//! ```
//! * `branch` is the hash of the header that began the term in which transaction `seqno` was ordered (the chain id for the first term),
//!   `root` the RFC 9162 root of the lane's first `seqno` transactions.
//! * A **snapshot** is the half-open range `(start, end]` that one cut, or one chunk that is not certified, adds to a lane. State
//!   that is derived from a stream is consistent at the ends of snapshots alone.
//! * What the checksum finds is a slip of the hand. A cursor that was forged on purpose harms the one who sends it: what a
//!   server answers is checked against the roots in it.

use crate::agreement::{LANE_COUNT_MAX, ascending};
use crate::codec::{Decode, DecodeError, Encode, Reader, put_count, put_list};
use crate::number::{Hash, Height, Lane, Seqno, Time};

/// Most older branches in a cursor: terms that ended since its certified position.
pub const OLDER_COUNT_MAX: usize = 64;
/// Most bytes of [`Cursors`], encoded.
pub const CURSORS_SIZE_MAX: usize =
    32 + 4 + LANE_COUNT_MAX * (Cursor::SIZE_MIN + OLDER_COUNT_MAX * Branch::SIZE_MIN);

/// A place in a lane that a committed cut covers, with everything before it. The default is the start, with its root not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certified {
    /// The newest height that was followed to its end; `0` is the genesis.
    pub height: Height,
    /// How far its cut reaches in the lane.
    pub seqno: Seqno,
    /// Root of the lane's tree there; zero where it is not known.
    pub root: Hash,
}

/// A place on a branch that is older than the cursor's own and of which a part is not certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The branch.
    pub branch: Hash,
    /// Where the consumer left it for the next one.
    pub seqno: Seqno,
    /// Root of the lane's tree there.
    pub root: Hash,
}

/// A consumer's place in one lane. See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The lane.
    pub lane: Lane,
    /// Up to where nothing is ever rolled back.
    pub certified: Certified,
    /// The term's branch at `seqno`.
    pub branch: Hash,
    /// The last transaction that was taken; `0` is "nothing yet".
    pub seqno: Seqno,
    /// The snapshot that it is in: `start ≤ seqno ≤ end`.
    pub start: Seqno,
    /// See `start`.
    pub end: Seqno,
    /// Root of the lane's tree at `seqno`.
    pub root: Hash,
    /// Older branches that are held and not certified, newest first.
    pub older: Vec<Branch>,
}

impl Cursor {
    /// At the beginning of a lane. `empty_root` is the root of the tree without leaves.
    #[must_use]
    pub const fn start(lane: Lane, chain: Hash, empty_root: Hash) -> Self {
        let seqno = Seqno::new(0);
        let certified = Certified { height: Height::new(0), seqno, root: empty_root };
        Self::at(lane, certified, chain)
    }

    /// At a certified place, of which the branch is known.
    #[must_use]
    pub const fn at(lane: Lane, certified: Certified, branch: Hash) -> Self {
        let Certified { seqno, root, .. } = certified;
        Self { lane, certified, branch, seqno, start: seqno, end: seqno, root, older: Vec::new() }
    }

    /// Whether it stands at the end of a snapshot, or before one of which nothing was taken.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.seqno == self.start || self.seqno == self.end
    }
}

/// A consumer's places in several lanes of one ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursors {
    /// The ledger.
    pub chain: Hash,
    /// One per lane that is followed, ascending.
    pub lanes: Vec<Cursor>,
}

/// Whether what is not certified yet is streamed, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only what a committed cut covers; nothing is ever rolled back.
    #[default]
    Certified,
    /// What a sequencer streams, as it comes; it may be rolled back to the last cut.
    Tentative,
}

/// Where a feed of lanes begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After these cursors.
    Cursors(Cursors),
    /// After a height, `0` for the first.
    Height(Height),
    /// With the first height whose header has at least this time.
    Time(Time),
    /// After the newest height.
    End,
}

/// What a consumer asks a server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRequest {
    /// What is streamed.
    pub mode: Mode,
    /// Whether it goes on when the newest height was sent.
    pub follow: bool,
    /// The newest epoch whose validators the consumer knows: how this one and later ones ended is sent.
    pub epoch: u64,
    /// The lanes, ascending; for [`Start::Cursors`] theirs.
    pub lanes: Vec<Lane>,
    /// Where.
    pub start: Start,
}

impl Encode for Certified {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.seqno.encode(out);
        self.root.encode(out);
    }
}

impl Decode for Certified {
    const SIZE_MIN: usize = 8 + 8 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: Height::decode(reader)?,
            seqno: Seqno::decode(reader)?,
            root: Hash::decode(reader)?,
        })
    }
}

impl Encode for Branch {
    fn encode(&self, out: &mut Vec<u8>) {
        self.branch.encode(out);
        self.seqno.encode(out);
        self.root.encode(out);
    }
}

impl Decode for Branch {
    const SIZE_MIN: usize = 32 + 8 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            branch: Hash::decode(reader)?,
            seqno: Seqno::decode(reader)?,
            root: Hash::decode(reader)?,
        })
    }
}

impl Encode for Cursor {
    fn encode(&self, out: &mut Vec<u8>) {
        self.lane.encode(out);
        self.certified.encode(out);
        self.branch.encode(out);
        for seqno in [self.seqno, self.start, self.end] {
            seqno.encode(out);
        }
        self.root.encode(out);
        put_list(out, &self.older);
    }
}

impl Decode for Cursor {
    const SIZE_MIN: usize = 2 + Certified::SIZE_MIN + 32 + 3 * 8 + 32 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lane: Lane::decode(reader)?,
            certified: Certified::decode(reader)?,
            branch: Hash::decode(reader)?,
            seqno: Seqno::decode(reader)?,
            start: Seqno::decode(reader)?,
            end: Seqno::decode(reader)?,
            root: Hash::decode(reader)?,
            older: reader.list("older branches", OLDER_COUNT_MAX)?,
        })
    }
}

impl Encode for Cursors {
    fn encode(&self, out: &mut Vec<u8>) {
        self.chain.encode(out);
        put_list(out, &self.lanes);
    }
}

impl Decode for Cursors {
    const SIZE_MIN: usize = 32 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let chain = Hash::decode(reader)?;
        let lanes: Vec<Cursor> = reader.list("cursors", LANE_COUNT_MAX)?;
        ascending("lanes of cursors", lanes.iter().map(|cursor| cursor.lane.get()))?;
        Ok(Self { chain, lanes })
    }
}

impl std::fmt::Display for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = self.to_bytes();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        f.write_str(&hex::encode(bytes))
    }
}

/// Why a text is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Other characters than hexadecimal digits, or an odd number of them.
    #[error("a cursor is hexadecimal text, and this is not")]
    NotHex,
    /// Longer than any cursor.
    #[error("a cursor has at most {} digits, this has {size}", 2 * (CURSORS_SIZE_MAX + 4))]
    TooLong {
        /// Its digits.
        size: usize,
    },
    /// The checksum is not of the bytes before it.
    #[error("the cursor's checksum is wrong: it was cut short or changed by hand")]
    Checksum,
    /// The bytes are no cursor's.
    #[error("the cursor does not decode: {0}")]
    Malformed(#[from] DecodeError),
}

impl std::str::FromStr for Cursors {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() / 2 > CURSORS_SIZE_MAX + 4 {
            return Err(CursorError::TooLong { size: text.len() });
        }
        let bytes = hex::decode(text).map_err(|_| CursorError::NotHex)?;
        let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(CursorError::Checksum)?;
        if crc32c::crc32c(bytes) != u32::from_le_bytes(*sum) {
            return Err(CursorError::Checksum);
        }
        Ok(Self::from_bytes(bytes)?)
    }
}

impl Encode for FeedRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.mode {
            Mode::Certified => 0,
            Mode::Tentative => 1,
        });
        out.push(u8::from(self.follow));
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_count(out, self.lanes.len());
        for lane in &self.lanes {
            lane.encode(out);
        }
        match &self.start {
            Start::Cursors(cursors) => {
                out.push(0);
                cursors.encode(out);
            }
            Start::Height(height) => {
                out.push(1);
                height.encode(out);
            }
            Start::Time(time) => {
                out.push(2);
                time.encode(out);
            }
            Start::End => out.push(3),
        }
    }
}

impl Decode for FeedRequest {
    const SIZE_MIN: usize = 1 + 1 + 8 + 4 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mode = match reader.bool("mode")? {
            false => Mode::Certified,
            true => Mode::Tentative,
        };
        let follow = reader.bool("follow")?;
        let epoch = reader.u64()?;
        let lanes: Vec<Lane> = reader.list("lanes", LANE_COUNT_MAX)?;
        ascending("lanes", lanes.iter().map(|lane| lane.get()))?;
        let start = match reader.u8()? {
            0 => Start::Cursors(Cursors::decode(reader)?),
            1 => Start::Height(Height::decode(reader)?),
            2 => Start::Time(Time::decode(reader)?),
            3 => Start::End,
            tag => return Err(DecodeError::Tag { what: "start", tag: u64::from(tag) }),
        };
        if let Start::Cursors(cursors) = &start
            && !cursors.lanes.iter().map(|cursor| cursor.lane).eq(lanes.iter().copied())
        {
            return Err(DecodeError::NotCanonical { what: "lanes of cursors" });
        }
        Ok(Self { mode, follow, epoch, lanes, start })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seqno() -> impl Strategy<Value = Seqno> {
        any::<u64>().prop_map(Seqno::new)
    }

    fn hash() -> impl Strategy<Value = Hash> {
        any::<[u8; 32]>().prop_map(Hash)
    }

    fn cursor() -> impl Strategy<Value = Cursor> {
        let older = (hash(), seqno(), hash()).prop_map(|(branch, seqno, root)| Branch {
            branch,
            seqno,
            root,
        });
        let certified = (any::<u64>(), seqno(), hash()).prop_map(|(height, seqno, root)| {
            Certified { height: Height::new(height), seqno, root }
        });
        let places = (seqno(), seqno(), seqno());
        (certified, hash(), places, hash(), proptest::collection::vec(older, 0..3)).prop_map(
            |(certified, branch, (seqno, start, end), root, older)| {
                let lane = Lane::new(0);
                Cursor { lane, certified, branch, seqno, start, end, root, older }
            },
        )
    }

    fn cursors() -> impl Strategy<Value = Cursors> {
        (hash(), proptest::collection::vec(cursor(), 0..4)).prop_map(|(chain, mut lanes)| {
            for (lane, cursor) in (0..).zip(&mut lanes) {
                cursor.lane = Lane::new(lane);
            }
            Cursors { chain, lanes }
        })
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_from_its_text_and_no_changed_digit_does(
            cursors in cursors(), place in any::<prop::sample::Index>(), other in 1_u8..16,
        ) {
            let text = cursors.to_string();
            prop_assert_eq!(text.parse::<Cursors>(), Ok(cursors));
            let place = place.index(text.len());
            let digit = text[place..].chars().next().and_then(|digit| digit.to_digit(16)).unwrap();
            let digit = char::from_digit(digit ^ u32::from(other), 16).unwrap();
            let mut changed = text;
            changed.replace_range(place..=place, &digit.to_string());
            prop_assert_eq!(changed.parse::<Cursors>(), Err(CursorError::Checksum));
        }

        #[test]
        fn a_request_has_one_form(
            cursors in cursors(), tentative: bool, follow: bool, kind in 0_u8..4, number: u64, epoch: u64,
        ) {
            let lanes = cursors.lanes.iter().map(|cursor| cursor.lane).collect();
            let start = match kind {
                0 => Start::Cursors(cursors),
                1 => Start::Height(Height::new(number)),
                2 => Start::Time(Time::new(number)),
                _ => Start::End,
            };
            let mode = if tentative { Mode::Tentative } else { Mode::Certified };
            let request = FeedRequest { mode, follow, epoch, lanes, start };
            let bytes = request.to_bytes();
            prop_assert!(bytes.len() <= CURSORS_SIZE_MAX + 200);
            prop_assert_eq!(FeedRequest::from_bytes(&bytes), Ok(request));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = FeedRequest::from_bytes(&bytes) {
                prop_assert_eq!(request.to_bytes(), bytes.clone());
            }
            if let Ok(cursors) = Cursors::from_bytes(&bytes) {
                prop_assert_eq!(cursors.to_bytes(), bytes);
            }
        }
    }
}
