//! HTTP request from the mesh to the application.
//!
//! The phases of a request, in order: undo orig-proto → select and authorize → filter → limit → forward. Each hands the
//! request on, or ends it with the response that explains why.

use std::{borrow::Cow, rc::Rc, time::Instant};

use http::{HeaderValue, Request, Response, Version, header::HOST, uri::Authority};
use proxy_core::{path, select::Head};
use proxy_http::{
    Body, Error,
    errors::{self, Rejection, Shape},
    filter,
    h1::{self, Form, Malformed},
    headers::{HeaderFlags, MESH_NEVER_ARRIVED},
    orig_proto,
    tap::TappedBody,
    upgrade::Upgrade,
};
use proxy_metrics::{HttpSlot, names};
use proxy_model::{Meta, Reason, route::Filter};

use crate::{
    application::{Failure, Reuse},
    authorize::{self, Denial, Permit, RouteGrant},
    body::ResponseBody,
    connection::Connection,
    http::{Session, Snapshot},
    tap,
};

/// Protocol between client and application.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum RequestProtocol {
    /// HTTP/1; `carried` in HTTP/2.
    Http1 { form: Form, carried: bool },
    /// Native HTTP/2.
    Http2,
}

/// End of a request other than the application's response.
#[derive(Debug)]
enum EarlyEnd {
    Answer(Box<Rejection>),
    Reset(h2::Reason),
}

impl From<Rejection> for EarlyEnd {
    fn from(rejection: Rejection) -> Self {
        Self::Answer(Box::new(rejection))
    }
}

/// Serves a request: an error becomes the response that explains it, or the original reset.
pub(crate) async fn serve(session: Rc<Session>, mut request: Request<Body>) -> Result<Response<ResponseBody>, Error> {
    let protocol = match protocol(&mut request) {
        Ok(protocol) => protocol,
        Err(malformed) => return Ok(ResponseBody::unrecorded(bad_request(&session, &request, malformed))),
    };
    let carried = matches!(protocol, RequestProtocol::Http1 { carried: true, .. });
    let shape = Shape::from_request(&request, session.is_informed(), carried);
    match exchange(&session, &mut request, protocol, shape.grpc).await {
        Ok(response) => Ok(response),
        Err(EarlyEnd::Answer(rejection)) => Ok(ResponseBody::unrecorded(errors::respond(&rejection, shape))),
        Err(EarlyEnd::Reset(reason)) => Err(Error::reset(reason)),
    }
}

fn protocol(request: &mut Request<Body>) -> Result<RequestProtocol, Malformed> {
    if request.version() != Version::HTTP_2 {
        h1::one_host(request)?;
        let form = h1::normalise(request)?;
        if form.absolute {
            name_host(request);
        }
        return Ok(RequestProtocol::Http1 { form, carried: false });
    }
    // Before the target loses its authority. Of HTTP/1 in absolute form, the target wins over the header.
    if let Err(several) = h1::one_host(request)
        && !orig_proto::is_absolute(request)
    {
        return Err(several);
    }
    Ok(match orig_proto::downgrade_request(request) {
        Some(was) => RequestProtocol::Http1 {
            form: Form {
                absolute: was.absolute,
                upgrade: false,
            },
            carried: true,
        },
        None => RequestProtocol::Http2,
    })
}

/// An absolute target determines the host; a different `host` header is overwritten (RFC 9112, 3.2.2).
fn name_host(request: &mut Request<Body>) {
    let host = request
        .uri()
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

fn bad_request(session: &Session, request: &Request<Body>, malformed: Malformed) -> Response<Body> {
    count_error(session, &session.snapshot(), names::error::UNEXPECTED);
    let rejection = Rejection::from_reason(Reason::MalformedRequest, malformed.to_string());
    errors::respond(&rejection, Shape::from_request(request, session.is_informed(), false))
}

async fn exchange(
    session: &Session,
    request: &mut Request<Body>,
    protocol: RequestProtocol,
    is_grpc: bool,
) -> Result<Response<ResponseBody>, EarlyEnd> {
    session.name_client(request.headers_mut());
    // Read for each request, so that updates apply to open connections.
    let snapshot = session.snapshot();
    let Admission {
        permit,
        slot,
        filters,
        authorized,
    } = admit(session, &snapshot, request)?;
    let guard = slot.request();
    let is_tapped = session.connection.worker.tap.is_active();
    let tapped = if is_tapped {
        tap::begin(&session.connection, &snapshot, &authorized, request)
    } else {
        None
    };
    match forward(session, &permit, request, protocol).await {
        Ok(mut response) => {
            filter::response(filters, &mut response);
            if matches!(protocol, RequestProtocol::Http1 { carried: true, .. }) {
                orig_proto::upgrade_response(&mut response);
            }
            if let Some(tapped) = tapped {
                response = TappedBody::wrap(response, tapped);
            }
            Ok(ResponseBody::recorded(response, guard, is_grpc))
        }
        Err(failure) => {
            if let Failure::Exchange(failed) = &failure
                && let Some((limit, _)) = failed.error.limit()
            {
                session.connection.worker.metrics.limit_refused(limit);
            }
            let refused = refused(&failure, protocol);
            let status = match &refused {
                EarlyEnd::Answer(rejection) => Some(rejection.status),
                EarlyEnd::Reset(_) => None,
            };
            guard.fail(status, names::error::IO);
            count_error(session, &snapshot, names::error::IO);
            tracing::debug!(client = %session.connection.client, ?failure, "application did not respond");
            Err(refused)
        }
    }
}

/// Request that may be forwarded to the application.
struct Admission<'p> {
    permit: Permit,
    slot: Rc<HttpSlot>,
    filters: &'p [Filter],
    authorized: tap::TapAuthorization<'p>,
}

