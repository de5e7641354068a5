//! Frames on a stream: `length (u32, big-endian) ‖ bytes`, and the hello that comes before all others.
//!
//! A length is a promise: it is checked against the limit first, and memory is taken only as the bytes arrive.

use crate::machine::Message;
use block_chain_common::codec::{DecodeError, decode};
use block_chain_common::hash::ChainId;
use block_chain_common::limits::MAX_PEER_MESSAGE_BYTES;
use bytes::Bytes;
use iroh::endpoint::SendStream;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The version of what peers say to each other.
const PROTOCOL: u8 = 1;
/// A hello: the version and the chain's id.
pub(super) const HELLO_BYTES: usize = 33;
/// Memory taken for a frame before its first byte.
const FIRST_BYTES: usize = 65_536;

/// Why a stream gives no further frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// It ended, or its connection did: nobody's fault.
    #[error("{0}")]
    Ended(#[from] std::io::Error),
    /// Longer than any message.
    #[error("a message of {found} bytes, at most {allowed} are allowed")]
    TooLong { found: u32, allowed: usize },
    /// The first byte of a stream is not the one that belongs there.
    #[error("a stream of kind {found}, expected {expected}")]
    Kind { found: u8, expected: u8 },
    /// The first frame is none of ours.
    #[error("a hello of {0} bytes, expected {HELLO_BYTES}")]
    HelloLength(usize),
    /// It speaks another version.
    #[error("protocol version {0}, this program speaks {PROTOCOL}")]
    Version(u8),
    /// It is on another chain.
    #[error("chain {found}, expected {expected}")]
    Chain { found: ChainId, expected: ChainId },
    /// No message.
    #[error(transparent)]
    Message(#[from] DecodeError),
}

impl FrameError {
    /// Whether the sender is to blame.
    pub(super) const fn is_malformed(&self) -> bool {
        !matches!(self, Self::Ended(_))
    }
}

/// Reads the byte that says what a stream carries.
pub(super) async fn read_kind<R: AsyncRead + Unpin>(reader: &mut R, expected: u8) -> Result<(), FrameError> {
    let found = reader.read_u8().await?;
    if found == expected {
        Ok(())
    } else {
        Err(FrameError::Kind { found, expected })
    }
}

/// Reads the next message.
pub(super) async fn read_message<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Message, FrameError> {
    let bytes = read_frame(reader).await?;
    Ok(decode(&bytes)?)
}

async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Vec<u8>, FrameError> {
    let found = reader.read_u32().await?;
    let length = usize::try_from(found).unwrap_or(usize::MAX);
    if length > MAX_PEER_MESSAGE_BYTES {
        return Err(FrameError::TooLong {
            found,
            allowed: MAX_PEER_MESSAGE_BYTES,
        });
    }
    let mut bytes = Vec::with_capacity(length.min(FIRST_BYTES));
    let mut rest = reader.take(u64::from(found));
    while bytes.len() < length {
        if rest.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(bytes)
}

/// Writes one frame; the bytes are not copied.
pub(super) async fn write_frame(stream: &mut SendStream, bytes: Bytes) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut chunks = [Bytes::copy_from_slice(&length.to_be_bytes()), bytes];
    Ok(stream.write_all_chunks(&mut chunks).await?)
}

/// What each side says first.
pub(super) fn hello(chain: &ChainId) -> Bytes {
    let mut bytes = vec![PROTOCOL];
    bytes.extend_from_slice(chain.as_bytes());
    bytes.into()
}

/// Reads the other side's hello, and judges it.
pub(super) async fn read_hello<R: AsyncRead + Unpin>(
    reader: &mut R,
    expected: ChainId,
) -> Result<(), FrameError> {
    let bytes = read_frame(reader).await?;
    let (version, chain) = match (bytes.first(), bytes.get(1..).map(<[u8; 32]>::try_from)) {
        (Some(version), Some(Ok(chain))) => (*version, ChainId::from_bytes(chain)),
        (Some(version), _) if *version != PROTOCOL => return Err(FrameError::Version(*version)),
        _ => return Err(FrameError::HelloLength(bytes.len())),
    };
    if version != PROTOCOL {
        return Err(FrameError::Version(version));
    }
    if chain != expected {
        return Err(FrameError::Chain {
            found: chain,
            expected,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_chain_common::codec::encode;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    fn read(mut bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            // Bytes in memory are never waited for.
            messages.push(read_message(&mut bytes).now_or_never().unwrap()?);
        }
        Ok(messages)
    }

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        frame
    }

    fn say_hello(bytes: &[u8], chain: ChainId) -> Result<(), FrameError> {
        read_hello(&mut framed(bytes).as_slice(), chain)
            .now_or_never()
            .unwrap()
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_any_byte() {
        let over = u32::try_from(MAX_PEER_MESSAGE_BYTES + 1).unwrap();
        let error = read(&over.to_be_bytes()).unwrap_err();
        assert!(error.is_malformed());
        assert_eq!(
            error.to_string(),
            "a message of 8650753 bytes, at most 8650752 are allowed"
        );
    }

    #[test]
    fn a_frame_that_is_cut_off_is_no_fault() {
        let at_limit = u32::try_from(MAX_PEER_MESSAGE_BYTES).unwrap();
        assert!(!read(&at_limit.to_be_bytes()).unwrap_err().is_malformed());
        let frame = framed(&encode(&Message::GetMempool));
        for end in 1..frame.len() {
            assert!(!read(&frame[..end]).unwrap_err().is_malformed(), "cut at {end}");
        }
        assert_eq!(read(&frame).unwrap(), [Message::GetMempool]);
    }

    #[test]
    fn a_hello_is_of_this_version_and_chain() {
        let chain = ChainId::from_bytes([7; 32]);
        let right = hello(&chain);
        assert_eq!(right.len(), HELLO_BYTES);
        assert!(say_hello(&right, chain).is_ok());
        let mut newer = right.to_vec();
        newer[0] = 2;
        newer.push(0);
        let cases = [
            (&right[..32], "a hello of 32 bytes, expected 33"),
            (&[], "a hello of 0 bytes, expected 33"),
            (&newer[..], "protocol version 2, this program speaks 1"),
            (&newer[..33], "protocol version 2, this program speaks 1"),
        ];
        for (bytes, expected) in cases {
            let error = say_hello(bytes, chain).unwrap_err();
            assert!(error.is_malformed());
            assert_eq!(error.to_string(), expected);
        }
        let other = say_hello(&hello(&ChainId::ZERO), chain).unwrap_err();
        assert!(matches!(other, FrameError::Chain { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            drop(read(&bytes));
            drop(read(&framed(&bytes)));
            drop(say_hello(&bytes, ChainId::ZERO));
        }

        #[test]
        fn any_body_of_a_message_is_one_or_an_error(
            kind in 0..=20_u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..512),
        ) {
            let mut body = vec![1, kind];
            body.extend(bytes);
            if let Ok(messages) = read(&framed(&body)) {
                // What is accepted has one encoding.
                prop_assert_eq!(encode(&messages[0]), body);
            }
        }
    }
}
