//! Retries: sends a failed request again, as often as its route or the budget allows.

use std::{
    pin::Pin,
    sync::PoisonError,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use proxy_core::{backoff, classify};
use proxy_http::{Body, headers::GRPC_STATUS};
use proxy_model::{
    defaults,
    route::{GrpcRetry, Retry},
};
use proxy_transport::timers;

use crate::{
    Error, SharedBudget,
    deliver::{Client, Delivered, deliver},
    request::Outgoing,
    route::Plan,
    snapshot::ProfileRoute,
};

/// Sends a request until its response needs no retry, or no retry is allowed.
pub(crate) async fn exchange(client: &Client<'_>, plan: &Plan, out: &mut Outgoing<'_>) -> Result<Delivered, Error> {
    deposit(plan);
    let mut retries = 0;
    let mut now = plan.started;
    let mut tried = Vec::new();
    loop {
        let mut result = deliver(client, plan, out, now, &mut tried).await;
        let trailers = match &mut result {
            Ok(delivered) if needs_trailers(plan) && delivered.track.is_grpc() => peek(delivered).await,
            _ => None,
        };
        if !wants_retry(plan, out, &result, trailers) {
            if retries > 0
                && result.is_ok()
                && let Some(counters) = plan.retries()
            {
                counters.successes.inc();
            }
            return result;
        }
        if let Ok(delivered) = &mut result {
            delivered.track.judge_early(trailers);
        }
        if !may_retry(plan, out, retries) {
            return result;
        }
        if let Ok(delivered) = result {
            tried.push(delivered.track.endpoint_addr());
            delivered.track.discard(trailers);
        }
        if let Some(retry) = &plan.retry {
            let policy = retry.backoff.as_ref().unwrap_or(&defaults::RETRY_BACKOFF);
            let wait = backoff::wait(policy, retries, &mut client.context.rng.borrow_mut());
            timers::sleep(wait).await;
        }
        retries += 1;
        now = Instant::now();
    }
}

/// Deposits the first attempt into the budget.
fn deposit(plan: &Plan) {
    if let Some(budget) = budget(plan) {
        budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .deposit(Instant::now());
    }
}

/// Budget of the retries: of the profile's route, if it retries, else of the policy's.
fn budget(plan: &Plan) -> Option<&SharedBudget> {
    match plan.source.retryable() {
        Some(route) => route.budget.as_ref(),
        None => plan.source.rule().filter(|_| plan.retry.is_some())?.budget.as_ref(),
    }
}

/// Returns true if the result should be retried, by the profile's route or by the policy's.
fn wants_retry(plan: &Plan, out: &Outgoing<'_>, result: &Result<Delivered, Error>, trailers: Option<u32>) -> bool {
    let by_profile = |route: &ProfileRoute| match result {
        Ok(delivered) => delivered.track.class(trailers).is_failure(),
        Err(error) => Failed::new(error, out).is_some_and(|failed| {
            classify::response(&route.classes, failed.status, failed.grpc.is_some(), failed.grpc).is_failure()
        }),
    };
    let by_policy = |retry: &Retry| match result {
        Ok(delivered) => {
            let grpc = trailers.or(delivered.track.grpc_status());
            matches(retry, delivered.response.status(), grpc)
        }
        Err(Error::FailFast(_) | Error::AttemptTimeout) => true,
        Err(Error::Endpoint { error, .. }) if error.h2_reason() == Some(h2::Reason::REFUSED_STREAM) => true,
        Err(error) => Failed::new(error, out).is_some_and(|failed| matches(retry, failed.status, failed.grpc)),
    };
    plan.source.retryable().is_some_and(by_profile) || plan.retry.as_ref().is_some_and(by_policy)
}

/// Response that the failure of an endpoint is to retries. In upstream such failures become responses below them.
#[derive(Copy, Clone, Debug)]
struct Failed {
    status: StatusCode,
    grpc: Option<u32>,
}

impl Failed {
    /// `None` for errors of the proxy's own, and for a reset that the client's HTTP/2 stream is reset with.
    fn new(error: &Error, out: &Outgoing<'_>) -> Option<Self> {
        match error {
            Error::Endpoint { error, .. } if out.is_http2() && error.h2_reason().is_some() => return None,
            Error::Endpoint { .. } | Error::Connect { .. } => {}
            _ => return None,
        }
        let rejection = error.rejection();
        Some(if out.is_grpc() {
            Self {
                status: StatusCode::OK,
                grpc: Some(rejection.grpc.0.into()),
            }
        } else {
            Self {
                status: rejection.status,
                grpc: None,
            }
        })
    }
}

/// Returns true if a policy retries a response with this status.
fn matches(retry: &Retry, status: StatusCode, grpc: Option<u32>) -> bool {
    let status = status.as_u16();
    let by_status = retry
        .statuses
        .iter()
        .any(|(low, high)| (*low..=*high).contains(&status));
    by_status || grpc.is_some_and(|code| has_code(&retry.grpc, code))
}

/// Returns true if a retry is allowed, and withdraws it from the budget. The policy's limit holds for the retries of a
/// profile, too.
fn may_retry(plan: &Plan, out: &Outgoing<'_>, retries: u32) -> bool {
    if !out.is_complete() {
        return false;
    }
    let counters = plan.retries();
    let has_rule = plan.source.rule().is_some();
    if has_rule && !plan.distribution().is_ready(Instant::now()) {
        if let Some(counters) = counters {
            counters.overflow.inc();
        }
        return false;
    }
    let is_below = |retry: &Retry| retries < u32::from(retry.max_retries);
    let is_within = plan.retry.as_ref().is_none_or(is_below);
    let paid = is_within && withdraw(budget(plan));
    if let Some(route) = plan.source.retryable().filter(|_| is_within) {
        let counted = if paid {
            &route.slot.retryable
        } else {
            &route.slot.no_budget
        };
        counted.inc();
    }
    if let Some(counters) = counters {
        let counted = if paid {
            &counters.requests
        } else {
            &counters.limit_exceeded
        };
        counted.inc();
    }
    paid
}

fn withdraw(budget: Option<&SharedBudget>) -> bool {
    budget.is_some_and(|budget| {
        let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.withdraw(Instant::now())
    })
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

/// Returns true if the gRPC status in the trailers may cause a retry.
fn needs_trailers(plan: &Plan) -> bool {
    let by_policy = |retry: &Retry| retry.grpc != GrpcRetry::default();
    plan.source.retryable().is_some() || plan.retry.as_ref().is_some_and(by_policy)
}

/// Reads the gRPC status of a response that consists of trailers alone. Puts back the frame it reads.
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

/// Body whose first frame was read already.
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
