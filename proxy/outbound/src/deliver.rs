//! Sends a request to endpoints until it arrives at one.
//!
//! A request that provably never reached an application is sent to another endpoint, whatever its method, as long as
//! its body can be replayed. Such attempts count neither as requests nor as retries.

use std::{
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::{Instant, SystemTime},
};

use http::{Request, Response, StatusCode};
use proxy_core::{breaker::Outcome, retry_after};
use proxy_http::{
    Body, SendError, filter,
    headers::HeaderFlags,
    orig_proto::{self, OrigProto},
    tap::{TappedBody, TappedRequest},
};
use proxy_model::{
    ClientAddr, limits,
    tap::{Direction, TapRequest},
};

use crate::{
    Error,
    connect::{EndpointConnection, Variant},
    context::Context,
    endpoint::{Endpoint, InFlight},
    request::Outgoing,
    response::{Attempt, Track},
    route::Plan,
    timeout::{Phase, within},
};

/// Label `error` of an endpoint's response that took too long; upstream's word.
const TIMEOUT: &str = "timeout";

/// Client of a request.
pub(crate) struct Client<'a> {
    pub(crate) context: &'a Context,
    pub(crate) addr: ClientAddr,
}

/// Response of an endpoint, with its metrics guard.
pub(crate) struct Delivered {
    pub(crate) response: Response<Body>,
    pub(crate) track: Box<Track>,
    pub(crate) backend: usize,
    /// True if it came from a single address over mesh TLS: its connection headers then apply to the client's
    /// connection too.
    pub(crate) is_direct: bool,
}

/// Sends a request until it arrives. `now` is the time of the call; endpoints in `tried` are asked only if there is no
/// other, and those that fail are added.
pub(crate) async fn deliver(
    client: &Client<'_>,
    plan: &Plan,
    out: &mut Outgoing<'_>,
    mut now: Instant,
    tried: &mut Vec<SocketAddr>,
) -> Result<Delivered, Error> {
    let context = client.context;
    let mut deadline = now + context.config.failfast;
    let mut lost = 0;
    loop {
        let picked = plan.distribution().pick(context, tried, now, deadline).await?;
        let (backend, mut flight) = (picked.backend, picked.flight);
        let endpoint = flight.endpoint.clone();
        out.allows(&endpoint)?;
        let variant = out.variant(&endpoint);
        flight.sent(now);
        let connection = pin!(endpoint.connector.connection(variant));
        let connection = match within(out.clock(), Phase::Exchange, connection).await {
            Ok(Ok(connection)) => connection,
            Err(timeout) => {
                flight.outcome(Outcome::Failure);
                return Err(timeout);
            }
            Ok(Err(error)) => {
                flight.unconnected(Some(variant));
                if plan.distribution().backends[backend].is_forward() || Instant::now() >= deadline {
                    return Err(error);
                }
                tried.push(endpoint.model.addr);
                now = Instant::now();
                continue;
            }
        };
        let sent = send(
            client,
            plan,
            out,
            Hop {
                connection,
                variant,
                flight,
                backend,
            },
        )
        .await;
        match sent.inspect_err(|_| tried.push(endpoint.model.addr))? {
            Sent::Arrived(mut delivered) => {
                delivered.track.arrived();
                return Ok(delivered);
            }
            Sent::NeverArrived(last) => {
                lost += 1;
                if !may_resend(context, out, lost) {
                    return last.map(|mut delivered| {
                        delivered.track.arrived();
                        delivered
                    });
                }
                if let Ok(delivered) = last {
                    delivered.track.never_arrived();
                }
                context.metrics.never_arrived().inc();
                tried.push(endpoint.model.addr);
                now = Instant::now();
                deadline = now + context.config.failfast;
            }
        }
    }
}

/// Returns true if a request that never arrived `lost` times may be sent again. Counts the limit that forbids it.
fn may_resend(context: &Context, out: &Outgoing<'_>, lost: u32) -> bool {
    if lost >= limits::NEVER_ARRIVED_ATTEMPTS.value {
        context.metrics.limit_refused(limits::NEVER_ARRIVED_ATTEMPTS);
        return false;
    }
    if out.is_overflowed() {
        context.metrics.limit_refused(limits::REPLAY_BYTES);
    }
    out.is_repeatable()
}

