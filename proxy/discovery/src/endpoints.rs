//! Endpoint set of one service, built from updates.

use std::sync::Arc;

use proxy_model::{EndpointSet, EndpointUpdate, limits::ENDPOINTS_PER_SERVICE};

/// Endpoint set under construction.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    set: EndpointSet,
    known: bool,
    fresh: bool,
    refused: u64,
}

impl Endpoints {
    /// Restores the set of an earlier process.
    pub(crate) fn restore(set: &EndpointSet) -> Self {
        Self {
            set: set.clone(),
            known: true,
            ..Self::default()
        }
    }

    /// Starts a new stream. Its first Add replaces the set, because changes in between were missed.
    pub(crate) fn opened(&mut self) {
        self.fresh = true;
    }

    /// Returns true if there is a set.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Resets the set: the service does not exist.
    pub(crate) fn unknown(&mut self) -> Arc<EndpointSet> {
        self.known = true;
        self.set = EndpointSet::default();
        Arc::new(self.set.clone())
    }

    /// Takes the number of endpoints that the limit has left out.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Applies an update. Returns the new set, or `None` if there is nothing to publish.
    pub(crate) fn apply(&mut self, update: EndpointUpdate) -> Option<Arc<EndpointSet>> {
        match update {
            EndpointUpdate::Add { labels, endpoints } => {
                if std::mem::take(&mut self.fresh) {
                    self.set.endpoints.clear();
                }
                self.set.exists = true;
                self.set.labels = labels;
                let before = self.refused;
                for endpoint in endpoints {
                    let full = self.set.endpoints.len() >= ENDPOINTS_PER_SERVICE.value;
                    if full && !self.set.endpoints.contains_key(&endpoint.addr) {
                        self.refused += 1;
                    } else {
                        self.set.endpoints.insert(endpoint.addr, Arc::new(endpoint));
                    }
                }
                if self.refused > before {
                    let (limit, omitted) = (ENDPOINTS_PER_SERVICE.value, self.refused - before);
                    tracing::warn!(limit, omitted, "service exceeds the endpoint limit");
                }
            }
            EndpointUpdate::Remove(_) if self.fresh => return None,
            EndpointUpdate::Remove(addrs) => {
                for addr in addrs {
                    self.set.endpoints.remove(&addr);
                }
            }
            EndpointUpdate::NoEndpoints { exists } => {
                self.fresh = false;
                self.set.exists = exists;
                self.set.endpoints.clear();
            }
        }
        self.known = true;
        Some(Arc::new(self.set.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proxy_model::{Endpoint, Labels};

    use super::*;

    fn add(addrs: &[&str]) -> EndpointUpdate {
        let endpoints = addrs
            .iter()
            .map(|a| Endpoint::bare(a.parse().expect("an address")))
            .collect();
        EndpointUpdate::Add {
            labels: Labels::default(),
            endpoints,
        }
    }

    fn addrs(set: Option<Arc<EndpointSet>>) -> Vec<String> {
        set.expect("a change")
            .endpoints
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn counts_each_endpoint_beyond_the_limit() {
        let addr = |i: usize| format!("10.{}.{}.{}:80", i >> 16, (i >> 8) & 255, i & 255);
        let all: Vec<_> = (0..ENDPOINTS_PER_SERVICE.value + 3).map(addr).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let mut endpoints = Endpoints::default();
        let set = endpoints.apply(add(&all)).expect("a change");
        assert_eq!(
            (set.endpoints.len(), endpoints.take_refused()),
            (ENDPOINTS_PER_SERVICE.value, 3)
        );
        endpoints.apply(add(&all[..2]));
        assert_eq!(endpoints.take_refused(), 0, "known endpoints are updated");
    }

    #[test]
    fn the_first_add_of_a_stream_replaces_and_an_initial_remove_is_ignored() {
        let mut endpoints = Endpoints::default();
        endpoints.opened();
        assert_eq!(addrs(endpoints.apply(add(&["10.0.0.1:80"]))), ["10.0.0.1:80"]);
        assert_eq!(
            addrs(endpoints.apply(add(&["10.0.0.2:80"]))),
            ["10.0.0.1:80", "10.0.0.2:80"]
        );
        let remove = || EndpointUpdate::Remove(vec!["10.0.0.1:80".parse().expect("an address")]);
        assert_eq!(addrs(endpoints.apply(remove())), ["10.0.0.2:80"]);
        endpoints.opened();
        assert_eq!(
            endpoints.apply(EndpointUpdate::Remove(vec!["10.0.0.2:80".parse().expect("an address")])),
            None
        );
        assert_eq!(addrs(endpoints.apply(add(&["10.0.0.3:80"]))), ["10.0.0.3:80"]);
        let none = endpoints
            .apply(EndpointUpdate::NoEndpoints { exists: true })
            .expect("a change");
        assert!(none.exists && none.endpoints.is_empty());
        assert!(!endpoints.unknown().exists);
    }
}
