//! What comes: records as they were read, and what was opened of them.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    buffers,
    record::{Content, Fault, HEADER, Key, payload_len},
};

/// The reading half.
pub(super) struct Incoming {
    pub(super) key: Key,
    /// Borrowed from the thread while there is something in it that can be given or opened.
    buffer: Option<Box<[u8]>>,
    /// Records of the buffer that are not opened yet, the last of them perhaps not whole.
    records: Range<usize>,
    /// What is opened and not given yet.
    opened: Range<usize>,
    /// The beginning of a record, while the rest of it is waited for.
    beginning: Box<[u8]>,
}

impl Incoming {
    /// `early` came with the handshake, and behind it came `records`: together no more than a buffer holds.
    pub(super) fn new(key: Key, early: &[u8], records: &[u8]) -> Self {
        let mut incoming = Self {
            key,
            buffer: None,
            records: 0..0,
            opened: 0..0,
            beginning: Box::default(),
        };
        if early.is_empty() {
            incoming.beginning = records.into();
        } else {
            let mut buffer = buffers::to_read();
            let end = early.len() + records.len();
            buffer[..early.len()].copy_from_slice(early);
            buffer[early.len()..end].copy_from_slice(records);
            (incoming.opened, incoming.records) = (0..early.len(), early.len()..end);
            incoming.buffer = Some(buffer);
        }
        incoming
    }

    /// Gives what is opened.
    pub(super) fn give(&mut self, out: &mut ReadBuf<'_>) {
        let len = self.opened.len().min(out.remaining());
        if len > 0
            && let Some(buffer) = &self.buffer
        {
            out.put_slice(&buffer[self.opened.start..][..len]);
            self.opened.start += len;
        }
    }

    /// What is opened, for ourselves.
    pub(super) fn take_opened(&mut self) -> &[u8] {
        let opened = std::mem::take(&mut self.opened);
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[opened])
    }

    /// Opens the next record if it is whole, and says how long its content is. All that was opened has been taken.
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

    /// Reads more, once no record is whole. Zero bytes are the end.
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
            buffers::give_read(buffer);
            ready!(result)?;
            return Poll::Ready(Ok(0));
        }
        buffer[..start].copy_from_slice(&self.beginning);
        self.beginning = Box::default();
        self.records = 0..start + len;
        self.buffer = Some(buffer);
        Poll::Ready(Ok(len))
    }

    /// Gives the buffer back: nothing of it matters any more.
    pub(super) fn end(&mut self) {
        self.records = 0..0;
        self.rest();
    }

    /// Whether it holds nothing at all.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_none() && self.beginning.is_empty()
    }

    /// Gives the buffer back: what is left is at most the beginning of a record.
    pub(super) fn rest(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.beginning = buffer[std::mem::take(&mut self.records)].into();
            buffers::give_read(buffer);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.rest();
    }
}
