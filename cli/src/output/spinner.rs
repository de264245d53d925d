//! Spinner for slow operations.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Delay before a slow operation is announced.
const PATIENCE: Duration = Duration::from_secs(1);

/// Awaits `work`; if it takes longer than a second, shows a spinner with `what` on a terminal.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    // Draws on stderr, and only if that is a terminal.
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a template");
    let spinner = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    done
}