/// A picked endpoint and a connection to it, for one attempt.
struct Hop {
    connection: EndpointConnection,
    variant: Variant,
    flight: InFlight,
    backend: usize,
}

/// Result of one attempt.
enum Sent {
    Arrived(Delivered),
    /// It provably did not arrive. Holds the result to return if there is no other attempt.
    NeverArrived(Result<Delivered, Error>),
}

/// Sends one attempt.
async fn send(client: &Client<'_>, plan: &Plan, out: &mut Outgoing<'_>, hop: Hop) -> Result<Sent, Error> {
    let Hop {
        connection,
        variant,
        flight,
        backend,
    } = hop;
    let endpoint = &*flight.endpoint;
    let (mut request, orig_proto) = prepare(
        out,
        plan,
        Target {
            backend,
            endpoint,
            variant,
        },
    )?;
    let started = Instant::now();
    let tapped = if client.context.tap.is_active() {
        tap(client, plan, endpoint, out, &request)
    } else {
        None
    };
    let attempt = begin(plan, flight, backend, started);
    let generation = connection.generation();
    let sent = pin!(connection.send(&mut request));
    let mut response = match within(out.clock(), Phase::Attempt, sent).await {
        Ok(Ok(response)) => response,
        Ok(Err(failed)) => {
            if let Some((limit, _)) = failed.error.limit() {
                client.context.metrics.limit_refused(limit);
            }
            return failure(plan, failed, attempt, Via { variant, generation });
        }
        Err(timeout) => {
            abort(plan, attempt, &timeout, None);
            return Err(timeout);
        }
    };
    if let Some(orig_proto) = orig_proto {
        orig_proto::downgrade_response(&mut response, orig_proto);
    }
    Ok(receive(plan, attempt, response, tapped))
}

/// Target of an attempt.
struct Target<'a> {
    backend: usize,
    endpoint: &'a Endpoint,
    variant: Variant,
}

/// Prepares the request of an attempt: filters of the backend, form for the connection.
fn prepare(
    out: &mut Outgoing<'_>,
    plan: &Plan,
    target: Target<'_>,
) -> Result<(Request<Body>, Option<OrigProto>), Error> {
    let Target {
        backend,
        endpoint,
        variant,
    } = target;
    let gone = || Error::Endpoint {
        addr: endpoint.model.addr,
        error: Rc::new(proxy_http::Error::Superseded),
    };
    let mut request = out.next().ok_or_else(gone)?;
    let filters = &plan.distribution().backends[backend].filters;
    let mut authority = None;
    if !filters.is_empty() {
        let filtered = filter::request(filters, &mut request, plan.prefix.as_deref());
        filtered.map_err(|rejection| Error::Filter(Rc::new(rejection)))?;
        authority = filter::rewritten_authority(filters);
    }
    let authority = authority.unwrap_or_else(|| out.authority.clone());
    let orig_proto = out.prepare(&mut request, endpoint, variant, authority);
    Ok((request, orig_proto))
}

/// Starts the metrics of an attempt.
fn begin(plan: &Plan, mut flight: InFlight, backend: usize, started: Instant) -> Attempt {
    flight.sent(started);
    if let Some(rule) = plan.source.rule()
        && let Some(slot) = &rule.distribution.backends[backend].slot
    {
        slot.requests.inc();
    }
    Attempt {
        endpoint: flight.endpoint.requests.attempt_since(started),
        actual: plan.actual(started),
        flight,
        backend,
        started,
    }
}

