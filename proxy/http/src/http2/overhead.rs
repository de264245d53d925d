//! Bytes that a client sends beside the bodies of its requests. h2 answers each PING and SETTINGS, and takes PRIORITY
//! and unknown frames without end; all they cost is the reader's time, which belongs to the other connections, too.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use proxy_model::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Bytes before the first frame of a client.
const PREFACE: usize = 24;
/// Type of the frames that carry bodies; flow control bounds them.
const DATA: u8 = 0;

/// Count of the bytes of all frames but DATA, shared with the I/O that sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overhead(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: Cell<u64>,
    /// Total at which the running turn ends.
    turn_ends: Cell<u64>,
}

impl Overhead {
    pub(crate) fn total(&self) -> u64 {
        self.0.total.get()
    }

    /// Begins a turn of the connection, in which a bounded number of bytes is read.
    pub(crate) fn begin_turn(&self) {
        self.0.turn_ends.set(self.total() + limits::HTTP2_TURN_BYTES.value);
    }

    /// Ends a turn; if not everything has been read in it, wakes the task for the next one, after those of others.
    pub(crate) fn end_turn(&self, cx: &Context<'_>) {
        if self.is_turn_over() {
            cx.waker().wake_by_ref();
        }
    }

    fn is_turn_over(&self) -> bool {
        self.total() >= self.0.turn_ends.get()
    }
}

/// Server's I/O whose frames are counted.
#[derive(Debug)]
pub(crate) struct CountedFrames<I> {
    io: I,
    overhead: Overhead,
    /// Bytes until the next frame's head.
    rest: usize,
    /// Head in progress.
    head: [u8; HEAD],
    filled: usize,
}

impl<I> CountedFrames<I> {
    /// Counts what is read from `io`, which begins with the client's preface.
    pub(crate) fn new(io: I, overhead: Overhead) -> Self {
        overhead.begin_turn();
        Self {
            io,
            overhead,
            rest: PREFACE,
            head: [0; HEAD],
            filled: 0,
        }
    }

    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let (part, behind) = bytes.split_at(bytes.len().min(HEAD - self.filled));
            self.head[self.filled..][..part.len()].copy_from_slice(part);
            self.filled += part.len();
            bytes = behind;
            if self.filled < HEAD {
                return;
            }
            self.filled = 0;
            let [a, b, c, kind, ..] = self.head;
            self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != DATA {
                let total = &self.overhead.0.total;
                total.set(total.get() + (HEAD + self.rest) as u64);
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for CountedFrames<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.overhead.is_turn_over() {
            // The end of the turn wakes the task.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        this.count(&buf.filled()[before..]);
        read
    }
}

macro_rules! with {
    ($wrapper:expr, $io:ident => $call:expr) => {{
        let CountedFrames { io: $io, .. } = $wrapper;
        $call
    }};
}

proxy_transport::delegate_write!(impl<I> CountedFrames<I> where {I: AsyncWrite + Unpin}, with);

#[cfg(test)]
mod tests {
    use crate::server::tests::frames::{PING, PREFACE, SETTINGS, frame};

    use super::*;

    #[test]
    fn all_frames_but_data_are_counted_however_they_are_cut() {
        let data = frame(DATA, 0, 1, &[7; 300]);
        let parts = [
            PREFACE,
            &frame(SETTINGS, 0, 0, &[]),
            &data,
            &frame(PING, 0, 0, &[0; 8]),
            &data,
        ]
        .concat();
        for size in 1..parts.len() {
            let overhead = Overhead::default();
            let mut frames = CountedFrames::new((), overhead.clone());
            parts.chunks(size).for_each(|chunk| frames.count(chunk));
            assert_eq!(overhead.total(), 9 + 17, "in pieces of {size}");
        }
    }
}
