//! Serves a client's HTTP connection: each request by the snapshot that is current when it arrives.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
};

use http::{HeaderMap, HeaderValue, Request, Response, Version, header, uri::Authority};
use proxy_http::{
    Body,
    errors::{self, Shape},
    h1::{self, Form},
    headers::{CLOSE, HeaderFlags, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, MESH_NEVER_ARRIVED},
    server::{self, Io, Serving, Trust},
    upgrade::{AcceptedUpgrade, Upgrade},
};
use proxy_metrics::RequestGuard;
use proxy_model::ClientAddr;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    context::Context,
    deliver::{Client, Delivered},
    discover::Target,
    mirror,
    request::Outgoing,
    response::ResponseBody,
    retry,
    route::{self, Plan},
    snapshot::Snapshot,
    timeout::{Clock, Phase, within},
};

/// An HTTP connection of a client.
pub(crate) struct ClientConnection {
    pub(crate) context: Rc<Context>,
    pub(crate) target: Rc<Target>,
    pub(crate) client: ClientAddr,
    /// Last snapshot with HTTP routes: a target that turns opaque does so for new connections only.
    last: RefCell<Option<Rc<Snapshot>>>,
    /// Last `host` header and its authority; clients rarely change it.
    authority: RefCell<Option<(HeaderValue, Authority)>>,
    /// Protocol upgrade that both sides agreed to; it runs after HTTP/1 ends.
    agreed: Cell<Option<AcceptedUpgrade>>,
}

/// HTTP version of the client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

impl ClientConnection {
    pub(crate) fn new(context: &Rc<Context>, target: &Rc<Target>, client: ClientAddr) -> Rc<Self> {
        Rc::new(Self {
            context: context.clone(),
            target: target.clone(),
            client,
            last: RefCell::default(),
            authority: RefCell::default(),
            agreed: Cell::default(),
        })
    }

    /// Serves requests until the connection or `drain` ends.
    pub(crate) async fn serve<I: Io>(
        self: Rc<Self>,
        io: I,
        version: HttpVersion,
        drain: &CancellationToken,
    ) -> Result<(), Error> {
        let serving = Serving {
            trust: Trust::Meshed,
            informational_headers: self.context.config.informational_headers,
            client: self.client.0,
            params: self.context.config.http2,
            ..Serving::new(&self.context.metrics, drain)
        };
        let served = self.clone();
        let service = move |request| served.clone().request(request);
        let served = match version {
            HttpVersion::Http1 => server::http1(io, service, serving).await,
            HttpVersion::Http2 => server::http2(io, service, serving).await,
        };
        served.map_err(|error| Error::Client(Rc::new(error)))?;
        if let Some(agreed) = self.agreed.take()
            && let Err(error) = agreed.run().await
        {
            tracing::debug!(%error, client = %self.client, "upgraded connection failed");
        }
        Ok(())
    }

    /// Serves one request. The only error is a stream that the endpoint reset; everything else is a response.
    async fn request(self: Rc<Self>, mut request: Request<Body>) -> Result<Response<ResponseBody>, proxy_http::Error> {
        let shape = Shape::from_request(&request, self.context.config.informational_headers, false);
        let version = request.version();
        let upgrade = h1::wants_upgrade(&request) || request.method() == http::Method::CONNECT;
        let upgrade = (upgrade && version != Version::HTTP_2).then(|| Upgrade::from_request(&mut request));
        let mut response = match self.forward(&mut request).await {
            Ok(response) => response,
            Err(error) => return self.error_response(&error, version, shape),
        };
        if let Some(agreed) = upgrade.and_then(|upgrade| upgrade.accepted(&mut response)) {
            if agreed.is_connect {
                h1::strip_connect_response(&mut response);
            }
            self.agreed.set(Some(agreed));
        }
        Ok(response)
    }

    async fn forward(&self, request: &mut Request<Body>) -> Result<Response<ResponseBody>, Error> {
        let form = if request.version() == Version::HTTP_2 {
            Form::default()
        } else {
            h1::normalise(request)?
        };
        let snapshot = self.snapshot(request.version() == Version::HTTP_2).await?;
        let plan = route::select(&snapshot, request)?;
        let authority = self.authority(request, &snapshot)?;
        let mut out = Outgoing::new(request, form, authority)?;
        let clock = Clock::new(plan.time_limits(), plan.started);
        if let Some(clock) = &clock {
            out.time(clock);
        }
        let guard = plan.guard();
        let client = Client {
            context: &self.context,
            addr: self.client,
        };
        let exchanged = {
            let exchange = pin!(retry::exchange(&client, &plan, &mut out));
            within(clock.as_ref(), Phase::Exchange, exchange).await.flatten()
        };
        if plan.is_mirrored() {
            mirror::copy(&self.context, self.client, &plan, &out);
        }
        match exchanged {
            Ok(delivered) => Ok(finish(&plan, delivered, guard, clock, &self.context.config)),
            Err(error) => {
                failed(&plan, guard, &error);
                Err(error)
            }
        }
    }