/// Selects a route, authorizes, filters, and applies the rate limit.
fn admit<'p>(
    session: &Session,
    snapshot: &'p Snapshot,
    request: &mut Request<Body>,
) -> Result<Admission<'p>, EarlyEnd> {
    let connection = &session.connection;
    if connection.orig_dst.0.port() == connection.worker.config.port && h1::authority(request).is_none() {
        // The request has no target: the transport header names a port, and nothing names a host.
        return Err(unexpected());
    }
    let head = Head::new(request.method(), request.uri(), request.headers());
    let metrics = &connection.worker.metrics;
    let allowed = match authorize::http(connection, &snapshot.policy, &head) {
        Ok(allowed) => allowed,
        Err(Denial::NoRoute) => {
            metrics.http_route_not_found(&snapshot.labels(connection, None)).inc();
            let message = Reason::NoRoute.sentence();
            return Err(deny(connection, snapshot, Reason::NoRoute, None, message));
        }
        Err(Denial::Unauthorized(route)) => {
            metrics.http_authz_deny(&snapshot.labels(connection, Some(route))).inc();
            let message = format!(
                "client {}: unauthorized request on route {}",
                connection.client,
                route.name()
            );
            return Err(deny(connection, snapshot, Reason::Unauthorized, Some(route), message));
        }
    };
    if snapshot.checks_paths && path::is_ambiguous(head.path) {
        check_readings(session, snapshot, &head, &allowed)?;
    }
    let slot = snapshot.allowed(connection, &allowed);
    authorize::audit(connection, &snapshot.policy, allowed.authorization);
    filter::request(allowed.filters, request, allowed.prefix)?;
    if let Some(limit) = &snapshot.limit
        && let Err(exceeded) = limit.admit(connection.client_tls.client_id(), Instant::now())
    {
        let meta = limit.meta().map(Into::into).unwrap_or_default();
        let labels = snapshot.labels(connection, Some(allowed.route));
        metrics.http_rate_limited(&labels, &meta, exceeded.scope()).inc();
        let message = format!("client {}: rate limit exceeded", connection.client);
        return Err(deny(
            connection,
            snapshot,
            Reason::RateLimited,
            Some(allowed.route),
            message,
        ));
    }
    let authorized = tap::TapAuthorization {
        route: allowed.route,
        authorization: allowed.authorization,
    };
    Ok(Admission {
        permit: allowed.permit,
        slot,
        filters: allowed.filters,
        authorized,
    })
}

/// Rejects a path about which the policy decides differently in another reading.
#[cold]
fn check_readings(
    session: &Session,
    snapshot: &Snapshot,
    head: &Head<'_>,
    allowed: &RouteGrant<'_>,
) -> Result<(), EarlyEnd> {
    let connection = &session.connection;
    if authorize::is_unambiguous(connection, &snapshot.policy, head, allowed.filters) {
        return Ok(());
    }
    let reason = Reason::AmbiguousPath;
    count_error(session, snapshot, reason.row().label.unwrap_or_default());
    Err(deny(
        connection,
        snapshot,
        reason,
        Some(allowed.route),
        reason.sentence(),
    ))
}

/// Logs a denial, and returns the response that explains it.
fn deny(
    connection: &Connection,
    snapshot: &Snapshot,
    reason: Reason,
    route: Option<&Meta>,
    message: impl Into<Cow<'static, str>>,
) -> EarlyEnd {
    let denials = &connection.worker.denials;
    denials.request(connection, &snapshot.policy, reason, route);
    Rejection::from_reason(reason, message).into()
}

fn unexpected() -> EarlyEnd {
    Rejection::from_reason(Reason::Unexpected, Reason::Unexpected.sentence()).into()
}

