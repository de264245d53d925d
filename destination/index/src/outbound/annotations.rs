//! Client-side settings from annotations: timeouts, retries, breaker, load. Each group is all or nothing: an invalid
//! value drops its group and is reported as a problem.

use std::{collections::BTreeMap, time::Duration};

use destination_k8s::keys;
use proxy_model::{
    defaults, duration, limits,
    outbound::{Ejection, FailureAccrual, Load},
    retry,
    route::{Backoff, GrpcRetry, Retry, Timeouts},
};

use super::backend;

/// Annotations of an object.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

/// Settings of routes; none is unset.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub timeouts: Option<Timeouts>,
    pub http_retry: Option<Retry>,
    pub grpc_retry: Option<Retry>,
}

/// Reason for which an annotation is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAnnotation {
    #[error("annotation {key}: {text:?} is not {expected}")]
    Value {
        key: &'static str,
        text: String,
        expected: &'static str,
    },
    #[error(
        "annotations {} and {}: the minimum penalty {min:?} must be positive and at most the maximum {max:?}",
        keys::ACCRUAL_MIN_PENALTY,
        keys::ACCRUAL_MAX_PENALTY
    )]
    Penalty { min: Duration, max: Duration },
}

impl<'a> Annotations<'a> {
    pub(crate) fn new(annotations: Option<&'a BTreeMap<String, String>>) -> Self {
        Self(annotations)
    }

