//! Signals that end the process: SIGTERM and SIGINT begin the drain, once; a second one does not hurry it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// A token that is cancelled by the first SIGTERM or SIGINT. Needs a running tokio runtime.
pub fn stop_token() -> Result<CancellationToken, Error> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    // Lives as long as the runtime: the signals stay ours, so that a second one does not kill a process that drains.
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return,
            };
            if stop.is_cancelled() {
                tracing::info!(signal = name, "already shutting down");
            } else {
                tracing::info!(signal = name, "shutting down");
                stop.cancel();
            }
        }
    });
    Ok(token)
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(Error::Signals)
}
