//! Copies an opaque connection in both directions until both sides have ended, with half-close.
//!
//! An idle connection holds no buffer: bytes are read into the thread's scratch buffer and written from there. Only
//! what the writer does not accept at once is kept, in a buffer from the thread's pool.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use proxy_model::limits::{COPY_BYTES, COPY_POOL};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Receives byte counts as bytes pass, so that a long-lived connection is counted while it is open.
pub trait Meter {
    /// Bytes written to the server.
    fn to_server(&self, bytes: usize);
    /// Bytes written to the client.
    fn to_client(&self, bytes: usize);
}

impl Meter for () {
    fn to_server(&self, _bytes: usize) {}
    fn to_client(&self, _bytes: usize) {}
}

/// Running byte counts.
#[derive(Debug, Default)]
pub struct ByteCounts {
    /// Bytes written to the server.
    pub to_server: Cell<u64>,
    /// Bytes written to the client.
    pub to_client: Cell<u64>,
}

impl Meter for ByteCounts {
    fn to_server(&self, bytes: usize) {
        self.to_server.set(self.to_server.get() + bytes as u64);
    }

    fn to_client(&self, bytes: usize) {
        self.to_client.set(self.to_client.get() + bytes as u64);
    }
}

/// I/O failure of one side of a copied connection.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The client's side failed.
    #[error("client connection failed: {0}")]
    Client(io::Error),
    /// The server's side failed.
    #[error("server connection failed: {0}")]
    Server(io::Error),
}

impl CopyError {
    /// The underlying I/O error.
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Client(error) | Self::Server(error) => error,
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; COPY_BYTES.value].into_boxed_slice());
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Makes a socket end by a reset when it is dropped: its peer must not take what was truncated or refused for complete.
pub fn reset_on_drop(socket: &TcpStream) {
    // If that fails, the peer receives an orderly end.
    let _ = socket.set_zero_linger();
}

/// Copies both ways. Returns when both directions have ended or one side failed.
pub async fn bidirectional<C, S>(client: &mut C, server: &mut S, meter: &impl Meter) -> Result<(), CopyError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    poll_fn(|cx| {
        let sent = up
            .poll(cx, client, server, |n| meter.to_server(n))
            .map_err(|side| match side {
                Side::Reader(error) => CopyError::Client(error),
                Side::Writer(error) => CopyError::Server(error),
            })?;
        let received = down
            .poll(cx, server, client, |n| meter.to_client(n))
            .map_err(|side| match side {
                Side::Reader(error) => CopyError::Server(error),
                Side::Writer(error) => CopyError::Client(error),
            })?;
        if sent.is_ready() && received.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

enum Side {
    Reader(io::Error),
    Writer(io::Error),
}

/// One direction of the copy.
#[derive(Default)]
struct Direction {
    state: State,
    /// Written, but perhaps not flushed yet.
    unflushed: bool,
    left: Option<Unwritten>,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// The reader has ended; the writer's half is still to be shut down.
    Ending,
    Done,
}

/// Reader and writer of one direction.
struct Ends<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
}

/// Bytes that the writer has not accepted yet.
struct Unwritten {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Unwritten {
    fn keep(rest: &[u8]) -> Self {
        let pooled = POOL.with_borrow_mut(Vec::pop);
        let mut buf = pooled.unwrap_or_else(|| vec![0; COPY_BYTES.value].into_boxed_slice());
        buf[..rest.len()].copy_from_slice(rest);
        Self {
            buf,
            start: 0,
            end: rest.len(),
        }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        let buf = std::mem::take(&mut self.buf);
        // A thread that is exiting no longer has a pool.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < COPY_POOL.value {
                pool.push(buf);
            }
        });
    }
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        wrote: impl Fn(usize),
    ) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.state == State::Open {
            ready!(self.poll_left(cx, writer, &wrote)).map_err(Side::Writer)?;
            match self.poll_pass(cx, reader, writer, &wrote)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Side::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.state == State::Ending {
            ready!(Pin::new(writer).poll_shutdown(cx))
                .or_else(closed_is_fine)
                .map_err(Side::Writer)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what a previous pass left over.
    fn poll_left<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        wrote: &impl Fn(usize),
    ) -> Poll<io::Result<()>> {
        while let Some(left) = &mut self.left {
            let n = ready!(Pin::new(&mut *writer).poll_write(cx, &left.buf[left.start..left.end]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wrote(n);
            self.unflushed = true;
            left.start += n;
            if left.start == left.end {
                self.left = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes as much of it as the writer accepts.
    fn poll_pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        wrote: &impl Fn(usize),
    ) -> Result<Poll<()>, Side>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // Taken out of its cell, so that a re-entrant reader (a connection through ourselves) finds the cell free.
        let mut scratch = SCRATCH.take();
        if scratch.is_empty() {
            scratch = vec![0; COPY_BYTES.value].into_boxed_slice();
        }
        let result = self.pass_through(cx, &mut scratch, Ends { reader, writer }, wrote);
        SCRATCH.set(scratch);
        result
    }

    fn pass_through<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        ends: Ends<'_, R, W>,
        wrote: &impl Fn(usize),
    ) -> Result<Poll<()>, Side>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Ends { reader, writer } = ends;
        let mut buf = ReadBuf::new(scratch);
        match Pin::new(reader).poll_read(cx, &mut buf) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(error)) => return Err(Side::Reader(error)),
            Poll::Ready(Ok(())) => {}
        }
        let mut bytes = buf.filled();
        if bytes.is_empty() {
            self.state = State::Ending;
        }
        while !bytes.is_empty() {
            match Pin::new(&mut *writer).poll_write(cx, bytes) {
                Poll::Pending => {
                    self.left = Some(Unwritten::keep(bytes));
                    break;
                }
                Poll::Ready(Ok(0)) => return Err(Side::Writer(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    wrote(n);
                    self.unflushed = true;
                    bytes = &bytes[n..];
                }
                Poll::Ready(Err(error)) => return Err(Side::Writer(error)),
            }
        }
        Ok(Poll::Ready(()))
    }
}

