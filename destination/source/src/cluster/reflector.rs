//! The life of one watch: list, then watch from there, again and again.
//!
//! ```text
//! versions ─▶ list ─▶ watch ─▶ watch … ─▶ (expired: list)
//!     ▲ nothing is served        │ the server is away: the same watch again, from where it was
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
    book::{Book, Change},
    discovery::Discovery,
    kinds,
    merge::Heard,
    prune,
    state::States,
    watch::Selection,
};
use crate::{Error, limits};

/// How long a watch lasts at most, which kube wants to be less than 295 s; each takes a random part less, so that not all begin again at once.
const WATCH: Duration = Duration::from_secs(290);
/// Silence after the end of a watch that makes it a dead one.
const SILENCE: Duration = Duration::from_secs(15);
/// A watch that ends sooner than this is taken for a failure: asking again at once could go on for ever.
const SHORTEST: Duration = Duration::from_secs(1);
/// Least time between two lists.
const BETWEEN_LISTS: Duration = Duration::from_secs(3);
/// Time between two looks for a CRD that is not installed.
const MISSING_POLL: Duration = Duration::from_secs(2);
/// Time between two looks while we make sure.
const DOUBT_POLL: Duration = Duration::from_millis(250);
/// How long a kind whose group is there must be missing to be taken for "not installed": a server that starts up knows
/// its groups before its kinds.
const ABSENT_AFTER: Duration = Duration::from_secs(1);
/// How long a kind of which we have objects must be missing until they are taken for deleted.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Failures in a row of a server that answers, after which a list is tried instead of the watch.
const PATIENCE: u32 = 8;

/// An object as JSON, without what nobody reads.
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
    /// An API server says null for no metadata of any object.
    items: Option<Vec<Raw>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Why a step ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// What we know is too old to go on from: list again.
    Expired,
    /// The kind is not served; whether at least its group is.
    Missing { group: bool },
    /// Something failed.
    Failed(Error),
}

/// What watches share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub client: Client,
    pub discovery: Arc<Discovery>,
    pub lists: Arc<Semaphore>,
    pub states: States,
    pub heard: mpsc::Sender<Heard>,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Follow {
    watch: usize,
    selection: Selection,
    shared: Shared,
    book: Book,
    backoff: Backoff,
    /// Whether the reader knows that everything was read once.
    synced: bool,
    /// When the last list was complete.
    listed: Option<Instant>,
    /// Since when the kind is not served.
    missing: Option<Instant>,
}

impl Follow {
    pub(super) fn new(watch: usize, selection: Selection, shared: Shared) -> Self {
        Self {
            watch,
            book: Book::new(selection.kind),
            selection,
            shared,
            backoff: Backoff::default(),
            synced: false,
            listed: None,
            missing: None,
        }
    }

    /// Runs until nobody listens.
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
                // The server is away, or busy: what we have stays, and we go on from where we are.
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

