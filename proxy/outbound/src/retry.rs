//! Retries: a request that failed goes again, as often as its route or the budget allows.

use std::{
    pin::{Pin, pin},
    sync::PoisonError,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use proxy_core::backoff;
use proxy_http::{Body, headers::GRPC_STATUS};
use proxy_model::route::{Backoff, GrpcRetry, Retry};
use proxy_transport::timers;

use crate::{
    Error,
    deliver::{Client, Delivered, deliver},
    request::Outgoing,
    route::{LeadsTo, Plan},
};

/// Waits between retries where the policy sends none; upstream's figures.
const RETRY_BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(25),
    max: Duration::from_millis(250),
    jitter: 1.0,
    respect_retry_after_hint: false,
};

/// Sends a request until it has a response that may be shown, or nothing more is allowed.
pub(crate) async fn exchange(client: &Client<'_>, plan: &Plan, out: &mut Outgoing<'_>) -> Result<Delivered, Error> {
    deposit(plan);
    let mut retries = 0;
    let mut now = plan.started;
    loop {
        let mut result = attempt(plan, retries, pin!(deliver(client, plan, out, now))).await;
        let trailers = match &mut result {
            Ok(delivered) if needs_trailers(plan) && delivered.track.is_grpc() => peek(delivered).await,
            _ => None,
        };
        if !wants_retry(plan, &result, trailers) {
            if let (1.., LeadsTo::Policy(rule), Ok(_)) = (retries, &plan.leads_to, &result) {
                rule.retries.successes.inc();
            }
            return result;
        }
        if !may_retry(plan, out, retries) {
            return result;
        }
        if let Ok(delivered) = result {
            delivered.track.discard(trailers);
        }
        if let Some(retry) = &plan.retry {
            let policy = retry.backoff.as_ref().unwrap_or(&RETRY_BACKOFF);
            let wait = backoff::wait(policy, retries, &mut client.shared.rng.borrow_mut());
            timers::sleep(wait).await;
        }
        retries += 1;
        now = Instant::now();
    }
}

/// One attempt in its time. Pinned by the caller: the future of a request holds it once, not once for each way to wait.
async fn attempt(
    plan: &Plan,
    retries: u32,
    attempt: Pin<&mut impl Future<Output = Result<Delivered, Error>>>,
) -> Result<Delivered, Error> {
    match attempt_timeout(plan, retries) {
        None => attempt.await,
        Some(time) => timers::timeout(time, attempt)
            .await
            .unwrap_or(Err(Error::Timeout("retry timeout"))),
    }
}

/// A first attempt pays into the budget.
fn deposit(plan: &Plan) {
    if let LeadsTo::Profile(_, route) = &plan.leads_to
        && let Some(budget) = &route.budget
    {
        budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .deposit(Instant::now());
    }
}

/// Time for one attempt until its response's head; the last one may take as long as it likes.
fn attempt_timeout(plan: &Plan, retries: u32) -> Option<Duration> {
    let retry = plan
        .retry
        .as_ref()
        .filter(|retry| retries < u32::from(retry.max_retries))?;
    retry.timeout
}

/// Whether the result asks for another attempt.
fn wants_retry(plan: &Plan, result: &Result<Delivered, Error>, trailers: Option<u32>) -> bool {
    match (&plan.leads_to, result) {
        (LeadsTo::Profile(_, route), Ok(delivered)) => {
            route.is_retryable && delivered.track.class(trailers).is_failure()
        }
        (LeadsTo::Profile(..), Err(_)) => false,
        (LeadsTo::Policy(_), result) => plan.retry.as_ref().is_some_and(|retry| match result {
            Ok(delivered) => {
                let status = delivered.response.status().as_u16();
                let by_status = retry
                    .statuses
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&status));
                by_status
                    || trailers
                        .or(delivered.track.grpc_status())
                        .is_some_and(|code| has_code(&retry.grpc, code))
            }
            Err(Error::FailFast(_) | Error::Timeout(_)) => true,
            Err(Error::Endpoint { error, .. }) => error.h2_reason() == Some(h2::Reason::REFUSED_STREAM),
            Err(_) => false,
        }),
    }
}

/// Whether another attempt is allowed; if it is, it is paid for.
fn may_retry(plan: &Plan, out: &Outgoing<'_>, retries: u32) -> bool {
    if !out.is_complete() {
        return false;
    }
    match &plan.leads_to {
        LeadsTo::Profile(_, route) => {
            let now = Instant::now();
            let pay =
                |budget: &crate::SharedBudget| budget.lock().unwrap_or_else(PoisonError::into_inner).withdraw(now);
            let paid = route.budget.as_ref().is_some_and(pay);
            if paid {
                route.slot.retryable.inc();
            } else {
                route.slot.no_budget.inc();
            }
            paid
        }
        LeadsTo::Policy(rule) => {
            let max = plan.retry.as_ref().map_or(0, |retry| u32::from(retry.max_retries));
            let allowed = retries < max;
            if allowed {
                rule.retries.requests.inc();
            } else {
                rule.retries.limit_exceeded.inc();
            }
            allowed
        }
    }
}

fn has_code(retry: &GrpcRetry, code: u32) -> bool {
    match code {
        1 => retry.cancelled,
        4 => retry.deadline_exceeded,
        8 => retry.resource_exhausted,
        13 => retry.internal,
        14 => retry.unavailable,
        _ => false,
    }
}

/// Whether the gRPC status in the trailers may decide about a retry.
fn needs_trailers(plan: &Plan) -> bool {
    match (&plan.leads_to, &plan.retry) {
        (LeadsTo::Profile(_, route), _) => route.is_retryable,
        (LeadsTo::Policy(_), Some(Retry { grpc, .. })) => *grpc != GrpcRetry::default(),
        (LeadsTo::Policy(_), None) => false,
    }
}

/// Looks whether a gRPC response consists of trailers alone; what was read of it is put back.
async fn peek(delivered: &mut Delivered) -> Option<u32> {
    let mut body = std::mem::take(delivered.response.body_mut());
    let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let trailers = match &frame {
        Some(Ok(frame)) => frame.trailers_ref().and_then(|trailers| trailers.get(GRPC_STATUS)),
        _ => None,
    };
    let status = trailers.and_then(|status| status.to_str().ok()?.parse().ok());
    *delivered.response.body_mut() = Body::boxed(Peeked {
        first: frame,
        rest: body,
    });
    status
}

/// A body whose first frame was read already.
struct Peeked {
    first: Option<Result<Frame<Bytes>, proxy_http::Error>>,
    rest: Body,
}

impl http_body::Body for Peeked {
    type Data = Bytes;
    type Error = proxy_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, proxy_http::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            Some(Ok(frame)) => {
                let mut hint = self.rest.size_hint();
                let kept = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper + kept);
                }
                hint.set_lower(hint.lower() + kept);
                hint
            }
            _ => self.rest.size_hint(),
        }
    }
}
