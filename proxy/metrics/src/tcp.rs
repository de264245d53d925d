//! Connections: opened, open, bytes, closed.

use std::{io, net::SocketAddr, sync::Arc};

use proxy_model::tap::Direction;

use crate::{
    OutboundLabels, Recorder, ServerLabels, Tls,
    labels::LabelText,
    names::{self, label},
    slot::{Counter, Gauge},
};

/// Which end of the proxy a connection is at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A connection that the proxy accepted.
    Src,
    /// A connection that the proxy made.
    Dst,
}

impl Peer {
    fn as_str(self) -> &'static str {
        match self {
            Self::Src => "src",
            Self::Dst => "dst",
        }
    }
}

/// Connections of one label set. `Send`, because hyper wants connections that may be upgraded to be so.
#[derive(Debug)]
pub struct TransportSlot {
    recorder: Recorder,
    labels: String,
    open_total: Counter,
    open: Gauge,
    read: Counter,
    written: Counter,
    closed: Counter,
}

impl TransportSlot {
    fn new(recorder: &Recorder, labels: LabelText) -> Arc<Self> {
        let closed = LabelText::from(labels.as_str()).with("errno", "");
        let labels = labels.into_string();
        Arc::new(Self {
            open_total: recorder.counter(&names::TCP_OPEN_TOTAL, &labels),
            open: recorder.gauge(&names::TCP_OPEN_CONNECTIONS, &labels),
            read: recorder.counter(&names::TCP_READ_BYTES_TOTAL, &labels),
            written: recorder.counter(&names::TCP_WRITE_BYTES_TOTAL, &labels),
            closed: recorder.counter(&names::TCP_CLOSE_TOTAL, closed.as_str()),
            recorder: recorder.clone(),
            labels,
        })
    }

    /// Counts a connection that is open from now on.
    pub fn open(self: &Arc<Self>) -> TransportGuard {
        self.open_total.inc();
        self.open.inc();
        TransportGuard {
            slot: self.clone(),
            errno: "",
        }
    }
}

/// One open connection; dropped, it is closed.
#[derive(Debug)]
#[must_use = "a connection is open as long as its guard lives"]
pub struct TransportGuard {
    slot: Arc<TransportSlot>,
    errno: &'static str,
}

impl TransportGuard {
    /// Bytes came.
    pub fn read(&self, bytes: usize) {
        self.slot.read.add(bytes as u64);
    }

    /// Bytes went.
    pub fn wrote(&self, bytes: usize) {
        self.slot.written.add(bytes as u64);
    }

    /// The connection failed; the first reason is the one that counts.
    pub fn failed(&mut self, error: &io::Error) {
        if self.errno.is_empty() {
            self.errno = errno(error);
        }
    }
}

impl Drop for TransportGuard {
    fn drop(&mut self) {
        self.slot.open.dec();
        if self.errno.is_empty() {
            return self.slot.closed.inc();
        }
        let labels = LabelText::from(self.slot.labels.as_str()).with("errno", self.errno);
        self.slot
            .recorder
            .counter(&names::TCP_CLOSE_TOTAL, labels.as_str())
            .inc();
    }
}

/// The symbol of an error number; empty where there is none to tell.
fn errno(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "ECONNRESET",
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::NotConnected => "ENOTCONN",
        io::ErrorKind::UnexpectedEof => "UnexpectedEof",
        _ => "EIO",
    }
}

impl Recorder {
    /// Connections to an outbound endpoint.
    pub fn outbound_transport(&self, labels: &OutboundLabels<'_>) -> Arc<TransportSlot> {
        TransportSlot::new(self, labels.text(Some(Peer::Dst.as_str())))
    }

    /// Connections that the outbound side accepted for `target`.
    pub fn outbound_accept(&self, target: SocketAddr) -> Arc<TransportSlot> {
        let labels = LabelText::default()
            .direction(Direction::Outbound)
            .with(label::PEER, Peer::Src.as_str())
            .target(target)
            .tls(&Tls::None(crate::NoTls::Loopback));
        TransportSlot::new(self, labels)
    }

    /// Connections of the inbound side: accepted ones with their Server, those to the application without.
    pub fn inbound_transport(
        &self,
        peer: Peer,
        target: SocketAddr,
        tls: &Tls<'_>,
        server: Option<&ServerLabels<'_>>,
    ) -> Arc<TransportSlot> {
        let labels = LabelText::default()
            .direction(Direction::Inbound)
            .with(label::PEER, peer.as_str())
            .target(target)
            .tls(tls);
        TransportSlot::new(
            self,
            match server {
                Some(server) => labels.server(server),
                None => labels,
            },
        )
    }
}
