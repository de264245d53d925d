//! Tap observers. A request costs one relaxed load while there are none; everything else here is cold.

mod body;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, StatusCode};
use proxy_model::{
    limits,
    tap::{StreamEnd, TapEvent, TapEventKind, TapMatch, TapRequest, TcpMatch, TextMatch},
};
use tokio::sync::mpsc;

pub use body::TappedBody;

/// Tap observers of this process. Cheap to clone; shared by the workers and the tap server.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    active: AtomicUsize,
    observers: Mutex<Vec<Observer>>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Observer {
    matches: TapMatch,
    with_headers: bool,
    limit: u64,
    streams: u64,
    events: mpsc::Sender<TapEvent>,
}

/// Error of starting an observation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// The limit is 0.
    #[error("invalid tap limit: must be greater than 0")]
    NoLimit,
    /// The maximum number of observers is reached.
    #[error("too many taps: {} are open already", limits::TAP_OBSERVERS.value)]
    TooMany,
}

impl Registry {
    /// Starts to observe up to `limit` matching requests. Ends when the receiver is dropped, or after the last event of
    /// the last request.
    pub fn observe(
        &self,
        matches: TapMatch,
        limit: u64,
        with_headers: bool,
    ) -> Result<mpsc::Receiver<TapEvent>, ObserveError> {
        if limit == 0 {
            return Err(ObserveError::NoLimit);
        }
        let (events, receiver) = mpsc::channel(limits::TAP_EVENTS.value);
        let mut observers = self.observers();
        observers.retain(|observer| !observer.events.is_closed());
        if observers.len() >= limits::TAP_OBSERVERS.value {
            return Err(ObserveError::TooMany);
        }
        observers.push(Observer {
            matches,
            with_headers,
            limit,
            streams: 0,
            events,
        });
        self.0.active.store(observers.len(), Ordering::Relaxed);
        Ok(receiver)
    }

    /// Returns true if there are observers.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.0.active.load(Ordering::Relaxed) != 0
    }

    /// Returns the number of events dropped because an observer was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Reports the start of a request to the observers that match it. Returns none if there are none.
    #[cold]
    pub fn request(&self, request: TapRequest, headers: &HeaderMap) -> Option<TappedRequest> {
        let mut listeners = Vec::new();
        let mut observers = self.observers();
        observers.retain_mut(|observer| {
            if observer.events.is_closed() {
                return false;
            }
            if matches(&observer.matches, &request) {
                let Observer {
                    events,
                    with_headers,
                    streams,
                    ..
                } = observer;
                listeners.push(Listener {
                    events: events.clone(),
                    with_headers: *with_headers,
                    stream: *streams,
                });
                observer.streams += 1;
            }
            observer.streams < observer.limit
        });
        self.0.active.store(observers.len(), Ordering::Relaxed);
        drop(observers);
        if listeners.is_empty() {
            return None;
        }
        let now = Instant::now();
        let tapped = TappedRequest {
            registry: self.clone(),
            request: Arc::new(request),
            listeners,
            began: now,
            responded: now,
            ended: false,
        };
        tapped.report(|with_headers| TapEventKind::RequestInit {
            headers: with_headers.then(|| headers.clone()),
        });
        Some(tapped)
    }

    fn observers(&self) -> MutexGuard<'_, Vec<Observer>> {
        // The list remains valid if a thread panics while holding the lock.
        self.0.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Listener {
    events: mpsc::Sender<TapEvent>,
    with_headers: bool,
    stream: u64,
}

/// Observed request. Dropping it early reports a cancelled stream.
#[derive(Debug)]
pub struct TappedRequest {
    registry: Registry,
    request: Arc<TapRequest>,
    listeners: Vec<Listener>,
    began: Instant,
    responded: Instant,
    ended: bool,
}

/// End of an observed response.
#[derive(Clone, Debug)]
pub struct TappedEnd {
    /// Bytes of the body.
    pub bytes: u64,
    /// Kind of end.
    pub end: StreamEnd,
    /// Trailers, if any.
    pub trailers: Option<HeaderMap>,
}

impl TappedRequest {
    /// Reports the head of the response.
    pub fn response(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.responded = Instant::now();
        let since_request = self.responded - self.began;
        self.report(|with_headers| TapEventKind::ResponseInit {
            since_request,
            status: status.as_u16(),
            headers: with_headers.then(|| headers.clone()),
        });
    }

    /// Reports the end of the response.
    pub fn end(&mut self, end: TappedEnd) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let now = Instant::now();
        self.report(|with_headers| TapEventKind::ResponseEnd {
            since_request: now - self.began,
            since_response: now - self.responded,
            response_bytes: end.bytes,
            end: end.end,
            trailers: end.trailers.clone().filter(|_| with_headers),
        });
    }

    fn report(&self, kind: impl Fn(bool) -> TapEventKind) {
        for listener in &self.listeners {
            let event = TapEvent {
                request: self.request.clone(),
                stream: listener.stream,
                kind: kind(listener.with_headers),
            };
            if let Err(mpsc::error::TrySendError::Full(_)) = listener.events.try_send(event) {
                self.registry.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for TappedRequest {
    fn drop(&mut self) {
        self.end(TappedEnd {
            bytes: 0,
            end: StreamEnd::Reset(h2::Reason::CANCEL.into()),
            trailers: None,
        });
    }
}

/// Returns true if a request matches an observer's filter.
pub fn matches(wanted: &TapMatch, request: &TapRequest) -> bool {
    let label = |labels: &proxy_model::Labels, key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
    let address = |wanted: &TcpMatch, addr: std::net::SocketAddr| match wanted {
        TcpMatch::Net(net) => net.contains(&addr.ip()),
        TcpMatch::Ports(low, high) => (*low..=*high).contains(&addr.port()),
    };
    let text = |wanted: &TextMatch, text: &str| match wanted {
        TextMatch::Exact(exact) => text == exact,
        TextMatch::Prefix(prefix) => text.starts_with(prefix.as_str()),
    };
    match wanted {
        TapMatch::All(all) => all.iter().all(|m| matches(m, request)),
        TapMatch::Any(any) => any.iter().any(|m| matches(m, request)),
        TapMatch::Not(not) => !matches(not, request),
        TapMatch::Source(wanted) => address(wanted, request.source),
        TapMatch::Destination(wanted) => address(wanted, request.destination),
        TapMatch::DestinationLabel(key, value) => label(&request.destination_labels, key, value),
        TapMatch::RouteLabel(key, value) => label(&request.route_labels, key, value),
        TapMatch::Scheme(scheme) => request.scheme == *scheme,
        TapMatch::Method(method) => request.method == *method,
        TapMatch::Authority(wanted) => text(wanted, &request.authority),
        TapMatch::Path(wanted) => text(wanted, &request.path),
    }
}

#[cfg(test)]
mod tests;
