//! TLS connection after its handshake: rustls derived the first keys; later keys and the records are handled here.
//!
//! rustls' own stream keeps 4 KiB with every idle connection, reads in steps of that size, and copies every record
//! twice through vectors of its own. This one reads several records with one system call into a buffer of the thread,
//! opens them there, and seals writes directly into the bytes to send; while idle it holds no buffer.

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
use rustls::{AlertDescription, Error, PeerMisbehaved};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    incoming::Incoming,
    messages::{Message, Messages},
    outgoing::Outgoing,
};
use crate::{
    record::{Content, Fault, Key, confidentiality_limit},
    secrets::CapturedSecrets,
    session::Established,
};

/// Consecutive empty records that are tolerated; rustls' figure.
const EMPTY_RECORDS: u8 = 32;
/// KeyUpdates without data between them that are tolerated; rustls' figure.
const KEY_UPDATES: u8 = 32;
/// Warning alerts of a connection that are tolerated; rustls' figure.
const WARNINGS: u8 = 4;
/// Records without data after which other tasks get a turn.
const RECORDS_PER_POLL: u8 = 64;
/// Levels of alerts.
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: [u8; 2] = [WARNING, 0];

/// TLS stream over `I`.
pub struct TlsStream<I> {
    io: I,
    incoming: Incoming,
    outgoing: Outgoing,
    messages: Messages,
    /// Set once nothing more is read.
    ended: Option<Ended>,
    idle: IdleRecords,
    is_client: bool,
}

/// Records without data that a peer has sent.
#[derive(Debug, Default)]
struct IdleRecords {
    /// In a row.
    empty: u8,
    /// Since its last data.
    key_updates: u8,
    warnings: u8,
}

/// End of the peer's half.
#[derive(Clone, Debug)]
enum Ended {
    /// Orderly, by close_notify.
    Closed,
    /// The bytes ended without a close_notify.
    Truncated,
    /// By an error. Boxed: every connection has room for it, and hardly any needs it.
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

impl<I> TlsStream<I> {
    /// Returns the underlying connection.
    pub fn get_ref(&self) -> &I {
        &self.io
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    pub(crate) fn new(io: I, established: Established) -> Result<Self, Error> {
        let Established {
            secrets,
            captured: CapturedSecrets { client, server },
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
            incoming: Incoming::new(Key::new(secrets.rx, rx)?, &rest),
            outgoing: Outgoing::new(Key::new(secrets.tx, tx)?, confidentiality_limit(suite)),
            messages: Messages::default(),
            ended: None,
            idle: IdleRecords::default(),
            is_client,
        })
    }

    /// Opens the next record if it is complete; returns whether there was one.
    fn open(&mut self) -> Result<bool, Fault> {
        let Some((content, len)) = self.incoming.open()? else {
            return Ok(false);
        };
        if len == 0 {
            self.idle.empty += 1;
            if self.idle.empty > EMPTY_RECORDS {
                return Err(Fault::misbehaved(PeerMisbehaved::TooManyEmptyFragments));
            }
        } else {
            self.idle.empty = 0;
        }
        if content != Content::Handshake {
            self.messages.expect_whole()?;
        }
        match content {
            Content::Data if len == 0 => {}
            Content::Data => self.idle.key_updates = 0,
            Content::Alert => self.alert()?,
            Content::Handshake => self.handshake()?,
        }
        Ok(true)
    }

    fn alert(&mut self) -> Result<(), Fault> {
        let [level @ (WARNING | FATAL), description] = *self.incoming.take_opened() else {
            return Err(Fault::invalid(rustls::InvalidMessage::InvalidContentType));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.ended = Some(Ended::Closed),
            AlertDescription::UserCanceled if level == WARNING => {
                self.idle.warnings += 1;
                if self.idle.warnings > WARNINGS {
                    return Err(Fault::misbehaved(PeerMisbehaved::TooManyWarningAlertsReceived));
                }
            }
            // A fatal alert is not answered.
            alert => self.ended = Some(Ended::Broken(Error::AlertReceived(alert).into())),
        }
        Ok(())
    }

    fn handshake(&mut self) -> Result<(), Fault> {
        self.messages.push(self.incoming.take_opened())?;
        while let Some(message) = self.messages.next()? {
            match message {
                // Nothing is resumed: a session would outlive the credentials that established it.
                Message::Ticket if self.is_client => {}
                Message::Ticket => {
                    return Err(Fault::invalid(rustls::InvalidMessage::UnexpectedMessage("a ticket")));
                }
                Message::KeyUpdate { is_requested } => {
                    // A message begun under the old key must not continue under the new one.
                    self.messages.expect_whole()?;
                    self.idle.key_updates += 1;
                    if self.idle.key_updates > KEY_UPDATES {
                        return Err(Fault::misbehaved(PeerMisbehaved::TooManyKeyUpdateRequests));
                    }
                    self.incoming.key = self.incoming.key.next_key()?;
                    self.outgoing.owes_key_update |= is_requested;
                }
            }
        }
        Ok(())
    }

    /// Ends the connection, and sends the alert if that succeeds at once.
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
        let mut records = 0_u8;
        loop {
            this.incoming.give(out);
            if out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let is_filled = out.filled().len() > before;
            if let Some(ended) = &this.ended {
                this.incoming.end();
                // Data received before the end is returned first.
                return Poll::Ready(if is_filled { Ok(()) } else { ended.result() });
            }
            match this.open() {
                Ok(true) => {
                    records = records.saturating_add(1);
                    if records >= RECORDS_PER_POLL && this.incoming.is_drained() && out.filled().len() == before {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
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
        // What cannot be sent now leaves with the next write or flush, which also reports an error if these bytes are
        // lost.
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
            // A peer that is already gone needs no close_notify.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
