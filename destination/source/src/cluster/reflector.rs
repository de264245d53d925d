//! Reflector of one kind: lists, then watches from there, over and over.
//!
//! Not `kube_runtime::watcher`: it drops bookmarks and sets no deadline, so that a quiet watch looks like a dead
//! one, and the age in `/metrics` would be wrong; and it takes one fixed `group/version` and reports a kind that is not
//! served as an error, where CRDs of the mesh may come, go and change version at any time. On kube's default client it
//! also needs one connection per watch (see `client.rs`).
//!
//! ```text
//! versions ─▶ list ─▶ watch ─▶ watch … ─▶ (expired: list)
//!     ▲ not served               │ server unreachable: resume the same watch
//!     └──────────────────────────┘ no longer served
//! ```

use std::{sync::Arc, time::Duration};

use destination_k8s::Kind;
use futures_util::StreamExt as _;
use kube::core::{
    WatchEvent,
    params::{ListParams, WatchParams},
    request::Request,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{
    Client,
    backoff::{self, Backoff},
    dedup::{Change, ObjectDedup},
    discovery::Discovery,
    kinds,
    merge::WatchBatch,
    prune,
    state::States,
    watch::Selection,
};
use crate::{Error, limits};

/// Longest duration of a watch, which kube wants below 295 s; each takes a random part less, so that they don't all
/// restart at once.
const WATCH: Duration = Duration::from_secs(290);
/// Silence beyond the end of a watch after which it is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Duration below which a watch counts as failed: restarting it at once could loop endlessly.
const SHORTEST: Duration = Duration::from_secs(1);
/// Minimum time between two lists.
const BETWEEN_LISTS: Duration = Duration::from_secs(3);
/// Polling interval for a CRD that is not installed.
const MISSING_POLL: Duration = Duration::from_secs(2);
/// Polling interval until a missing kind is confirmed.
const DOUBT_POLL: Duration = Duration::from_millis(250);
/// Time for which a kind of a served group must be missing to count as not installed: a server that starts up serves
/// its groups before its kinds.
const ABSENT_AFTER: Duration = Duration::from_secs(1);
/// Time for which a kind with known objects must be missing until they count as deleted.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Consecutive failures of a reachable server after which to list instead of resuming the watch.
const PATIENCE: u32 = 8;

/// An object as JSON, without its unread parts.
#[derive(Clone, Debug)]
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        prune::prune_first(&mut value);
        Ok(Self(value))
    }
}