    /// Returns the snapshot for a request. Waits for the first one.
    async fn snapshot(&self, is_http2: bool) -> Result<Rc<Snapshot>, Error> {
        let snapshot = match self.target.current() {
            Some(snapshot) => snapshot,
            None => self.target.wait().await?,
        };
        if snapshot.serves_http(is_http2) {
            if !self
                .last
                .borrow()
                .as_ref()
                .is_some_and(|last| Rc::ptr_eq(last, &snapshot))
            {
                *self.last.borrow_mut() = Some(snapshot.clone());
            }
            return Ok(snapshot);
        }
        Ok(self.last.borrow().clone().unwrap_or(snapshot))
    }

    /// Authority of a request: from its URI, its `host` header, or the connection's target.
    fn authority(&self, request: &Request<Body>, snapshot: &Snapshot) -> Result<Authority, Error> {
        if let Some(authority) = request.uri().authority() {
            return Ok(authority.clone());
        }
        let host = request.headers().get(header::HOST).filter(|host| !host.is_empty());
        let Some(host) = host else {
            return snapshot.default_authority.clone().ok_or(Error::Authority);
        };
        let mut last = self.authority.borrow_mut();
        if let Some((known, authority)) = &*last
            && known == host
        {
            return Ok(authority.clone());
        }
        let authority = Authority::try_from(host.as_bytes()).map_err(|_| Error::Authority)?;
        *last = Some((host.clone(), authority.clone()));
        Ok(authority)
    }

    /// Response or stream reset for an error.
    fn error_response(
        &self,
        error: &Error,
        version: Version,
        shape: Shape,
    ) -> Result<Response<ResponseBody>, proxy_http::Error> {
        if !matches!(error, Error::Filter(_) | Error::NoRoute) {
            self.context.metrics.outbound_http_error(error.label()).inc();
        }
        tracing::debug!(%error, reason = %error.reason(), client = %self.client, target = %self.target.addr, "request failed");
        // A reset HTTP/2 stream resets the client's stream with the same reason.
        if version == Version::HTTP_2
            && let Error::Endpoint { error, .. } = error
            && let Some(reason) = error.h2_reason()
        {
            return Err(proxy_http::Error::reset(reason));
        }
        Ok(errors::respond(&error.rejection(), shape).map(ResponseBody::plain))
    }
}

/// Prepares the response for the client.
fn finish(
    plan: &Plan,
    delivered: Delivered,
    guard: Option<RequestGuard>,
    clock: Option<Rc<Clock>>,
    config: &Config,
) -> Response<ResponseBody> {
    let Delivered {
        mut response,
        mut track,
        backend,
        is_direct,
    } = delivered;
    track.is_final(guard);
    if response.version() != Version::HTTP_2 {
        h1::normalise_response(&mut response);
    }
    let closes = strip(response.headers_mut(), config);
    if closes && is_direct && response.version() != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    plan.response_filters(backend, &mut response);
    let clock = clock.filter(|clock| clock.limits(Phase::Body));
    if let Some(clock) = &clock {
        clock.frame();
    }
    response.map(|body| ResponseBody::new(body, track, clock))
}

/// Strips headers between proxies. Returns true if the peer wants the connection closed. The reason of a refusal is
/// kept where informational headers are enabled, as in upstream.
fn strip(headers: &mut HeaderMap, config: &Config) -> bool {
    let seen = HeaderFlags::from_headers(headers);
    if seen.has(HeaderFlags::L5D_PROXY_ERROR) && !config.informational_headers {
        headers.remove(L5D_PROXY_ERROR);
    }
    if seen.has(HeaderFlags::MESH_NEVER_ARRIVED) {
        headers.remove(MESH_NEVER_ARRIVED);
    }
    seen.has(HeaderFlags::L5D_PROXY_CONNECTION)
        && headers.remove(L5D_PROXY_CONNECTION).is_some_and(|value| value == CLOSE)
}

/// Counts a request without a response.
fn failed(plan: &Plan, guard: Option<RequestGuard>, error: &Error) {
    let status = error.rejection().status;
    if let Some(guard) = guard {
        guard.fail(Some(status), error.label());
    }
    if let Some(rule) = plan.source.rule() {
        rule.slot.end(plan.started, error.exchange_status(rule.kind));
    }
}
