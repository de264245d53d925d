//! Connections: opened, open, bytes, closed.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use proxy_model::tap::Direction;

use crate::{
    OutboundLabels, Recorder, ServerLabels, Target, Tls,
    labels::LabelText,
    names::{self, label},
    slot::{Counter, Gauge},
};

/// Side of the proxy that a connection is on.
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

/// Slots of one worker that are in use, by their labels: thousands of connections count into the same one. There are
/// never more than connections and endpoints, which have limits of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transports(Arc<Mutex<HashMap<String, Weak<TransportSlot>>>>);

impl Transports {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<TransportSlot>>> {
        // Nothing under the lock panics half-way through a change.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl TransportSlot {
    fn new(recorder: &Recorder, labels: LabelText) -> Arc<Self> {
        let mut transports = recorder.transports.lock();
        if let Some(slot) = transports.get(labels.as_str()).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Self::first(recorder, labels);
        transports.insert(slot.labels.clone(), Arc::downgrade(&slot));
        slot
    }

    fn first(recorder: &Recorder, labels: LabelText) -> Arc<Self> {
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

    /// Returns the number of connections of this worker that are open now.
    pub fn open_now(&self) -> usize {
        usize::try_from(self.open.value()).unwrap_or(0)
    }

    /// Counts a connection that is now open.
    pub fn open(self: &Arc<Self>) -> TransportGuard {
        self.open_total.inc();
        self.open.inc();
        TransportGuard {
            slot: self.clone(),
            errno: "",
        }
    }
}

impl Drop for TransportSlot {
    fn drop(&mut self) {
        let mut transports = self.recorder.transports.lock();
        // A new slot with these labels may exist already.
        if transports
            .get(&self.labels)
            .is_some_and(|slot| slot.strong_count() == 0)
        {
            transports.remove(&self.labels);
        }
    }
}

/// One open connection, closed when dropped.
#[derive(Debug)]
#[must_use = "a connection is open as long as its guard lives"]
pub struct TransportGuard {
    slot: Arc<TransportSlot>,
    errno: &'static str,
}

impl TransportGuard {
    /// Counts received bytes.
    pub fn read(&self, bytes: usize) {
        self.slot.read.add(bytes as u64);
    }

    /// Counts sent bytes.
    pub fn wrote(&self, bytes: usize) {
        self.slot.written.add(bytes as u64);
    }

    /// Records that the connection failed; the first reason counts.
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

/// Symbol of an error number; empty where there is none.
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
        target: Target,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn connections_of_the_same_labels_count_into_one_slot_while_there_is_one() {
        let metrics = Metrics::default();
        let (recorder, other) = (metrics.recorder(), metrics.recorder());
        let at = |recorder: &Recorder, port| recorder.outbound_accept(([10, 0, 0, 1], port).into());
        let (first, again) = (at(&recorder, 80), at(&recorder.clone(), 80));
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &at(&recorder, 81)), "other labels");
        assert!(!Arc::ptr_eq(&first, &at(&other, 80)), "another worker's");
        let open = first.open();
        drop((first, again));
        assert_eq!(recorder.transports.lock().len(), 1, "the connection holds it");
        drop(open);
        assert!(recorder.transports.lock().is_empty());
        drop(at(&recorder, 80).open());
        let text = metrics.render();
        let closed = text.lines().find(|line| line.starts_with("tcp_close_total{"));
        assert!(closed.is_some_and(|line| line.ends_with(" 2")), "{text}");
    }
}