impl Raw {
    fn version(&self) -> Option<&str> {
        self.0.get("metadata")?.get("resourceVersion")?.as_str()
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    metadata: PageMeta,
    /// Null for a list of metadata without objects.
    items: Option<Vec<Raw>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// End of a step.
enum End {
    /// The reader is gone.
    Closed,
    /// The last version is too old to resume from: list again.
    Expired,
    /// The kind is not served, though its group may be.
    Missing { group: bool },
    /// Something failed.
    Failed(Error),
}

/// Context shared by the reflectors of a reader.
#[derive(Clone, Debug)]
pub(super) struct WatchContext {
    pub client: Client,
    pub discovery: Arc<Discovery>,
    pub lists: Arc<Semaphore>,
    pub states: States,
    pub batches: mpsc::Sender<WatchBatch>,
}

/// Reflector of one selection.
#[derive(Debug)]
pub(super) struct Reflector {
    watch: usize,
    selection: Selection,
    context: WatchContext,
    dedup: ObjectDedup,
    backoff: Backoff,
    /// The reader has been notified of the first complete list.
    synced: bool,
    /// Completion of the last list.
    listed: Option<Instant>,
    /// Start of the period in which the kind is not served.
    missing: Option<Instant>,
}

impl Reflector {
    pub(super) fn new(watch: usize, selection: Selection, context: WatchContext) -> Self {
        Self {
            watch,
            dedup: ObjectDedup::new(selection.kind),
            selection,
            context,
            backoff: Backoff::default(),
            synced: false,
            listed: None,
            missing: None,
        }
    }

    /// Runs until the reader is gone.
    pub(super) async fn run(mut self) {
        loop {
            let ended = match self.round().await {
                Err(End::Missing { group }) => self.missing(group).await,
                other => other,
            };
            match ended {
                Err(End::Closed) => return,
                Err(End::Failed(error)) => self.failed(&error).await,
                Err(End::Expired) => self.expired().await,
                Err(End::Missing { .. }) | Ok(()) => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), End> {
        let (version, mut at) = self.list_any().await?;
        loop {
            match self.watch(version, &mut at).await {
                Ok(()) => {}
                // The server is unreachable or busy: keep the objects and resume.
                Err(End::Failed(error)) if self.backoff.failures() < PATIENCE || is_away(&error) => {
                    self.failed(&error).await;
                }
                Err(end) => return Err(end),
            }
        }
    }

    fn kind(&self) -> Kind {
        self.selection.kind
    }

    fn custom(&self) -> bool {
        kinds::is_custom(self.kind())
    }

    /// Lists the preferred version that is served.
    async fn list_any(&mut self) -> Result<(&'static str, String), End> {
        let known = self.kind().api_versions();
        if !self.custom() {
            return Ok((known[0], self.list(known[0]).await?));
        }
        let served = self.context.discovery.versions(self.kind().group()).await;
        let served = served.map_err(End::Failed)?;
        for version in known {
            if !served.iter().flatten().any(|served| served == version) {
                continue;
            }
            match self.list(version).await {
                Err(End::Missing { .. }) => {}
                listed => return Ok((version, listed?)),
            }
        }
        Err(End::Missing {
            group: served.is_some(),
        })
    }

    fn requests(&self, version: &str) -> Request {
        Request::new(kinds::path(self.kind(), version, self.selection.namespace.as_deref()))
    }

    /// Lists all objects and returns the version to watch from.
    async fn list(&mut self, version: &'static str) -> Result<String, End> {
        let what = format!("list {}", kinds::plural(self.kind()));
        let mut params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            limit: Some(limits::PAGE),
            ..ListParams::default()
        };
        self.dedup.begin();
        loop {
            let requests = self.requests(version);
            let request = if kinds::is_metadata_only(self.kind()) {
                requests.list_metadata(&params)
            } else {
                requests.list(&params)
            };
            // Never closed: the semaphore lives as long as its watches.
            let permit = self
                .context
                .lists
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| End::Closed)?;
            let page: Page = match self.context.client.request(&what, request).await {
                Ok(page) => page,
                Err(Error::Absent { .. }) if self.custom() => return Err(End::Missing { group: true }),
                // The list was too slow for its continue token: restart it.
                Err(Error::Refused { .. }) if params.continue_token.take().is_some() => {
                    self.dedup.begin();
                    continue;
                }
                Err(error) => return Err(End::Failed(error)),
            };
            for item in page.items.into_iter().flatten() {
                self.dedup.listed(version, item.0);
            }
            drop(permit);
            params.continue_token = page.metadata.next.filter(|next| !next.is_empty());
            if params.continue_token.is_none() {
                self.listed(version).await?;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn listed(&mut self, version: &'static str) -> Result<(), End> {
        let change = self.dedup.end();
        self.missing = None;
        self.listed = Some(Instant::now());
        self.backoff.reset();
        let objects = self.dedup.len();
        self.context.states.answered(self.watch, |state| {
            state.version = Some(version);
            state.synced = true;
            state.lists += 1;
            state.objects = objects;
        });
        self.send(change, true).await
    }

    /// Watches until the server ends the watch, as it does every few minutes.
    async fn watch(&mut self, version: &'static str, at: &mut String) -> Result<(), End> {
        let what = format!("watch {}", kinds::plural(self.kind()));
        let lasts = WATCH.mul_f64(1.0 - fastrand::f64() / 4.0);
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: Some(lasts.as_secs() as u32),
            ..WatchParams::default()
        };
        let requests = self.requests(version);
        let request = if kinds::is_metadata_only(self.kind()) {
            requests.watch_metadata(&params, at)
        } else {
            requests.watch(&params, at)
        };
        let client = self.context.client.clone();
        let begun = Instant::now();
        let open = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.raw().request_events::<Raw>(request).await
        };
        let opened = client.call(&what, open).await;
        let mut events = std::pin::pin!(opened.map_err(|error| self.ended(error))?);
        self.context.states.answered(self.watch, |_| {});
        loop {
            let next = timeout(lasts + SILENCE, events.next()).await;
            match next {
                Ok(Some(Ok(event))) => {
                    self.backoff.reset();
                    self.event(&what, version, at, event).await?;
                }
                Ok(Some(Err(error))) => return Err(self.ended(client.blame(&what, &error))),
                Ok(None) if begun.elapsed() < SHORTEST => {
                    return Err(End::Failed(Error::Refused {
                        what,
                        code: 0,
                        reason: "the API server ended the watch at once".to_owned(),
                    }));
                }
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    async fn event(
        &mut self,
        what: &str,
        version: &'static str,
        at: &mut String,
        event: WatchEvent<Raw>,
    ) -> Result<(), End> {
        let change = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                object.version().unwrap_or_default().clone_into(at);
                self.dedup.applied(version, object.0)
            }
            WatchEvent::Deleted(object) => {
                object.version().unwrap_or_default().clone_into(at);
                self.dedup.deleted(&object.0)
            }
            WatchEvent::Bookmark(mark) => {
                *at = mark.metadata.resource_version;
                Change::default()
            }
            WatchEvent::Error(status) if status.code == 410 => return Err(End::Expired),
            WatchEvent::Error(status) => {
                let error = self.context.client.blame(what, &kube::Error::Api(status));
                return Err(End::Failed(error));
            }
        };
        let objects = self.dedup.len();
        self.context.states.answered(self.watch, |state| {
            state.events += 1;
            state.objects = objects;
        });
        if at.is_empty() {
            // There is no version to resume from.
            return Err(End::Expired);
        }
        self.send(change, false).await
    }

    /// Classifies the error that ended a watch.
    fn ended(&self, error: Error) -> End {
        match error {
            Error::Absent { .. } if self.custom() => End::Expired,
            Error::Refused { code: 410, .. } => End::Expired,
            error => End::Failed(error),
        }
    }

    async fn send(&mut self, change: Change, synced: bool) -> Result<(), End> {
        if change.is_empty() && (!synced || self.synced) {
            return Ok(());
        }
        self.synced |= synced;
        if !change.refused.is_empty() {
            let refused = change.refused.len() as u64;
            self.context
                .states
                .answered(self.watch, |state| state.refused += refused);
        }
        let batch = WatchBatch {
            watch: self.watch,
            change,
            synced,
        };
        self.context.batches.send(batch).await.map_err(|_| End::Closed)
    }

    /// Delays the next list: lists are expensive for the server, even for one that lets every watch expire.
    async fn expired(&mut self) {
        if let Some(listed) = self.listed {
            tokio::time::sleep_until(listed + BETWEEN_LISTS).await;
        }
    }

    async fn failed(&mut self, error: &Error) {
        self.context.states.failed(self.watch, error);
        let longest = if is_away(error) { backoff::AWAY } else { backoff::ERRORS };
        sleep(self.backoff.next(longest, fastrand::f64())).await;
    }

    /// Handles a kind that is not served: its objects stay until that is confirmed.
    async fn missing(&mut self, group: bool) -> Result<(), End> {
        let since = *self.missing.get_or_insert_with(Instant::now);
        let patience = match (self.dedup.len(), group) {
            (1.., _) => GONE_AFTER,
            (0, true) => ABSENT_AFTER,
            (0, false) => Duration::ZERO,
        };
        if since.elapsed() < patience {
            sleep(DOUBT_POLL).await;
            return Ok(());
        }
        let change = self.dedup.absent();
        self.context.states.absent(self.watch);
        self.send(change, true).await?;
        sleep(MISSING_POLL).await;
        Ok(())
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. })
}
