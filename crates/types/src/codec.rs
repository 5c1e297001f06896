//! One bounded codec: little-endian fixed integers, `u32` counts, no padding, no options in the format.
//!
//! * Integers are little endian. A byte string is a `u32` length and the bytes. A list is a `u32`
//!   count and its items. An option is one byte, `0` or `1`, and the item.
//! * A reader never trusts a count: it is checked against the bytes that are left (T2) before
//!   anything is reserved.

use std::ops::Range;

use thiserror::Error;

/// Why bytes are not the encoding of a value. The sender is to blame, never the reader.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a value.
    #[error("input ends early: {wanted} bytes wanted, {left} left")]
    Short {
        /// Bytes the value needs.
        wanted: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes are left after the value.
    #[error("{left} bytes follow the value")]
    Trailing {
        /// Bytes that are left.
        left: usize,
    },
    /// A length or count is above what the field may hold.
    #[error("{what} is {size}, the most is {size_max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What was announced.
        size: u64,
        /// What is allowed.
        size_max: u64,
    },
    /// A tag that no variant has.
    #[error("{what} has no variant {tag}")]
    Tag {
        /// The type.
        what: &'static str,
        /// The tag found.
        tag: u64,
    },
    /// The bytes decode to a value whose encoding is different: only one form is accepted (T1).
    #[error("{what} is not in canonical form")]
    NotCanonical {
        /// The type.
        what: &'static str,
    },
    /// A text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// The field.
        what: &'static str,
    },
}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next byte, which stays.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next `size` bytes.
    pub fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::Short { wanted: size, left: self.rest.len() })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Short { wanted: N, left: self.rest.len() })?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array::<1>()?;
        Ok(byte)
    }

    /// A `u16`, little endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A `u32`, little endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A `u64`, little endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A byte that is `0` or `1`.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what, tag: u64::from(tag) }),
        }
    }

    /// A byte string of at most `size_max` bytes.
    pub fn bytes(&mut self, what: &'static str, size_max: usize) -> Result<&'a [u8], DecodeError> {
        let size = self.u32()?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        if wanted > size_max {
            return Err(too_long(what, wanted, size_max));
        }
        self.take(wanted)
    }

    /// A text of at most `size_max` bytes.
    pub fn text(&mut self, what: &'static str, size_max: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(what, size_max)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { what })
    }

    /// The count of a list of at most `count_max` items of at least `item_size_min` bytes each.
    pub fn count(
        &mut self,
        what: &'static str,
        count_max: usize,
        item_size_min: usize,
    ) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > count_max {
            return Err(too_long(what, count, count_max));
        }
        let wanted = count.saturating_mul(item_size_min);
        if wanted > self.left() {
            return Err(DecodeError::Short { wanted, left: self.left() });
        }
        Ok(count)
    }

    /// A list of items that know how to decode themselves.
    pub fn list<T: Decode>(
        &mut self,
        what: &'static str,
        count_max: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, count_max, T::SIZE_MIN)?;
        (0..count).map(|_| T::decode(self)).collect()
    }

    /// An optional item.
    pub fn option<T: Decode>(&mut self, what: &'static str) -> Result<Option<T>, DecodeError> {
        if self.bool(what)? { T::decode(self).map(Some) } else { Ok(None) }
    }

    /// The end of the input.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { left: self.rest.len() })
        }
    }
}

fn too_long(what: &'static str, size: usize, size_max: usize) -> DecodeError {
    DecodeError::TooLong {
        what,
        size: u64::try_from(size).unwrap_or(u64::MAX),
        size_max: u64::try_from(size_max).unwrap_or(u64::MAX),
    }
}

/// A value with one encoding (T1).
pub trait Encode {
    /// Appends the encoding of `self`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding of `self`.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENCODED_SIZE);
        self.encode(&mut out);
        out
    }
}

/// Room that most encodings fit: growing into it would copy them several times.
const ENCODED_SIZE: usize = 256;

/// A value that can be read back.
pub trait Decode: Sized {
    /// Fewest bytes that an encoding has: what bounds a list's count before it is reserved.
    const SIZE_MIN: usize;

    /// Reads one value and leaves the reader behind it.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads one value that is all of `bytes`.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

/// Appends what `put` appends as a byte string, without a copy of it. Gives where its bytes stand.
///
/// # Panics
/// As [`put_bytes`].
pub fn put_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let place = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    put(out);
    let end = out.len();
    let size = end.checked_sub(start).and_then(|size| u32::try_from(size).ok());
    let size = size.expect("a field grows, and is bounded far below 4 GiB");
    if let Some(field) = out.get_mut(place..start) {
        field.copy_from_slice(&size.to_le_bytes());
    }
    start..end
}

/// Appends a byte string.
///
/// # Panics
/// When it is 4 GiB or longer: every field that reaches this is bounded far below.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a list's count.
///
/// # Panics
/// When it does not fit 32 bits: every list that reaches this is bounded far below.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("every list and byte string is bounded below 4 Gi");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends a list of items.
pub fn put_list<T: Encode>(out: &mut Vec<u8>, items: &[T]) {
    put_count(out, items.len());
    for item in items {
        item.encode(out);
    }
}

/// Appends an optional item.
pub fn put_option<T: Encode>(out: &mut Vec<u8>, item: Option<&T>) {
    match item {
        None => out.push(0),
        Some(item) => {
            out.push(1);
            item.encode(out);
        }
    }
}
