//! Serves one HTTP connection: hyper's connection-level servers with the mesh's parameters and a graceful end.

use std::{error::Error as StdError, pin::pin, time::Duration};

use http_body::Body as HttpBody;
use hyper::{
    body::Incoming,
    server::conn::{http1 as h1, http2 as h2},
    service::HttpService,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_model::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::LocalExec;

/// Parameters of HTTP/2 servers.
#[derive(Copy, Clone, Debug, Default)]
pub struct ServerParams {
    /// PINGs, also when nothing else happens; none sends none.
    pub ping: Option<Ping>,
}

/// PINGs of an HTTP/2 server.
#[derive(Copy, Clone, Debug)]
pub struct Ping {
    /// Time between them.
    pub interval: Duration,
    /// Time for the answer.
    pub timeout: Duration,
}

/// What a connection of a client can be served from.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

/// Serves HTTP/1 until the client or `drain` ends it. Upgrades are possible; a client may close its half early.
pub async fn http1<I, S>(io: I, service: S, drain: &CancellationToken) -> Result<(), hyper::Error>
where
    I: Io,
    S: HttpService<Incoming>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::ResBody: HttpBody + 'static,
    <S::ResBody as HttpBody>::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let connection = h1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = drain.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Serves HTTP/2 until the client or `drain` (by GOAWAY) ends it.
pub async fn http2<I, S>(io: I, service: S, params: ServerParams, drain: &CancellationToken) -> Result<(), hyper::Error>
where
    I: Io,
    S: HttpService<Incoming>,
    S::Future: 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    S::ResBody: HttpBody + 'static,
    <S::ResBody as HttpBody>::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut builder = h2::Builder::new(LocalExec);
    builder
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .max_concurrent_streams(limits::HTTP2_STREAMS);
    if let Some(ping) = params.ping {
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(ping.interval)
            .keep_alive_timeout(ping.timeout);
    }
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = drain.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
