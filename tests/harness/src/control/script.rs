//! The scripted answers of the control plane by request, and a record of the calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proxy_model::{ClientPolicy, EndpointSet, Profile, ServerPolicy};
use tokio::sync::watch;

use crate::Pki;

/// A received call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `OutboundPolicies`: the target.
    Outbound(String),
    /// `Destination.GetProfile`: the path.
    Profile(String),
    /// `Destination.Get`: the path.
    Endpoints(String),
    /// `InboundServerPolicies`: workload and port.
    Inbound(String, u16),
    /// `Identity.Certify`: the identity.
    Certify(String),
}

/// Scripted answers and recorded calls.
pub(crate) struct Script {
    pub(crate) outbound: Table<ClientPolicy>,
    pub(crate) profiles: Table<Profile>,
    pub(crate) endpoints: Table<EndpointSet>,
    pub(crate) inbound: Table<ServerPolicy>,
    pub(crate) pki: Pki,
    calls: Mutex<Vec<Call>>,
}

impl Script {
    pub(crate) fn new(pki: Pki) -> Self {
        Self {
            outbound: Table::default(),
            profiles: Table::default(),
            endpoints: Table::default(),
            inbound: Table::default(),
            pki,
            calls: Mutex::default(),
        }
    }

    pub(crate) fn called(&self, call: Call) {
        lock(&self.calls).push(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }
}

/// Watchable optional values by key.
pub(crate) struct Table<T>(Mutex<BTreeMap<String, watch::Sender<Option<Arc<T>>>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Table<T> {
    pub(crate) fn set(&self, key: &str, value: Option<T>) {
        self.sender(key, |sender| sender.send_replace(value.map(Arc::new)));
    }

    pub(crate) fn watch(&self, key: &str) -> watch::Receiver<Option<Arc<T>>> {
        self.sender(key, |sender| sender.subscribe())
    }

    fn sender<R>(&self, key: &str, with: impl FnOnce(&watch::Sender<Option<Arc<T>>>) -> R) -> R {
        with(lock(&self.0).entry(key.to_owned()).or_default())
    }
}

/// A test that panicked with the lock held has failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
