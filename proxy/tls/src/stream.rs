//! A TLS connection after its handshake: rustls has made the keys, the next ones and the records are ours.
//!
//! rustls' own stream keeps 4 KiB with every idle connection, reads in steps of that size, and copies every record twice
//! through vectors of its own. This one reads several records by one system call into a buffer of the thread, opens them
//! there, and seals what is written right into what is sent; while nothing is under way it holds no buffer.

mod incoming;
mod messages;
mod outgoing;

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use proxy_transport::cork::is_corked;
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    incoming::Incoming,
    messages::{Message, Messages},
    outgoing::Outgoing,
};
use crate::{
    record::{Content, Fault, Key, confidentiality_limit},
    secrets::Noted,
    session::Established,
};

/// Records without content, one after another, that are put up with; rustls' figure.
const EMPTY_RECORDS: u8 = 32;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// A TLS connection.
pub struct TlsStream<I> {
    io: I,
    incoming: Incoming,
    outgoing: Outgoing,
    messages: Messages,
    /// Why nothing more is read.
    ended: Option<Ended>,
    empty_records: u8,
    is_client: bool,
}

/// How the peer's half ended.
#[derive(Clone, Debug)]
enum Ended {
    /// As it should.
    Closed,
    /// The bytes ended, and the peer has not said that it was all.
    Truncated,
    /// By what it did. Boxed: every connection has room for it, and hardly one needs it.
    Broken(Box<Error>),
}

impl Ended {
    fn result(&self) -> io::Result<()> {
        match self {
            Self::Closed => Ok(()),
            Self::Truncated => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection without a TLS close_notify",
            )),
            Self::Broken(error) => Err(io::Error::new(io::ErrorKind::InvalidData, (**error).clone())),
        }
    }
}

impl<I> fmt::Debug for TlsStream<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("received", &self.incoming.key.sequence())
            .field("sent", &self.outgoing.key.sequence())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    pub(crate) fn new(io: I, established: Established) -> Result<Self, Error> {
        let Established {
            secrets,
            noted: Noted { client, server },
            is_client,
            suite,
            rest,
        } = established;
        let (Some(client), Some(server)) = (client, server) else {
            return Err(Error::HandshakeNotComplete);
        };
        let (rx, tx) = if is_client { (server, client) } else { (client, server) };
        Ok(Self {
            io,
            incoming: Incoming::new(Key::new(secrets.rx, rx)?, &rest.early, &rest.records),
            outgoing: Outgoing::new(Key::new(secrets.tx, tx)?, confidentiality_limit(suite)),
            messages: Messages::default(),
            ended: rest.is_closed.then_some(Ended::Closed),
            empty_records: 0,
            is_client,
        })
    }

    /// The connection below.
    pub fn get_ref(&self) -> &I {
        &self.io
    }

    /// Opens the next record, if it is whole. True if there was one.
    fn open(&mut self) -> Result<bool, Fault> {
        let Some((content, len)) = self.incoming.open()? else {
            return Ok(false);
        };
        if len == 0 {
            self.empty_records += 1;
            if self.empty_records > EMPTY_RECORDS {
                return Err(Fault::misbehaved(rustls::PeerMisbehaved::TooManyEmptyFragments));
            }
        } else {
            self.empty_records = 0;
        }
        if content != Content::Handshake {
            self.messages.expect_whole()?;
        }
        match content {
            Content::Data => {}
            Content::Alert => self.alert()?,
            Content::Handshake => self.handshake()?,
        }
        Ok(true)
    }

    fn alert(&mut self) -> Result<(), Fault> {
        let [_, description] = *self.incoming.take_opened() else {
            return Err(Fault::invalid(rustls::InvalidMessage::InvalidContentType));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.ended = Some(Ended::Closed),
            AlertDescription::UserCanceled => {}
            // It is answered by nothing.
            alert => self.ended = Some(Ended::Broken(Error::AlertReceived(alert).into())),
        }
        Ok(())
    }

    fn handshake(&mut self) -> Result<(), Fault> {
        self.messages.push(self.incoming.take_opened())?;
        while let Some(message) = self.messages.next()? {
            match message {
                // Nothing is resumed: a session would outlive the credentials that it was made with.
                Message::Ticket if self.is_client => {}
                Message::Ticket => {
                    return Err(Fault::invalid(rustls::InvalidMessage::UnexpectedMessage("a ticket")));
                }
                Message::KeyUpdate { is_requested } => {
                    // A message under the old key must not go on under the new one.
                    self.messages.expect_whole()?;
                    self.incoming.key = self.incoming.key.next_key()?;
                    self.outgoing.owes_key_update |= is_requested;
                }
            }
        }
        Ok(())
    }

    /// Ends the connection, and tells the peer why if that goes at once.
    fn fail(&mut self, cx: &mut Context<'_>, fault: Fault) {
        self.ended = Some(Ended::Broken(fault.error.into()));
        self.incoming.take_opened();
        if self.outgoing.alert([2, fault.alert.into()]) {
            let _ = self.outgoing.poll_drain(cx, &mut self.io);
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            this.incoming.give(out);
            if out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let is_filled = out.filled().len() > before;
            if let Some(ended) = &this.ended {
                this.incoming.end();
                // What came first is given first.
                return Poll::Ready(if is_filled { Ok(()) } else { ended.result() });
            }
            match this.open() {
                Ok(true) => {}
                Err(fault) => this.fail(cx, fault),
                Ok(false) if is_filled => {
                    this.incoming.rest();
                    return Poll::Ready(Ok(()));
                }
                Ok(false) => match ready!(this.incoming.poll_fill(cx, &mut this.io)) {
                    Ok(0) => this.ended = Some(Ended::Truncated),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let is_corked = is_corked();
        if !is_corked || !this.outgoing.has_room(bufs.iter().map(|buf| buf.len()).sum()) {
            ready!(this.outgoing.poll_drain(cx, &mut this.io))?;
        }
        let sealed = this.outgoing.seal(bufs);
        let sealed = sealed.map_err(|error| match error {
            Some(error) => io::Error::new(io::ErrorKind::InvalidData, error),
            None => io::ErrorKind::BrokenPipe.into(),
        })?;
        if is_corked {
            return Poll::Ready(Ok(sealed));
        }
        // What does not go now goes with the next write or flush. An error is theirs, too, if these bytes are lost.
        match this.outgoing.poll_drain(cx, &mut this.io) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(sealed)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.outgoing.poll_drain(cx, &mut this.io))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.outgoing.alert(CLOSE_NOTIFY);
        ready!(this.outgoing.poll_drain(cx, &mut this.io))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            // Who is gone already need not be told.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