    /// Lists the first version that is served.
    async fn list_any(&mut self) -> Result<(&'static str, String), End> {
        let known = self.kind().api_versions();
        if !self.custom() {
            return Ok((known[0], self.list(known[0]).await?));
        }
        let served = self.shared.discovery.versions(self.kind().group()).await;
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

    /// Reads everything, and says from where to watch.
    async fn list(&mut self, version: &'static str) -> Result<String, End> {
        let what = format!("list {}", kinds::plural(self.kind()));
        let mut params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            limit: Some(limits::PAGE),
            ..ListParams::default()
        };
        self.book.begin();
        loop {
            let requests = self.requests(version);
            let request = if kinds::is_metadata_only(self.kind()) {
                requests.list_metadata(&params)
            } else {
                requests.list(&params)
            };
            // Closed never: the semaphore lives as long as its watches.
            let permit = self
                .shared
                .lists
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| End::Closed)?;
            let page: Page = match self.shared.client.request(&what, request).await {
                Ok(page) => page,
                Err(Error::Absent { .. }) if self.custom() => return Err(End::Missing { group: true }),
                // The rest of a list that was too slow: from the beginning, then.
                Err(Error::Refused { .. }) if params.continue_token.take().is_some() => {
                    self.book.begin();
                    continue;
                }
                Err(error) => return Err(End::Failed(error)),
            };
            for item in page.items.into_iter().flatten() {
                self.book.listed(version, item.0);
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
        let change = self.book.end();
        self.missing = None;
        self.listed = Some(Instant::now());
        self.backoff.reset();
        let objects = self.book.len();
        self.shared.states.answered(self.watch, |state| {
            state.version = Some(version);
            state.synced = true;
            state.lists += 1;
            state.objects = objects;
        });
        self.tell(change, true).await
    }

    /// Watches until the server ends it, as it does every few minutes.
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
        let client = self.shared.client.clone();
        let begun = Instant::now();
        let open = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.raw().request_events::<Raw>(request).await
        };
        let opened = client.call(&what, open).await;
        let mut events = std::pin::pin!(opened.map_err(|error| self.ended(error))?);
        self.shared.states.answered(self.watch, |_| {});
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
                        reason: "nothing, and ends the watch at once".to_owned(),
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
                self.book.applied(version, object.0)
            }
            WatchEvent::Deleted(object) => {
                object.version().unwrap_or_default().clone_into(at);
                self.book.deleted(&object.0)
            }
            WatchEvent::Bookmark(mark) => {
                *at = mark.metadata.resource_version;
                Change::default()
            }
            WatchEvent::Error(status) if status.code == 410 => return Err(End::Expired),
            WatchEvent::Error(status) => {
                let error = self.shared.client.blame(what, &kube::Error::Api(status));
                return Err(End::Failed(error));
            }
        };
        let objects = self.book.len();
        self.shared.states.answered(self.watch, |state| {
            state.events += 1;
            state.objects = objects;
        });
        if at.is_empty() {
            // Without a version there is nothing to go on from.
            return Err(End::Expired);
        }
        self.tell(change, false).await
    }

    /// What the end of a watch means.
    fn ended(&self, error: Error) -> End {
        match error {
            Error::Absent { .. } if self.custom() => End::Expired,
            Error::Refused { code: 410, .. } => End::Expired,
            error => End::Failed(error),
        }
    }

    async fn tell(&mut self, change: Change, synced: bool) -> Result<(), End> {
        if change.is_empty() && (!synced || self.synced) {
            return Ok(());
        }
        self.synced |= synced;
        if !change.refused.is_empty() {
            let refused = change.refused.len() as u64;
            self.shared
                .states
                .answered(self.watch, |state| state.refused += refused);
        }
        let heard = Heard {
            watch: self.watch,
            change,
            synced,
        };
        self.shared.heard.send(heard).await.map_err(|_| End::Closed)
    }

    /// A list costs the server much, so that not even a server that lets every watch expire gets one after the other.
    async fn expired(&mut self) {
        if let Some(listed) = self.listed {
            tokio::time::sleep_until(listed + BETWEEN_LISTS).await;
        }
    }

    async fn failed(&mut self, error: &Error) {
        self.shared.states.failed(self.watch, error);
        let longest = if is_away(error) { backoff::AWAY } else { backoff::ERRORS };
        sleep(self.backoff.next(longest, fastrand::f64())).await;
    }

    /// The kind is not served. Once that is sure, there are no objects of it; until then, what we have stays.
    async fn missing(&mut self, group: bool) -> Result<(), End> {
        let since = *self.missing.get_or_insert_with(Instant::now);
        let patience = match (self.book.len(), group) {
            (1.., _) => GONE_AFTER,
            (0, true) => ABSENT_AFTER,
            (0, false) => Duration::ZERO,
        };
        if since.elapsed() < patience {
            sleep(DOUBT_POLL).await;
            return Ok(());
        }
        let change = self.book.absent();
        self.shared.states.absent(self.watch);
        self.tell(change, true).await?;
        sleep(MISSING_POLL).await;
        Ok(())
    }
}

fn is_away(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. })
}
