//! Control socket: one request per connection, passed to the supervisor's loop.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::control::{REQUEST_BYTES, Reply, Request};

/// Queued requests; further connections wait in the socket's backlog.
const WAITING: usize = 16;

/// A received request with the channel for its answer: a JSON value or an error message.
pub(crate) struct ControlCall {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Reply<serde_json::Value>>,
}

/// Listens on the socket and returns the stream of requests.
pub(crate) fn listen(path: &Path) -> Result<mpsc::Receiver<ControlCall>> {
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Sequential: requests are short and answered at once.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), serve(stream, &sender)).await;
        }
    });
    Ok(receiver)
}

async fn serve(stream: UnixStream, requests: &mpsc::Sender<ControlCall>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Err(error) => Reply::Err(format!("invalid request: {error}")),
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let _ = requests.send(ControlCall { request, reply }).await;
            answer
                .await
                .unwrap_or_else(|_| Reply::Err("the mesh is shutting down".to_owned()))
        }
    };
    let mut text = serde_json::to_string(&answer).expect("JSON");
    text.push('\n');
    write.write_all(text.as_bytes()).await
}
