//! A spinner for what takes long.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How long something takes before people are told what it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for `work`; when it takes over a second, a person at a terminal sees what for.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    // Draws on stderr, and nothing if that is no terminal.
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a template");
    let spinner = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    done
}
