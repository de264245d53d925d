//! Clients, by the identity that the sidecar of this pod has verified, and what each takes of the whole.
//!
//! All connections come from the sidecar, so that neither an address nor a connection tells clients apart. Each stream
//! follows one answer of the index, so the limit of streams bounds the answers that a client keeps as well.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName};
use proxy_model::limits::Limit;

use crate::limits;

/// Header with the client's identity. The sidecar sets it, whatever the client has sent.
const CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
/// Bytes of the longest identity, a SPIFFE ID; a longer text is none.
const IDENTITY_BYTES: usize = 2048;

/// Client of a call, as the sidecar names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// Workload with this identity.
    Identity(Arc<str>),
    /// Client on loopback: the sidecar of this pod, or a forwarded port.
    Unidentified,
}

impl Caller {
    /// Returns the client that the sidecar names.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let id = headers.get(CLIENT_ID).and_then(|id| id.to_str().ok());
        match id.filter(|id| !id.is_empty() && id.len() <= IDENTITY_BYTES) {
            Some(id) => Self::Identity(id.into()),
            None => Self::Unidentified,
        }
    }
}

/// Limits of clients.
#[derive(Copy, Clone, Debug)]
pub struct ClientLimits {
    /// Streams of all clients.
    pub streams: Limit,
    /// Streams of one identity.
    pub per_identity: Limit,
    /// Streams of clients without an identity, all together.
    pub unidentified: Limit,
    /// Requests of one client that are being read.
    pub reads: Limit,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            streams: limits::DESTINATION_STREAMS_IN_ALL,
            per_identity: limits::DESTINATION_STREAMS_PER_IDENTITY,
            unidentified: limits::DESTINATION_STREAMS_WITHOUT_IDENTITY,
            reads: limits::DESTINATION_READS_PER_CLIENT,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    streams: usize,
    by_client: HashMap<Caller, Count>,
}

#[derive(Debug, Default)]
struct Count {
    streams: usize,
    reads: usize,
}

/// Counts of what clients take; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients {
    limits: ClientLimits,
    counts: Arc<Mutex<Counts>>,
}

/// Share of one call, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    client: Caller,
    clients: Clients,
    reads: bool,
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
        }
    }

    /// Admits a call whose request is about to be read, unless a limit is reached: then that limit.
    pub(crate) fn admit(&self, client: Caller) -> Result<Share, Limit> {
        let own = match client {
            Caller::Identity(_) => self.limits.per_identity,
            Caller::Unidentified => self.limits.unidentified,
        };
        let mut counts = self.lock();
        if counts.streams >= self.limits.streams.value {
            return Err(self.limits.streams);
        }
        let count = counts.by_client.entry(client.clone()).or_default();
        for (taken, limit) in [(count.streams, own), (count.reads, self.limits.reads)] {
            if taken >= limit.value {
                return Err(limit);
            }
        }
        count.streams += 1;
        count.reads += 1;
        counts.streams += 1;
        Ok(Share {
            client,
            clients: self.clone(),
            reads: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock panics half-way through a change.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Notes that the request has been read.
    pub(crate) fn end_read(&mut self) {
        if std::mem::take(&mut self.reads)
            && let Some(count) = self.clients.lock().by_client.get_mut(&self.client)
        {
            count.reads -= 1;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end_read();
        let mut counts = self.clients.lock();
        counts.streams -= 1;
        if let Some(count) = counts.by_client.get_mut(&self.client) {
            count.streams -= 1;
            if count.streams == 0 {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Caller {
        let headers = HeaderMap::from_iter([(CLIENT_ID, name.parse().expect("a value"))]);
        Caller::from_headers(&headers)
    }

    #[test]
    fn one_client_leaves_the_rest_to_others_and_nothing_is_left_behind() {
        let limit = |name, value| Limit {
            name,
            value,
            reason: "Test.",
        };
        let clients = Clients::new(ClientLimits {
            streams: limit("ALL", 4),
            per_identity: limit("OWN", 3),
            unidentified: limit("NONE", 1),
            reads: limit("READS", 2),
        });
        let admit = |name: &str| clients.admit(client(name)).map_err(|limit| limit.name);
        let mut own = vec![admit("a").expect("room"), admit("a").expect("room")];
        assert_eq!(admit("a").err(), Some("READS"));
        own.iter_mut().for_each(Share::end_read);
        own.push(admit("a").expect("room"));
        assert_eq!(admit("a").err(), Some("OWN"));
        let unidentified = admit("").expect("room");
        assert_eq!(admit("b").err(), Some("ALL"));
        own.pop();
        assert_eq!(admit("").err(), Some("NONE"));
        drop((own, unidentified, admit("b").expect("room")));
        let counts = clients.lock();
        assert!(counts.by_client.is_empty() && counts.streams == 0, "{counts:?}");
    }

    #[test]
    fn quarters_of_the_whole_are_left_to_others() {
        let ClientLimits {
            streams, per_identity, ..
        } = ClientLimits::default();
        assert!(per_identity.value * 4 <= streams.value);
        assert_eq!(client(&"x".repeat(IDENTITY_BYTES + 1)), Caller::Unidentified);
    }
}