async fn forward(
    session: &Session,
    permit: &Permit,
    request: &mut Request<Body>,
    protocol: RequestProtocol,
) -> Result<Response<Body>, Failure> {
    let application = &session.application;
    let mut response = match protocol {
        RequestProtocol::Http2 => {
            name_authority(request, permit);
            application.send_http2(permit, request).await?
        }
        RequestProtocol::Http1 {
            form: Form { upgrade: true, .. },
            ..
        } => Box::pin(upgrade(session, permit, request)).await?,
        RequestProtocol::Http1 { .. } => {
            let reuse = if session.drain.is_cancelled() {
                Reuse::Never
            } else {
                Reuse::Idle
            };
            let mut response = application.send_http1(permit, request, reuse).await?;
            h1::normalise_response(&mut response);
            response
        }
    };
    // Only this proxy may set this header, and only for requests that did not arrive.
    if HeaderFlags::from_headers(response.headers()).has(HeaderFlags::MESH_NEVER_ARRIVED) {
        response.headers_mut().remove(MESH_NEVER_ARRIVED);
    }
    Ok(response)
}

/// Ensures an authority for HTTP/2: the client's, else its `host`, else the address.
fn name_authority(request: &mut Request<Body>, permit: &Permit) {
    if request.uri().authority().is_some() {
        return;
    }
    let host = h1::authority(request).and_then(|host| host.parse::<Authority>().ok());
    let address = || {
        permit
            .target()
            .to_string()
            .parse::<Authority>()
            .expect("a socket address is an authority")
    };
    let authority = host.unwrap_or_else(address);
    h1::set_absolute_form(request.uri_mut(), authority);
}

async fn upgrade(session: &Session, permit: &Permit, request: &mut Request<Body>) -> Result<Response<Body>, Failure> {
    let upgrade = Upgrade::from_request(request);
    let mut response = session.application.send_upgrade(permit, request).await?;
    match upgrade.accepted(&mut response) {
        None => h1::normalise_response(&mut response),
        Some(agreed) => {
            if agreed.is_connect {
                h1::strip_connect_response(&mut response);
            }
            session.upgraded.replace(Some(agreed));
        }
    }
    Ok(response)
}

/// Rejection for a failed exchange with the application.
fn refused(failure: &Failure, protocol: RequestProtocol) -> EarlyEnd {
    let never_arrived = failure.never_arrived();
    let (reason, message) = match failure {
        Failure::Connect(error) => match **error {
            proxy_transport::Error::ConnectTimeout { .. } => (Reason::ConnectTimeout, error.to_string()),
            _ => (Reason::ConnectFailed, error.to_string()),
        },
        Failure::TooMany => (Reason::LoadShed, Reason::LoadShed.sentence().to_owned()),
        Failure::Exchange(failed) => {
            if let Some((_, reason)) = failed.error.limit() {
                return rejection(reason, reason.sentence(), never_arrived);
            }
            // HTTP/2 has reset codes for this; an orig-proto client expects a response.
            match (protocol, never_arrived, failed.error.h2_reason()) {
                (RequestProtocol::Http2, true, _) => return EarlyEnd::Reset(h2::Reason::REFUSED_STREAM),
                (RequestProtocol::Http2, false, Some(reason)) => return EarlyEnd::Reset(reason),
                _ => (Reason::EndpointFailed, failed.to_string()),
            }
        }
    };
    rejection(reason, message, never_arrived)
}

fn rejection(reason: Reason, message: impl Into<Cow<'static, str>>, never_arrived: bool) -> EarlyEnd {
    let rejection = Rejection::from_reason(reason, message);
    if never_arrived {
        rejection.never_arrived().into()
    } else {
        rejection.into()
    }
}

fn count_error(session: &Session, snapshot: &Snapshot, error: &'static str) {
    let connection = &session.connection;
    let labels = snapshot.labels(connection, None);
    let metrics = &connection.worker.metrics;
    metrics.inbound_http_error(labels.target, &labels.server, error).inc();
}

#[cfg(test)]
mod tests {
    use proxy_http::SendError;

    use super::*;

    #[test]
    fn application_without_room_is_unavailable_and_the_request_never_arrived() {
        let no_stream = SendError {
            error: Error::NoStream,
            not_sent: false,
            not_read: false,
        };
        for failure in [Failure::Exchange(no_stream), Failure::TooMany] {
            let EarlyEnd::Answer(rejection) = refused(&failure, RequestProtocol::Http2) else {
                panic!("a reset for {failure:?}");
            };
            assert_eq!(rejection.status, http::StatusCode::SERVICE_UNAVAILABLE);
            assert!(rejection.never_arrived);
        }
    }
}
