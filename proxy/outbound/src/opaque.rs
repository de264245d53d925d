//! Forwards opaque connections: one endpoint for the whole connection.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use http::StatusCode;
use proxy_http::{
    errors::{GrpcCode, Rejection},
    metered::Metered,
};
use proxy_model::route::Filter;
use proxy_transport::{
    PrefixedIo,
    copy::{self, CopyError, reset_on_drop},
};
use tokio::net::TcpStream;

use crate::{
    Error,
    context::Context,
    endpoint::InFlight,
    io::{Stream, socket},
    snapshot::TcpRule,
};

/// Client's connection, with the bytes that detection has read.
pub(crate) type ClientIo = PrefixedIo<Metered<TcpStream>>;

/// Connects to an endpoint of `rule` and copies until both sides have ended.
pub(crate) async fn serve(
    context: &Context,
    rule: &TcpRule,
    mut client: ClientIo,
    target: SocketAddr,
) -> Result<(), Error> {
    let metrics = &context.metrics;
    metrics.tcp_route_open(&rule.parent, &rule.route, target).inc();
    let result = forward(context, rule, &mut client).await;
    let word = result
        .as_ref()
        .map_or_else(|error| error.reason().row().tcp_word, |()| "");
    metrics.tcp_route_close(&rule.parent, &rule.route, target, word).inc();
    result
}

async fn forward(context: &Context, rule: &TcpRule, client: &mut ClientIo) -> Result<(), Error> {
    for filter in &rule.filters {
        match filter {
            Filter::Forbidden => {
                let forbidden = Rejection::new(StatusCode::FORBIDDEN, GrpcCode::PERMISSION_DENIED, "forbidden");
                return Err(Error::Filter(Rc::new(forbidden)));
            }
            Filter::Invalid(reason) => return Err(Error::InvalidPolicy(reason.as_str().into())),
            _ => {}
        }
    }
    // Boxed and dropped early: handshake futures are large, and connections live long.
    let (mut server, flight) = Box::pin(connect(context, rule)).await?;
    let copied = copy::bidirectional(client, &mut server, &()).await;
    if let Err(broken) = copied {
        // The other side must not take a truncated stream for a complete one.
        match &broken {
            CopyError::Client(_) => reset_on_drop(socket(server.get_ref())),
            CopyError::Server(_) => reset_on_drop(client.get_ref().get_ref()),
        }
        tracing::debug!(endpoint = %flight.endpoint.model.addr, error = %broken, "opaque connection failed");
    }
    Ok(())
}

/// Connects to an endpoint. Skips unreachable ones until the failfast time is over.
async fn connect(context: &Context, rule: &TcpRule) -> Result<(Metered<Stream>, InFlight), Error> {
    let deadline = Instant::now() + context.config.failfast;
    let mut excluded = Vec::new();
    loop {
        let picked = rule
            .distribution
            .pick(context, &excluded, Instant::now(), deadline)
            .await?;
        let mut flight = picked.flight;
        let started = Instant::now();
        match flight.endpoint.connector.connect(None).await {
            Ok(server) => {
                flight.reachable();
                let now = Instant::now();
                flight.answered(now - started, now);
                return Ok((server, flight));
            }
            Err(error) => {
                flight.unconnected(None);
                if rule.distribution.backends[picked.backend].is_forward() || Instant::now() >= deadline {
                    return Err(error);
                }
                excluded.push(flight.endpoint.model.addr);
            }
        }
    }
}
