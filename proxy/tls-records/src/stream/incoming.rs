//! Reading half: records as they arrived, and their opened contents.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use proxy_model::limits::{TLS_HANDSHAKE_BYTES, TLS_READ_BYTES};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    buffers,
    record::{Content, Fault, HEADER, Key, payload_len},
};

// What arrives with a handshake fits into a read buffer.
const _: () = assert!(TLS_HANDSHAKE_BYTES.value <= TLS_READ_BYTES.value);

/// Reading half of a stream.
pub(super) struct Incoming {
    pub(super) key: Key,
    /// Borrowed from the thread while it holds bytes to return or to open.
    buffer: Option<Box<[u8]>>,
    /// Records in the buffer that are not opened yet; the last may be incomplete.
    records: Range<usize>,
    /// Opened bytes not yet returned.
    opened: Range<usize>,
    /// Beginning of a record whose rest has not arrived yet.
    beginning: Box<[u8]>,
}

impl Incoming {
    /// Starts with the records that arrived with the handshake: no more than a buffer holds.
    pub(super) fn new(key: Key, records: &[u8]) -> Self {
        let buffer = (!records.is_empty()).then(|| {
            let mut buffer = buffers::to_read();
            buffer[..records.len()].copy_from_slice(records);
            buffer
        });
        Self {
            key,
            buffer,
            records: 0..records.len(),
            opened: 0..0,
            beginning: Box::default(),
        }
    }

    /// Copies opened bytes to `out`.
    pub(super) fn give(&mut self, out: &mut ReadBuf<'_>) {
        let len = self.opened.len().min(out.remaining());
        if len > 0
            && let Some(buffer) = &self.buffer
        {
            out.put_slice(&buffer[self.opened.start..][..len]);
            self.opened.start += len;
        }
    }

    /// Returns true if no opened bytes are left to return.
    pub(super) fn is_drained(&self) -> bool {
        self.opened.is_empty()
    }

    /// Takes the opened bytes for internal use.
    pub(super) fn take_opened(&mut self) -> &[u8] {
        let opened = std::mem::take(&mut self.opened);
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[opened])
    }

    /// Opens the next record if it is complete, and returns its content type and length. All opened bytes must have
    /// been taken.
    pub(super) fn open(&mut self) -> Result<Option<(Content, usize)>, Fault> {
        let Some(buffer) = &mut self.buffer else {
            return Ok(None);
        };
        let bytes = &mut buffer[self.records.clone()];
        let Some(len) = payload_len(bytes)? else {
            return Ok(None);
        };
        let Some(record) = bytes.get_mut(..HEADER + len) else {
            return Ok(None);
        };
        let (content, end) = self.key.open(record)?;
        let start = self.records.start + HEADER;
        self.records.start += HEADER + len;
        self.opened = start..start + end;
        Ok(Some((content, end)))
    }

    /// Reads more once no complete record is left. Zero bytes mean the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        self.rest();
        let mut buffer = buffers::to_read();
        let start = self.beginning.len();
        let mut read = ReadBuf::new(&mut buffer[start..]);
        let result = Pin::new(io).poll_read(cx, &mut read);
        let len = read.filled().len();
        if len == 0 {
            buffers::give_read(buffer, 0);
            ready!(result)?;
            return Poll::Ready(Ok(0));
        }
        buffer[..start].copy_from_slice(&self.beginning);
        self.beginning = Box::default();
        self.records = 0..start + len;
        self.buffer = Some(buffer);
        Poll::Ready(Ok(len))
    }

    /// Returns the buffer and discards its contents.
    pub(super) fn end(&mut self) {
        self.records.start = self.records.end;
        self.rest();
    }

    /// Returns true if nothing is held.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_none() && self.beginning.is_empty()
    }

    /// Returns the buffer, keeping at most the beginning of a record.
    pub(super) fn rest(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let records = std::mem::take(&mut self.records);
            self.beginning = buffer[records.clone()].into();
            buffers::give_read(buffer, records.end);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.rest();
    }
}
