//! Forwards opaque connections: one endpoint for the whole connection.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use http::StatusCode;
use proxy_http::{
    errors::{GrpcCode, Rejection},
    metered::Metered,
};
use proxy_model::route::Filter;
use proxy_transport::copy;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, context::Context, endpoint::InFlight, io::Stream, snapshot::TcpRule};

/// Connects to an endpoint of `rule` and copies until both sides have ended.
pub(crate) async fn serve<I>(context: &Context, rule: &TcpRule, mut io: I, target: SocketAddr) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let metrics = &context.metrics;
    metrics.tcp_route_open(&rule.parent, &rule.route, target).inc();
    let result = forward(context, rule, &mut io).await;
    let word = result
        .as_ref()
        .map_or_else(|error| error.reason().row().tcp_word, |()| "");
    metrics.tcp_route_close(&rule.parent, &rule.route, target, word).inc();
    result
}

async fn forward<I>(context: &Context, rule: &TcpRule, io: &mut I) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
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
    let copied = copy::bidirectional(io, &mut server, &()).await;
    if let Err(broken) = copied {
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
