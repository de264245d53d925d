//! One HTTP request over a connection to a pod.

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks for a path. The connection lives as long as the answer's body is read.
pub(crate) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<Response<Incoming>> {
    let request = Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("{path:?} is no path"))?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    if let Err(error) = answer {
        // What broke the connection says more than that it broke.
        return Err(match connection.await {
            Ok(Err(cause)) => anyhow!("{}", innermost(&cause)),
            _ => anyhow!("{}", innermost(&error)),
        });
    }
    Ok(answer?)
}

/// Asks for a path, and reads a text of at most so many bytes.
pub(crate) async fn text(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    limit: usize,
) -> Result<String> {
    let answer = get(stream, path).await?;
    if answer.status() != StatusCode::OK {
        bail!("{path} is answered by {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|error| anyhow!("the answer of {path} broke off: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