    pub(crate) fn get(self, key: &str) -> Option<&'a str> {
        self.0?.get(key).map(|text| text.trim())
    }

    pub(crate) fn settings(self) -> Settings {
        Settings {
            timeouts: self.timeouts().ok().flatten(),
            http_retry: self.http_retry().ok().flatten(),
            grpc_retry: self.grpc_retry().ok().flatten(),
        }
    }

    /// Returns all invalid annotations.
    pub(crate) fn problems(self) -> impl Iterator<Item = InvalidAnnotation> {
        let found = [
            self.timeouts().err(),
            self.http_retry().err(),
            self.grpc_retry().err(),
            self.failure_accrual().err(),
            self.load().err(),
        ];
        found.into_iter().flatten()
    }

    fn read<T>(
        self,
        key: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidAnnotation> {
        let Some(text) = self.get(key) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| InvalidAnnotation::Value {
            key,
            text: text.to_owned(),
            expected,
        })
    }

    fn duration(self, key: &'static str) -> Result<Option<Duration>, InvalidAnnotation> {
        self.read(key, "a duration such as 5s or 300ms", duration::linkerd)
    }

    fn number<T: std::str::FromStr>(self, key: &'static str) -> Result<Option<T>, InvalidAnnotation> {
        self.read(key, "a number in range", |text| text.parse().ok())
    }

    fn flag(self, key: &'static str) -> Result<bool, InvalidAnnotation> {
        let parse = |text: &str| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        Ok(self.read(key, "true or false", parse)?.unwrap_or(false))
    }

    fn timeouts(self) -> Result<Option<Timeouts>, InvalidAnnotation> {
        let timeouts = Timeouts {
            response: self.duration(keys::TIMEOUT_RESPONSE)?,
            request: self.duration(keys::TIMEOUT_REQUEST)?,
            idle: self.duration(keys::TIMEOUT_IDLE)?,
        };
        Ok((timeouts != Timeouts::default()).then_some(timeouts))
    }

    fn retry(self) -> Result<Retry, InvalidAnnotation> {
        Ok(Retry {
            max_retries: self.number(keys::RETRY_LIMIT)?.unwrap_or(defaults::RETRIES),
            max_request_bytes: limits::REPLAY_BYTES.value as u32,
            statuses: vec![],
            grpc: GrpcRetry::default(),
            timeout: self.duration(keys::RETRY_TIMEOUT)?,
            backoff: Some(defaults::RETRY_BACKOFF),
        })
    }

    fn http_retry(self) -> Result<Option<Retry>, InvalidAnnotation> {
        let what = "a list of statuses such as 5xx, gateway-error, 429, 500-503";
        let Some(statuses) = self.read(keys::RETRY_HTTP, what, retry::statuses)? else {
            return Ok(None);
        };
        Ok(Some(Retry {
            statuses,
            ..self.retry()?
        }))
    }

    fn grpc_retry(self) -> Result<Option<Retry>, InvalidAnnotation> {
        let what = "a list of cancelled, deadline-exceeded, internal, resource-exhausted, unavailable";
        let Some(grpc) = self.read(keys::RETRY_GRPC, what, retry::grpc_codes)? else {
            return Ok(None);
        };
        Ok(Some(Retry { grpc, ..self.retry()? }))
    }

    /// Parses the breaker, if there is one.
    pub(crate) fn failure_accrual(self) -> Result<Option<FailureAccrual>, InvalidAnnotation> {
        let is_known = |text: &str| matches!(text, "consecutive" | "unified").then(|| text.to_owned());
        let Some(mode) = self.read(keys::FAILURE_ACCRUAL, "consecutive or unified", is_known)? else {
            return Ok(None);
        };
        let max_failures = self.number(keys::ACCRUAL_MAX_FAILURES)?.unwrap_or(7);
        let backoff = self.backoff()?;
        let ejection = self.ejection()?;
        if mode == "consecutive" {
            return Ok(Some(FailureAccrual::Consecutive {
                max_failures,
                backoff: Some(backoff),
                ejection,
            }));
        }
        let in_range = |text: &str| text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
        let rate = self.read(keys::ACCRUAL_SUCCESS_RATE, "a rate from 0 to 1", in_range)?;
        let long_enough = |text: &str| duration::linkerd(text).filter(|time| *time >= Duration::from_millis(10));
        let window = self.read(keys::ACCRUAL_WINDOW, "a duration of at least 10ms", long_enough)?;
        let few_enough = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= 1_000_000);
        let requests = self.read(keys::ACCRUAL_MIN_REQUESTS, "a number up to 1000000", few_enough)?;
        let hint = self.flag(keys::ACCRUAL_HONOR_RETRY_AFTER)?;
        Ok(Some(FailureAccrual::Unified {
            success_rate_threshold: rate.unwrap_or(0.8),
            decay: Some(window.unwrap_or(defaults::LOAD_DECAY)),
            min_requests: requests.unwrap_or(5),
            max_consecutive_failures: max_failures,
            backoff: Some(Backoff {
                respect_retry_after_hint: hint,
                ..backoff
            }),
            ejection,
        }))
    }

    fn ejection(self) -> Result<Ejection, InvalidAnnotation> {
        let percent = |text: &str| text.parse().ok().filter(|percent| *percent <= 100);
        Ok(Ejection {
            min_ready: self.number(keys::ACCRUAL_MIN_READY)?,
            max_percent: self.read(keys::ACCRUAL_MAX_EJECTED, "a percentage from 0 to 100", percent)?,
        })
    }

    fn backoff(self) -> Result<Backoff, InvalidAnnotation> {
        let min = self
            .duration(keys::ACCRUAL_MIN_PENALTY)?
            .unwrap_or(defaults::BREAKER_BACKOFF.min);
        let max = self
            .duration(keys::ACCRUAL_MAX_PENALTY)?
            .unwrap_or(defaults::BREAKER_BACKOFF.max);
        if min.is_zero() || max < min {
            return Err(InvalidAnnotation::Penalty { min, max });
        }
        let in_range = |text: &str| text.parse::<f32>().ok().filter(|ratio| (0.0..=100.0).contains(ratio));
        let jitter = self
            .read(keys::ACCRUAL_JITTER, "a ratio from 0 to 100", in_range)?
            .unwrap_or(defaults::BREAKER_BACKOFF.jitter);
        Ok(Backoff {
            min,
            max,
            jitter,
            respect_retry_after_hint: false,
        })
    }

    /// Parses the estimator of load.
    pub(crate) fn load(self) -> Result<Load, InvalidAnnotation> {
        if !self.flag(keys::PENALIZE_FAILURES)? {
            return Ok(backend::PLAIN);
        }
        let penalty = self
            .duration(keys::BIASER_PENALTY)?
            .unwrap_or(defaults::FAILURE_PENALTY);
        let max_retry_after = self
            .duration(keys::BIASER_MAX_RETRY_AFTER)?
            .unwrap_or(defaults::MAX_RETRY_AFTER);
        Ok(backend::penalizing(penalty, max_retry_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    fn accrual(pairs: &[(&str, &str)]) -> Result<Option<FailureAccrual>, InvalidAnnotation> {
        Annotations::new(Some(&map(pairs))).failure_accrual()
    }

    #[test]
    fn retries_once_unless_a_limit_is_set() {
        let retries = |more: &[(&str, &str)]| {
            let pairs = [&[(keys::RETRY_HTTP, "5xx")], more].concat();
            let retry = Annotations::new(Some(&map(&pairs))).http_retry();
            retry.expect("valid").expect("a retry").max_retries
        };
        assert_eq!(retries(&[]), 1, "Linkerd's default");
        assert_eq!(retries(&[(keys::RETRY_LIMIT, "3")]), 3);
    }

    #[test]
    fn both_kinds_of_breaker_take_bounds() {
        for mode in ["consecutive", "unified"] {
            let found = accrual(&[
                (keys::FAILURE_ACCRUAL, mode),
                (keys::ACCRUAL_MIN_READY, "3"),
                (keys::ACCRUAL_MAX_EJECTED, "40"),
            ]);
            let bounds = Ejection {
                min_ready: Some(3),
                max_percent: Some(40),
            };
            assert_eq!(
                found.map(|found| found.map(|accrual| accrual.ejection())),
                Ok(Some(bounds)),
                "{mode}"
            );
            for (key, value) in [(keys::ACCRUAL_MIN_READY, "half"), (keys::ACCRUAL_MAX_EJECTED, "101")] {
                let invalid = accrual(&[(keys::FAILURE_ACCRUAL, mode), (key, value)]);
                let reason = invalid.expect_err("invalid").to_string();
                assert!(reason.contains(&format!("{key}: {value:?}")), "{reason}");
            }
        }
        assert_eq!(accrual(&[(keys::ACCRUAL_MIN_READY, "3")]), Ok(None));
    }
}
