//! Judgement of clients that send frames without a use: PING, SETTINGS, PRIORITY, or windows opened byte by byte.

use proxy_model::limits::{self, Limit};
use tokio::time::Instant;

/// Bytes after which a connection is judged; it takes two pieces to be condemned.
const PIECE: u64 = limits::HTTP2_IDLE_BYTES.value as u64 / 2;
/// Bytes that a request explains: twice its headers, for its trailers.
const PER_REQUEST: u64 = 2 * limits::HEADER_LIST_BYTES.value as u64;
/// Bytes that a sent piece of a body explains besides its length: gRPC clients answer it with WINDOW_UPDATE and PING.
const PER_SENT: u64 = 256;

/// Work that a connection has caused so far.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Work {
    /// Requests accepted.
    pub(super) requests: u64,
    /// Heads answered, and pieces of bodies sent.
    pub(super) sent: u64,
    /// Their bytes.
    pub(super) sent_bytes: u64,
}

impl Work {
    /// Bytes of frames other than DATA that are ordinary for the work since `before`.
    fn explains(self, before: Self) -> u64 {
        (self.requests - before.requests) * PER_REQUEST
            + (self.sent - before.sent) * PER_SENT
            + (self.sent_bytes - before.sent_bytes)
    }
}

/// Frames of one connection.
#[derive(Debug)]
pub(super) struct Floods {
    /// Total at which the next piece is whole.
    piece_ends: u64,
    began: Option<Instant>,
    work: Work,
}

impl Floods {
    pub(super) fn new() -> Self {
        Self {
            piece_ends: PIECE,
            began: None,
            work: Work::default(),
        }
    }

    /// Judges the bytes of frames other than DATA so far; returns the limit that they exceed.
    pub(super) fn judge(&mut self, overhead: u64, work: impl FnOnce() -> Work) -> Option<Limit<u32>> {
        (overhead >= self.piece_ends).then(|| self.judge_piece(overhead, work()))?
    }

    #[cold]
    fn judge_piece(&mut self, overhead: u64, work: Work) -> Option<Limit<u32>> {
        let now = Instant::now();
        let is_fast = |began| now.duration_since(began) <= limits::HTTP2_IDLE_WINDOW.value;
        let is_flood = self.began.is_some_and(is_fast) && work.explains(self.work) < PIECE;
        *self = Self {
            piece_ends: overhead + PIECE,
            began: Some(now),
            work,
        };
        is_flood.then_some(limits::HTTP2_IDLE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_and_time_explain_bytes() {
        let window = limits::HTTP2_IDLE_WINDOW.value;
        for (time, requests, sent, is_flood) in [
            (window, 0, 0, true),
            (window, 1, 0, true),
            (window, 0, 1, true),
            (window * 2, 0, 0, false),
            (window, PIECE / PER_REQUEST, 0, false),
            (window, 0, PIECE / PER_SENT, false),
        ] {
            let mut floods = Floods::new();
            let work = |turn: u64| Work {
                requests: requests * turn,
                sent: sent * turn,
                sent_bytes: 0,
            };
            assert_eq!(floods.judge(PIECE - 1, || work(1)), None);
            assert_eq!(floods.judge(PIECE, || work(1)), None, "one piece");
            tokio::time::sleep(time).await;
            assert_eq!(floods.judge(2 * PIECE - 1, || work(2)), None);
            let limit = floods.judge(2 * PIECE, || work(2));
            assert_eq!(limit.is_some(), is_flood, "{time:?} {requests} {sent}");
        }
    }
}