/// Handles the head of a response.
fn receive(plan: &Plan, mut attempt: Attempt, response: Response<Body>, tapped: Option<TappedRequest>) -> Sent {
    let backend = attempt.backend;
    let target = &plan.distribution().backends[backend];
    let is_meshed = attempt.flight.endpoint.identity().is_some();
    let seen = HeaderFlags::from_headers(response.headers());
    let never_arrived = is_meshed && seen.has(HeaderFlags::MESH_NEVER_ARRIVED);
    if never_arrived {
        attempt.flight.never_arrived();
    } else {
        attempt.flight.reachable();
    }
    if attempt.flight.honors_retry_after() {
        let wait = retry_after::hint(response.status(), response.headers(), SystemTime::now());
        attempt.flight.retry_after(wait);
    }
    target.penalize(&attempt.flight.endpoint, &response);
    let track = Track::new(plan, attempt, &response, seen);
    let response = match tapped {
        Some(tapped) => TappedBody::wrap(response, tapped),
        None => response,
    };
    let delivered = Delivered {
        response,
        track,
        backend,
        is_direct: target.is_forward() && is_meshed,
    };
    if never_arrived {
        Sent::NeverArrived(Ok(delivered))
    } else {
        Sent::Arrived(delivered)
    }
}

/// Connection that an attempt was sent on.
struct Via {
    variant: Variant,
    generation: Option<u64>,
}

/// Handles an attempt that failed before the response head.
fn failure(plan: &Plan, failed: SendError, mut attempt: Attempt, via: Via) -> Result<Sent, Error> {
    let Via { variant, generation } = via;
    let endpoint = attempt.flight.endpoint.clone();
    let never_arrived = failed.never_arrived();
    let is_refusing = matches!(failed.error, proxy_http::Error::NoStream);
    let error = Error::Endpoint {
        addr: endpoint.model.addr,
        error: Rc::new(failed.error),
    };
    tracing::debug!(%error, reason = %error.reason(), never_arrived, "attempt failed");
    if never_arrived {
        if let Some(generation) = generation {
            // The connection is closing; the next request opens another.
            endpoint.connector.slot(variant).forget(generation);
        }
        if is_refusing {
            attempt.flight.never_arrived();
        } else {
            attempt.flight.unsent();
        }
        attempt.endpoint.never_arrived();
        if let Some(actual) = attempt.actual {
            actual.never_arrived();
        }
        return Ok(Sent::NeverArrived(Err(error)));
    }
    let status = (variant != Variant::Http2).then_some(StatusCode::BAD_GATEWAY);
    abort(plan, attempt, &error, status);
    Err(error)
}

/// Counts an attempt that ended without a response head as a failure of its endpoint.
fn abort(plan: &Plan, mut attempt: Attempt, error: &Error, status: Option<StatusCode>) {
    attempt.flight.outcome(Outcome::Failure);
    if let Some(rule) = plan.source.rule()
        && let Some(slot) = &rule.distribution.backends[attempt.backend].slot
    {
        slot.responses.end(attempt.started, error.exchange_status(rule.kind));
    }
    let label = match error {
        Error::Timeout(_) | Error::AttemptTimeout | Error::ProfileTimeout(_) => TIMEOUT,
        _ => error.label(),
    };
    attempt.endpoint.fail(status, label);
    if let Some(actual) = attempt.actual {
        actual.fail(status, label);
    }
}

#[cold]
fn tap(
    client: &Client<'_>,
    plan: &Plan,
    endpoint: &Endpoint,
    out: &Outgoing<'_>,
    request: &Request<Body>,
) -> Option<TappedRequest> {
    let tap = TapRequest {
        direction: Direction::Outbound,
        source: client.addr.0,
        source_labels: source_labels(),
        destination: endpoint.model.addr,
        destination_labels: endpoint.tap_labels.clone(),
        route_labels: plan.labels().clone(),
        method: request.method().clone(),
        scheme: request.uri().scheme_str().unwrap_or("http").to_owned(),
        authority: out.authority.to_string(),
        path: request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
    };
    client.context.tap.request(tap, request.headers())
}

/// Labels of the client, which is the local application.
fn source_labels() -> proxy_model::Labels {
    use proxy_metrics::{NoTls, names::label};
    let labels = [
        (label::TLS, "no_identity"),
        (label::NO_TLS_REASON, NoTls::Loopback.as_str()),
    ];
    std::sync::Arc::new(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}
