//! Signals that end the process: the first SIGTERM or SIGINT begins the drain, a second one ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Exit status after a second signal: that of a process killed by SIGTERM, as shells show it.
const ABORTED: i32 = 128 + 15;

/// A token that is cancelled by the first SIGTERM or SIGINT. Needs a running tokio runtime.
pub fn stop_token() -> Result<CancellationToken, Error> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    // Lives as long as the runtime, so that a process that drains still hears the second signal.
    tokio::spawn(async move {
        let mut signalled = false;
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return,
            };
            if signalled {
                tracing::warn!(signal = name, "second signal: exiting without a drain");
                std::process::exit(ABORTED);
            }
            signalled = true;
            tracing::info!(signal = name, "shutting down");
            stop.cancel();
        }
    });
    Ok(token)
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(Error::Signals)
}
