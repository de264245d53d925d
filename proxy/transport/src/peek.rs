//! Reads the first bytes of a stream until they tell what it carries.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Result of looking at the first bytes of a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Peek<T> {
    /// The bytes are recognized.
    Known(T),
    /// The stream ended, or reached the limit, before its bytes were recognized.
    Unknown,
    /// The stream ended before its first byte.
    Closed,
}

/// Reads into `bytes` until `inspect` recognizes them, the stream ends, or `limit` bytes have been read.
///
/// Cancellation loses nothing: all bytes read are in `bytes`. The caller limits the time.
pub async fn peek<I, T>(
    io: &mut I,
    bytes: &mut BytesMut,
    limit: usize,
    mut inspect: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Peek<T>>
where
    I: AsyncRead + Unpin,
{
    loop {
        let read = io.read_buf(bytes).await?;
        if bytes.is_empty() {
            return Ok(Peek::Closed);
        }
        if let Some(known) = inspect(bytes) {
            return Ok(Peek::Known(known));
        }
        if read == 0 || bytes.len() >= limit {
            return Ok(Peek::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peeks for a digit in a stream that arrives in `parts`; returns the bytes read, too.
    async fn digit(parts: [&str; 3], limit: usize) -> (Peek<u8>, BytesMut) {
        let [first, second, third] = parts.map(str::as_bytes);
        let mut io = first.chain(second).chain(third);
        let mut bytes = BytesMut::with_capacity(8);
        let find = |bytes: &[u8]| bytes.iter().copied().find(u8::is_ascii_digit);
        let found = peek(&mut io, &mut bytes, limit, find).await;
        (found.expect("no error"), bytes)
    }

    #[tokio::test]
    async fn reads_until_the_bytes_are_recognized() {
        let (found, bytes) = digit(["ab", "c1", "rest"], 64).await;
        assert_eq!((found, &bytes[..]), (Peek::Known(b'1'), &b"abc1"[..]));
    }

    #[tokio::test]
    async fn stops_at_the_limit_and_at_the_end() {
        let (found, bytes) = digit(["abcd", "1", ""], 4).await;
        assert_eq!((found, &bytes[..]), (Peek::Unknown, &b"abcd"[..]));
        let (found, bytes) = digit(["ab", "c", ""], 64).await;
        assert_eq!((found, &bytes[..]), (Peek::Unknown, &b"abc"[..]));
    }

    #[tokio::test]
    async fn an_end_before_the_first_byte_is_distinct() {
        let (found, bytes) = digit(["", "", ""], 64).await;
        assert!(found == Peek::Closed && bytes.is_empty());
    }
}
