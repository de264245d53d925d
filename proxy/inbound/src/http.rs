//! HTTP connection: a server toward the client, and the state that its requests share.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue};
use proxy_core::path;
use proxy_http::{
    headers::L5D_CLIENT_ID,
    server::{self, Serving, Trust},
    upgrade::AcceptedUpgrade,
};
use proxy_metrics::{Counter, HttpSlot, InboundHttpLabels, ResourceLabels, inbound::AuthzLabels};
use proxy_model::{Meta, ServerPolicy};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    application::Application,
    authorize::{self, GrantKey, RouteGrant},
    connection::Connection,
    io::SessionIo,
    ratelimit::{self, PortLimit},
    request,
};

/// State shared by the requests of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) application: Rc<Application>,
    /// Identity of the client as a header value. Authenticated clients receive informational headers.
    client_id: Option<HeaderValue>,
    snapshot: RefCell<Rc<Snapshot>>,
    /// Accepted upgrade, which starts when the server has ended.
    pub(crate) upgraded: RefCell<Option<AcceptedUpgrade>>,
    pub(crate) drain: CancellationToken,
}

/// Current policy, with the counters for its labels.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) policy: Arc<ServerPolicy>,
    pub(crate) limit: Option<Arc<PortLimit>>,
    /// Decisions depend on paths, so that an ambiguous one is refused.
    pub(crate) checks_paths: bool,
    slots: RefCell<Vec<Slot>>,
}

/// Counters of one route under one authorization.
#[derive(Debug)]
struct Slot {
    key: GrantKey,
    http: Rc<HttpSlot>,
    allowed: Counter,
}

/// Serves HTTP/1; an upgrade, if any, is part of the connection.
pub(crate) async fn serve_http1(connection: Connection, io: SessionIo, drain: CancellationToken) -> Result<(), Error> {
    let session = Session::new(connection, drain.clone());
    let shared = session.clone();
    let service = move |request| request::serve(shared.clone(), request);
    server::http1(io, service, session.serving()).await?;
    let upgraded = session.upgraded.take();
    if let Some(upgraded) = upgraded {
        Box::pin(upgraded.run()).await?;
    }
    Ok(())
}

/// Serves HTTP/2.
pub(crate) async fn serve_http2(connection: Connection, io: SessionIo, drain: CancellationToken) -> Result<(), Error> {
    let session = Session::new(connection, drain);
    let shared = session.clone();
    let service = move |request| request::serve(shared.clone(), request);
    server::http2(io, service, session.serving()).await?;
    Ok(())
}

impl Session {
    fn new(connection: Connection, drain: CancellationToken) -> Rc<Self> {
        let id = connection.client_tls.client_id();
        let client_id = id.and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        let target = connection.target_labels(&connection.policy());
        let application = connection.worker.applications.at(connection.target, target);
        let snapshot = RefCell::new(Rc::new(Snapshot::new(&connection)));
        Rc::new(Self {
            application,
            client_id,
            snapshot,
            upgraded: RefCell::default(),
            drain,
            connection,
        })
    }

    /// Circumstances that the client is served under.
    fn serving(&self) -> Serving<'_> {
        let worker = &self.connection.worker;
        Serving {
            trust: if self.is_informed() {
                Trust::Meshed
            } else {
                Trust::Stranger
            },
            informational_headers: self.is_informed(),
            client: self.connection.client.0,
            params: worker.config.http2,
            ..Serving::new(&worker.metrics, &self.drain)
        }
    }

    /// Returns true if the client is authenticated, and so receives informational headers.
    pub(crate) fn is_informed(&self) -> bool {
        self.client_id.is_some()
    }

    /// Sets the identity header for the application, overwriting the client's claims.
    pub(crate) fn name_client(&self, headers: &mut HeaderMap) {
        match &self.client_id {
            Some(id) => drop(headers.insert(L5D_CLIENT_ID, id.clone())),
            None => drop(headers.remove(L5D_CLIENT_ID)),
        }
    }

    /// Returns the current policy.
    pub(crate) fn snapshot(&self) -> Rc<Snapshot> {
        let mut policy = self.connection.policy.borrow_mut();
        let mut snapshot = self.snapshot.borrow_mut();
        if !Arc::ptr_eq(policy.current(), &snapshot.policy) {
            drop(policy);
            *snapshot = Rc::new(Snapshot::new(&self.connection));
        }
        snapshot.clone()
    }
}

impl Snapshot {
    fn new(connection: &Connection) -> Self {
        let policy = connection.policy();
        let port = connection.target.0.port();
        let limits = &connection.worker.rate_limits;
        let limit = ratelimit::rule(&policy.protocol).map(|rule| limits.get_or_create(port, rule));
        let checks_paths = connection.worker.config.path_check && path::decides(&policy.protocol);
        Self {
            policy,
            limit,
            checks_paths,
            slots: RefCell::default(),
        }
    }

    /// Counts an allowed request; returns the slot that counts its response.
    pub(crate) fn allowed(&self, connection: &Connection, allowed: &RouteGrant<'_>) -> Rc<HttpSlot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.iter().find(|slot| slot.key == allowed.key) {
            slot.allowed.inc();
            return slot.http.clone();
        }
        let slot = self.slot(connection, allowed);
        slot.allowed.inc();
        let http = slot.http.clone();
        slots.push(slot);
        http
    }

    fn slot(&self, connection: &Connection, allowed: &RouteGrant<'_>) -> Slot {
        let metrics = &connection.worker.metrics;
        let authz = authorize::authorization_labels(allowed.authorization);
        let labels = self.labels(connection, Some(allowed.route));
        let http = metrics.inbound_http(&InboundHttpLabels {
            authority: None,
            target: labels.target,
            tls: labels.tls,
            server: labels.server,
            route: ResourceLabels::from(allowed.route),
            authz: Some(authz),
        });
        Slot {
            key: allowed.key,
            http,
            allowed: metrics.http_authz_allow(&labels, &authz),
        }
    }

    /// Labels of decisions about requests.
    pub(crate) fn labels<'a>(&'a self, connection: &'a Connection, route: Option<&'a Meta>) -> AuthzLabels<'a> {
        AuthzLabels {
            target: connection.target_labels(&self.policy),
            server: connection.server_labels(&self.policy),
            route: route.map(ResourceLabels::from),
            tls: connection.tls_labels(&self.policy),
        }
    }
}
