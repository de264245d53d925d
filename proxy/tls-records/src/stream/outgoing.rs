//! Writing half: sealed records that the underlying connection has not accepted yet.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::Error;
use tokio::io::AsyncWrite;

use super::messages;
use crate::{
    buffers,
    record::{Content, Key, OVERHEAD, PLAINTEXT},
};

/// Writing half of a stream.
pub(super) struct Outgoing {
    pub(super) key: Key,
    /// The peer has requested a KeyUpdate, which is due before more data.
    pub(super) owes_key_update: bool,
    /// Maximum number of records that a key may seal.
    pub(super) limit: u64,
    /// Borrowed from the thread while there is something to send.
    buffer: Option<Vec<u8>>,
    sent: usize,
    is_closed: bool,
}

impl Outgoing {
    pub(super) fn new(key: Key, limit: u64) -> Self {
        Self {
            key,
            owes_key_update: false,
            limit,
            buffer: None,
            sent: 0,
            is_closed: false,
        }
    }

    /// Returns true if a record of `len` bytes, or of as many as fit into one record, still fits.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let held = self.buffer.as_ref().map_or(0, Vec::len);
        held == 0 || held + len.min(PLAINTEXT) + OVERHEAD <= buffers::WRITE_BYTES
    }

    /// Seals as much as there is room for, and returns how much. Fails without an error once the half is closed.
    pub(super) fn seal(&mut self, bufs: &[IoSlice<'_>]) -> Result<usize, Option<Error>> {
        if self.is_closed {
            return Err(None);
        }
        let total = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let mut cursor = Cursor { bufs, at: 0 };
        let mut left = total;
        while left > 0 && self.has_room(left) {
            // The last record of a key announces the next one.
            if self.owes_key_update || self.key.sequence().saturating_add(1) >= self.limit {
                self.update_key()?;
            }
            let len = left.min(PLAINTEXT);
            let buffer = self.buffer.get_or_insert_with(buffers::to_write);
            self.key.seal(Content::Data, cursor.take(len), buffer)?;
            left -= len;
        }
        Ok(total - left)
    }

    fn update_key(&mut self) -> Result<(), Error> {
        let buffer = self.buffer.get_or_insert_with(buffers::to_write);
        self.key
            .seal(Content::Handshake, [&messages::KEY_UPDATE[..]].into_iter(), buffer)?;
        self.key = self.key.next_key()?;
        self.owes_key_update = false;
        Ok(())
    }

    /// Seals an alert, the last record of this half; returns false if the half was already closed.
    pub(super) fn alert(&mut self, alert: [u8; 2]) -> bool {
        if std::mem::replace(&mut self.is_closed, true) {
            return false;
        }
        let buffer = self.buffer.get_or_insert_with(buffers::to_write);
        let sealed = self.key.seal(Content::Alert, [&alert[..]].into_iter(), buffer);
        sealed.is_ok()
    }

    /// Sends sealed records.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while let Some(buffer) = &self.buffer {
            let sent = ready!(Pin::new(&mut *io).poll_write(cx, &buffer[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
            if self.sent == buffer.len() {
                self.rest();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes not yet accepted by the underlying connection.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len() - self.sent)
    }

    /// Returns true if nothing is held.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_none()
    }

    fn rest(&mut self) {
        self.sent = 0;
        if let Some(buffer) = self.buffer.take() {
            buffers::give_write(buffer);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.rest();
    }
}

/// Position in the buffers of a vectored write.
struct Cursor<'a> {
    bufs: &'a [IoSlice<'a>],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Returns the next `len` bytes, in pieces.
    fn take(&mut self, mut len: usize) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            while let Some((first, rest)) = self.bufs.split_first() {
                let bytes = &first[self.at..];
                if bytes.is_empty() {
                    (self.bufs, self.at) = (rest, 0);
                    continue;
                }
                let piece = &bytes[..bytes.len().min(len)];
                len -= piece.len();
                self.at += piece.len();
                return (!piece.is_empty()).then_some(piece);
            }
            None
        })
    }
}
