//! Metrics of the control plane's use: clients, the leaf, the age of answers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proxy_model::limits;

use crate::{
    Metrics, Tls,
    labels::{LabelText, OTHER},
    names::{self, classification, label},
    slot::SharedCounter,
};

/// Requests to one service of the control plane.
#[derive(Clone, Debug)]
pub struct ControlSlot {
    metrics: Metrics,
    labels: String,
    requests: SharedCounter,
}

impl ControlSlot {
    pub(crate) fn new(metrics: Metrics, addr: &str, tls: &Tls<'_>) -> Self {
        let labels = LabelText::default().with("addr", addr).tls(tls).into_string();
        let requests = metrics.shared(&names::CONTROL_REQUEST_TOTAL, &labels);
        Self {
            metrics,
            labels,
            requests,
        }
    }

    /// Counts a request.
    pub fn request(&self) {
        self.requests.inc();
    }

    /// Counts a response with this gRPC code; none if the connection failed.
    pub fn response(&self, grpc_status: Option<u32>) {
        let class = if grpc_status == Some(0) {
            classification::SUCCESS
        } else {
            classification::FAILURE
        };
        let error = if grpc_status.is_none() { names::error::IO } else { "" };
        let labels = LabelText::from(self.labels.as_str())
            .with(label::STATUS_CODE, if grpc_status.is_some() { "200" } else { "" })
            .with(label::CLASSIFICATION, class)
            .with(
                label::GRPC_STATUS,
                grpc_status.map(|code| code.to_string()).unwrap_or_default(),
            )
            .with(label::ERROR, error);
        self.metrics
            .shared(&names::CONTROL_RESPONSE_TOTAL, labels.as_str())
            .inc();
    }
}

/// Times of the leaf.
#[derive(Clone, Debug)]
pub struct CertMetrics {
    expiration: SharedCounter,
    refresh: SharedCounter,
    ok: SharedCounter,
    error: SharedCounter,
}

impl CertMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            expiration: metrics.shared(&names::CERT_EXPIRATION, ""),
            refresh: metrics.shared(&names::CERT_REFRESH, ""),
            ok: metrics.shared(&names::CERT_REFRESHES, "result=\"ok\""),
            error: metrics.shared(&names::CERT_REFRESHES, "result=\"error\""),
        }
    }

    /// Records a new leaf, which expires at `valid_until`.
    pub fn refreshed(&self, valid_until: SystemTime) {
        self.expiration.set(unix(valid_until));
        self.refresh.set(unix(SystemTime::now()));
        self.ok.inc();
    }

    /// Counts a failed attempt to get a leaf.
    pub fn failed(&self) {
        self.error.inc();
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Age of one answer. Its series ends when this is dropped.
#[derive(Debug)]
pub struct AnswerAge {
    metrics: Metrics,
    confirmed: SharedCounter,
    connected: SharedCounter,
    reconnects: SharedCounter,
    is_connected: bool,
    was_connected: bool,
    /// Held by the age of a port: a client chooses the ports that it connects to.
    _port: Option<Arc<()>>,
}

impl AnswerAge {
    pub(crate) fn new(metrics: Metrics, kind: &'static str, target: &str) -> Self {
        let port = (kind == "inbound").then(|| metrics.answered_ports());
        // The declared ports come first.
        let is_named = port
            .as_ref()
            .is_none_or(|port| Arc::strong_count(port) - 2 < limits::EAGER_PORTS.value);
        let target = if is_named { target } else { OTHER };
        let labels = LabelText::default().with("kind", kind).with("target", target);
        let confirmed = metrics.shared(&names::DISCOVERY_AGE, labels.as_str());
        let by_kind = LabelText::default().with("kind", kind);
        let connected = metrics.shared(&names::DISCOVERY_CONNECTED, by_kind.as_str());
        let reconnects = metrics.shared(&names::DISCOVERY_RECONNECTS, by_kind.as_str());
        let age = Self {
            metrics,
            confirmed,
            connected,
            reconnects,
            is_connected: false,
            was_connected: false,
            _port: port,
        };
        age.touch();
        age
    }

    /// Records that the control plane confirmed or changed the answer.
    pub fn confirmed(&mut self) {
        self.touch();
        if !self.is_connected {
            self.is_connected = true;
            self.connected.add(1);
            if self.was_connected {
                self.reconnects.inc();
            }
            self.was_connected = true;
        }
    }

    /// Records that the answer's stream is down; the answer stays in use and ages.
    pub fn disconnected(&mut self) {
        if self.is_connected {
            self.touch();
            self.is_connected = false;
            self.connected.sub(1);
        }
    }

    fn touch(&self) {
        self.confirmed
            .set(u64::try_from(self.metrics.since_start().as_micros()).unwrap_or(u64::MAX));
    }
}

impl Drop for AnswerAge {
    fn drop(&mut self) {
        self.disconnected();
    }
}