/// The other side may already be gone when its half is shut down.
fn closed_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn half_closed_connection_still_delivers_the_response() {
        let (mut app, mut client) = duplex(64);
        let (mut server, mut peer) = duplex(64);
        let counts = ByteCounts::default();
        let copy = bidirectional(&mut client, &mut server, &counts);
        let talk = async {
            app.write_all(b"ping").await.expect("open");
            app.shutdown().await.expect("open");
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.expect("the end passes through");
            assert_eq!(got, b"ping");
            assert_eq!(
                (counts.to_server.get(), counts.to_client.get()),
                (4, 0),
                "counted while alive"
            );
            peer.write_all(b"pong!").await.expect("open");
            drop(peer);
            let mut got = Vec::new();
            app.read_to_end(&mut got).await.expect("the answer");
            assert_eq!(got, b"pong!");
        };
        let (copied, ()) = tokio::join!(copy, talk);
        copied.expect("both ended");
        assert_eq!((counts.to_server.get(), counts.to_client.get()), (4, 5));
    }

    #[tokio::test]
    async fn slow_writer_receives_every_byte_in_order() {
        let (mut app, mut client) = duplex(COPY_BYTES.value);
        let (mut server, mut peer) = duplex(100);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let counts = ByteCounts::default();
        let copy = bidirectional(&mut client, &mut server, &counts);
        let write = async {
            app.write_all(&sent).await.expect("open");
            app.shutdown().await.expect("open");
            let mut rest = Vec::new();
            app.read_to_end(&mut rest).await.expect("the end");
        };
        let read = async {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.expect("all");
            drop(peer);
            got
        };
        let (copied, (), got) = tokio::join!(copy, write, read);
        copied.expect("both ended");
        assert!(got == sent, "byte for byte");
        assert_eq!(counts.to_server.get(), 1_000_000);
        assert!(POOL.with_borrow(|pool| !pool.is_empty()), "the buffer went back");
    }

    #[tokio::test]
    async fn error_names_the_side_that_failed() {
        let (app, mut client) = duplex(64);
        let mut server = resetting_io();
        drop(app);
        // The client ended at once; shutting down the server's half fails.
        let error = bidirectional(&mut client, &mut server, &())
            .await
            .expect_err("a failed copy");
        assert!(
            matches!(&error, CopyError::Server(e) if e.kind() == io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }

    fn resetting_io() -> impl AsyncRead + AsyncWrite + Unpin {
        struct Reset;
        impl AsyncRead for Reset {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        impl AsyncWrite for Reset {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        Reset
    }
}
