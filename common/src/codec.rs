//! Bytes of every format: a version byte, then borsh, decoded strictly.
//!
//! Strict means: the version is known, every length is checked before memory is taken, every enum tag exists, sets and
//! maps are sorted, and no byte is left over. So two encodings of one value cannot both be accepted.

use borsh::io::{self, Read, Write};
use borsh::{BorshDeserialize, BorshSerialize};

/// A value with an encoding of its own: a version byte and a limit.
pub trait Format: BorshSerialize + BorshDeserialize {
    /// The name in error messages: `transaction`, `header`.
    const NAME: &'static str;
    /// The first byte of the encoding.
    const VERSION: u8;
    /// The longest encoding, version byte included.
    const MAX_BYTES: usize;
}

/// Bytes that are not the encoding of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the format's limit.
    #[error("{what} has {found} bytes, at most {allowed} are allowed")]
    TooLong {
        /// The format's name.
        what: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// No bytes at all.
    #[error("{what} is empty")]
    Empty {
        /// The format's name.
        what: &'static str,
    },
    /// A version this program does not know.
    #[error("{what} has format version {found}, this program reads version {known}")]
    Version {
        /// The format's name.
        what: &'static str,
        /// The version byte found.
        found: u8,
        /// The version known here.
        known: u8,
    },
    /// Cut off, left over, or against a rule of the fields.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// The format's name.
        what: &'static str,
        /// What the decoder met.
        reason: String,
    },
}

/// Room taken at once for an encoding: a small transaction or a header, which would else grow to it in five steps.
pub(crate) const USUAL_BYTES: usize = 256;

/// The encoding: version byte, then borsh.
#[must_use]
pub fn encode<T: Format>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bytes.push(T::VERSION);
    append(value, &mut bytes);
    bytes
}

/// As [`encode`], for what may be long: its length is counted first, so that memory is taken once.
#[must_use]
pub fn encode_long<T: Format>(value: &T) -> Vec<u8> {
    let length = borsh::object_length(value).unwrap_or(USUAL_BYTES);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    bytes.push(T::VERSION);
    append(value, &mut bytes);
    bytes
}

/// Appends the borsh bytes of any value. Writing into memory cannot fail, and our types do not refuse.
pub(crate) fn append<T: BorshSerialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    let written = value.serialize(bytes);
    debug_assert!(written.is_ok(), "writing into memory cannot fail");
}

/// Decodes what [`encode`] made, and nothing else.
///
/// # Errors
/// Any deviation, see [`DecodeError`]; the length is checked first.
pub fn decode<T: Format>(bytes: &[u8]) -> Result<T, DecodeError> {
    let what = T::NAME;
    if bytes.len() > T::MAX_BYTES {
        return Err(DecodeError::TooLong {
            what,
            found: bytes.len(),
            allowed: T::MAX_BYTES,
        });
    }
    let Some((version, body)) = bytes.split_first() else {
        return Err(DecodeError::Empty { what });
    };
    if *version != T::VERSION {
        return Err(DecodeError::Version {
            what,
            found: *version,
            known: T::VERSION,
        });
    }
    T::try_from_slice(body).map_err(|error| DecodeError::Malformed {
        what,
        reason: error.to_string(),
    })
}

/// Bytes whose length lies within `MIN..=MAX`; the bound is checked before memory is taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundedBytes<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Default for BoundedBytes<0, MAX> {
    /// No bytes.
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A length outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} bytes, {min} to {max} are allowed")]
pub struct LengthError {
    found: usize,
    min: usize,
    max: usize,
}

impl<const MIN: usize, const MAX: usize> BoundedBytes<MIN, MAX> {
    /// Takes bytes of an allowed length.
    ///
    /// # Errors
    /// Where the length is outside `MIN..=MAX`.
    pub fn new(bytes: Vec<u8>) -> Result<Self, LengthError> {
        if bytes.len() < MIN || bytes.len() > MAX {
            return Err(LengthError {
                found: bytes.len(),
                min: MIN,
                max: MAX,
            });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, taken out.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> std::fmt::Debug for BoundedBytes<MIN, MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.len() <= 80 => write!(f, "{text:?}"),
            _ => write!(f, "{} bytes", self.0.len()),
        }
    }
}

impl<const MIN: usize, const MAX: usize> BorshSerialize for BoundedBytes<MIN, MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> io::Result<()> {
        self.0.serialize(writer)
    }
}

impl<const MIN: usize, const MAX: usize> BorshDeserialize for BoundedBytes<MIN, MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> io::Result<Self> {
        let length = read_length(reader, MIN, MAX, "bytes")?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A list of at most `MAX` items; the count is checked before memory is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedVec<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for BoundedVec<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> BoundedVec<T, MAX> {
    /// Takes a list of an allowed length.
    ///
    /// # Errors
    /// Where there are more than `MAX` items.
    pub fn new(items: Vec<T>) -> Result<Self, LengthError> {
        if items.len() > MAX {
            return Err(LengthError {
                found: items.len(),
                min: 0,
                max: MAX,
            });
        }
        Ok(Self(items))
    }

    /// The items.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The items, taken out.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T: BorshSerialize, const MAX: usize> BorshSerialize for BoundedVec<T, MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> io::Result<()> {
        self.0.serialize(writer)
    }
}

impl<T: BorshDeserialize, const MAX: usize> BorshDeserialize for BoundedVec<T, MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> io::Result<Self> {
        let count = read_length(reader, 0, MAX, "items")?;
        // Grown as items arrive: a count alone, without the bytes behind it, costs nothing.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::deserialize_reader(reader)?);
        }
        Ok(Self(items))
    }
}

fn read_length<R: Read>(reader: &mut R, min: usize, max: usize, what: &str) -> io::Result<usize> {
    let length = usize::try_from(u32::deserialize_reader(reader)?).unwrap_or(usize::MAX);
    if length < min || length > max {
        let reason = format!("{length} {what}, {min} to {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(length)
}
