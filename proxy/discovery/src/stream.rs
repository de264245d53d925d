//! Keeps one stream up: restarts it when it fails, ends, falls silent or grows old.

use std::{cell::RefCell, future::Future, time::Duration};

use futures_util::StreamExt;
use proxy_metrics::AnswerAge;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{Failure, Stream, cache::Health};

/// Time limits of a stream; `None` means unlimited.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// Until its first message.
    pub initial: Option<Duration>,
    /// Between messages.
    pub idle: Option<Duration>,
    /// Total lifetime.
    pub lifetime: Option<Duration>,
}

/// Shortest backoff before a stream is restarted; upstream's figure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest backoff. All streams must be back within 2 s after an outage (upstream's 60 s left endpoints stale
/// for 30 s).
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Longest backoff for a target that the control plane does not know yet.
const UNKNOWN_MAX: Duration = Duration::from_secs(10);
/// The same for a target without which nothing is served.
const UNKNOWN_AWAITED_MAX: Duration = Duration::from_secs(2);
/// Consecutive "unknown" answers, about 3 s, before one replaces an earlier answer: a control plane that has just
/// started may not have completed its initial sync.
const UNKNOWN_ACCEPTED: u32 = 5;

/// Event of a stream.
pub(crate) enum Event<T> {
    /// The stream was opened; the next message is its first.
    Opened,
    /// A message arrived.
    Message(T),
    /// An invalid message arrived, for this reason.
    Invalid(String),
    /// The control plane does not know the target, and has said so often enough.
    Unknown,
    /// The control plane will never answer; the last event.
    Refused,
}

/// Reaction to a refusal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnRefusal {
    /// It is final, because there is something to use instead.
    End,
    /// Asks again, as for an unknown target: without an answer nothing is allowed.
    AskAgain,
}

/// True while a stream is up, or no longer needed.
pub(crate) type Live = watch::Sender<bool>;

/// Runs one stream until it is refused.
pub(crate) struct StreamDriver<'a> {
    pub(crate) limits: StreamLimits,
    pub(crate) health: &'a Health,
    pub(crate) live: &'a Live,
    pub(crate) target: String,
    pub(crate) on_refusal: OnRefusal,
    /// Age of its answer, for metrics.
    pub(crate) age: RefCell<AnswerAge>,
}

impl StreamDriver<'_> {
    pub(crate) async fn run<T, C, O, F>(&self, connected: C, open: O, mut on: impl FnMut(Event<T>) -> Known)
    where
        C: AsyncFn(),
        O: Fn() -> F,
        F: Future<Output = Result<Stream<T>, Failure>>,
    {
        let unknown_max = match self.on_refusal {
            OnRefusal::End => UNKNOWN_MAX,
            OnRefusal::AskAgain => UNKNOWN_AWAITED_MAX,
        };
        let (mut waits, mut unknown) = (Backoff::new(BACKOFF_MAX), Backoff::new(unknown_max));
        loop {
            // Waiting for the connection first means that a new connection does not find this stream in a backoff.
            connected().await;
            let mut has_message = false;
            let known = on(Event::Opened);
            let mut pass_on = |event| {
                has_message |= matches!(event, Event::Message(_));
                on(event);
            };
            let ended = self.once(&open, &mut pass_on).await;
            self.health.resubscribed();
            if has_message {
                (waits, unknown) = (Backoff::new(BACKOFF_MAX), Backoff::new(unknown_max));
            }
            match ended {
                // It worked and reached its time limit.
                Ended::Renew if has_message => {}
                Ended::Renew => sleep(waits.next()).await,
                Ended::Failed(Failure::Refused(reason)) if self.on_refusal == OnRefusal::End => {
                    tracing::debug!(target = %self.target, %reason, "refused by the control plane");
                    on(Event::Refused);
                    self.set_live(true);
                    return;
                }
                Ended::Failed(Failure::Unknown(reason) | Failure::Refused(reason)) => {
                    if known == Known::No || unknown.count >= UNKNOWN_ACCEPTED {
                        on(Event::Unknown);
                        self.set_live(true);
                    }
                    tracing::debug!(target = %self.target, %reason, "unknown to the control plane");
                    sleep(unknown.next()).await;
                }
                Ended::Failed(failure) => {
                    self.set_live(false);
                    tracing::debug!(target = %self.target, %failure, "stream failed");
                    sleep(waits.next()).await;
                }
            }
        }
    }

    fn set_live(&self, live: bool) {
        self.live.send_if_modified(|was| std::mem::replace(was, live) != live);
        self.health.set_live(live);
        let mut age = self.age.borrow_mut();
        if live { age.confirmed() } else { age.disconnected() }
    }

    async fn once<T, O, F>(&self, open: &O, on: &mut impl FnMut(Event<T>)) -> Ended
    where
        O: Fn() -> F,
        F: Future<Output = Result<Stream<T>, Failure>>,
    {
        let end = self.limits.lifetime.map(|time| Instant::now() + time);
        let first = async {
            let mut stream = open().await?;
            let message = stream.next().await;
            Ok((stream, message))
        };
        let first = match self.limits.initial {
            Some(time) => timeout(time, first)
                .await
                .unwrap_or_else(|_| Err(silent("first message", time))),
            None => first.await,
        };
        let (mut stream, mut message) = match first {
            Ok(first) => first,
            Err(failure) => return Ended::Failed(failure),
        };
        loop {
            match message {
                None => return Ended::Renew,
                Some(Err(Failure::Invalid(reason))) => {
                    tracing::warn!(target = %self.target, %reason, "invalid answer from the control plane");
                    on(Event::Invalid(reason));
                }
                Some(Err(failure)) => return Ended::Failed(failure),
                Some(Ok(answer)) => {
                    on(Event::Message(answer));
                    self.health.answered();
                    self.set_live(true);
                }
            }
            let idle = self.limits.idle.map(|time| Instant::now() + time);
            let until = idle.into_iter().chain(end).min();
            message = match until {
                None => stream.next().await,
                Some(until) => tokio::select! {
                    message = stream.next() => message,
                    () = sleep_until(until) => None,
                },
            };
        }
    }
}

/// Presence of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

enum Ended {
    Renew,
    Failed(Failure),
}

fn silent(what: &str, time: Duration) -> Failure {
    Failure::Unavailable(format!("no {what} in {time:?}"))
}

struct Backoff {
    max: Duration,
    count: u32,
}

impl Backoff {
    fn new(max: Duration) -> Self {
        Self { max, count: 0 }
    }

    /// Returns the next wait, shortened by up to a tenth so that streams do not restart all at once.
    fn next(&mut self) -> Duration {
        let wait = BACKOFF_MIN.saturating_mul(1 << self.count.min(16)).min(self.max);
        self.count = self.count.saturating_add(1);
        wait.mul_f64(1.0 - 0.1 * fastrand::f64())
    }
}
