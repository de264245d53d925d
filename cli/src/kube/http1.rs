//! Single HTTP/1 requests over a connection to a pod.

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends a GET request. The connection lives as long as the response body is read.
pub(crate) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<Response<Incoming>> {
    let request = Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("invalid path {path:?}"))?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    if let Err(error) = answer {
        // The cause of a broken connection says more than that it broke.
        return Err(match connection.await {
            Ok(Err(cause)) => anyhow!("{}", innermost(&cause)),
            _ => anyhow!("{}", innermost(&error)),
        });
    }
    Ok(answer?)
}

/// Sends a GET request and reads a text body of at most `limit` bytes.
pub(crate) async fn text(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    limit: usize,
) -> Result<String> {
    let answer = get(stream, path).await?;
    if answer.status() != StatusCode::OK {
        bail!("{path} returned {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|error| anyhow!("cannot read the response to {path}: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
