//! Reviews of tokens by the API server. Anybody may send a token, so reviews have a rate for each client and for all,
//! and a token that was found invalid is not reviewed again for a while.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use destination_source::cluster::{self, Client, Reviewed};
use proxy_model::limits::{Limit, Value};
use proxy_process::rate::{Bounds, Rate, Rates};

use crate::{
    limits,
    token::{AUDIENCE, Error},
};

/// Bytes of the API server's reason that are kept.
const REASON_BYTES: usize = 256;

/// Client of a request: the identity that the sidecar has verified, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// Reviewer of tokens; clones share their counts.
#[derive(Clone)]
pub(crate) struct Reviewer {
    client: Client,
    /// Accepts tokens for the API server itself, too.
    any_audience: bool,
    refused: Arc<dyn Fn(Limit<Value>) + Send + Sync>,
    gate: Arc<Mutex<Gate>>,
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviewer")
            .field("any_audience", &self.any_audience)
            .finish_non_exhaustive()
    }
}

impl Reviewer {
    pub(crate) fn new(
        client: Client,
        any_audience: bool,
        refused: impl Fn(Limit<Value>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            client,
            any_audience,
            refused: Arc::new(refused),
            gate: Arc::default(),
        }
    }

    /// Sets other bounds of one caller.
    #[cfg(test)]
    pub(crate) fn bound(&self, own: Bounds) {
        self.gate().own = own;
    }

    /// Returns the token's subject as reviewed by the API server.
    pub(crate) async fn subject(&self, token: &[u8], caller: &Caller) -> Result<String, Error> {
        let text = std::str::from_utf8(token).map_err(|_| Error::Invalid("not UTF-8".to_owned()))?;
        if let Some(reason) = self.gate().known_invalid(token, Instant::now()) {
            return Err(Error::Invalid(reason));
        }
        let for_us = self.review(text, &[AUDIENCE], caller).await?;
        let reviewed = if self.any_audience && is_other_audience(&for_us) {
            // As upstream: a pod injected before tokens had our audience presents the API server's own.
            self.review(text, &[], caller).await?
        } else {
            for_us
        };
        let subject = subject(reviewed);
        if let Err(Error::Invalid(reason)) = &subject {
            self.gate().note_invalid(token, reason, Instant::now());
        }
        subject
    }

    async fn review(&self, token: &str, audiences: &[&str], caller: &Caller) -> Result<Reviewed, Error> {
        let admitted = self.gate().admit(caller, Instant::now());
        if let Err(limit) = admitted {
            (self.refused)(limit.row());
            return Err(Error::TooMany(limit.name));
        }
        let reviewed = cluster::token_review(&self.client, token, audiences).await;
        reviewed.map_err(|error| Error::NotReviewed(error.to_string()))
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing under the lock panics half-way through a change.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if only the audience is wrong.
fn is_other_audience(reviewed: &Reviewed) -> bool {
    let error = reviewed.error.as_deref().unwrap_or_default();
    !reviewed.authenticated && error.contains("token audiences")
}

fn subject(reviewed: Reviewed) -> Result<String, Error> {
    match reviewed {
        Reviewed {
            authenticated: true,
            error: None,
            user,
            ..
        } => Ok(user),
        Reviewed { error, .. } => Err(Error::Invalid(
            error.unwrap_or_else(|| "the API server did not authenticate it".to_owned()),
        )),
    }
}

/// Reviews of each client and of all, and the tokens found invalid.
#[derive(Debug)]
struct Gate {
    /// Bounds of one caller.
    own: Bounds,
    /// Bounds of all callers.
    in_all: Bounds,
    all: Rate,
    by_caller: Rates<Caller>,
    /// Rate of all callers beyond the limit of those that are counted one by one.
    others: Rate,
    /// By a keyed hash, so that a token cannot be made to meet another's: the reason, and the end of the time.
    invalid: HashMap<u64, (Box<str>, Instant)>,
    hasher: RandomState,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            own: Bounds {
                row: limits::REVIEWS_IN_A_ROW.value,
                every: limits::REVIEW_EVERY.value,
            },
            in_all: Bounds {
                row: limits::REVIEWS_IN_A_ROW_IN_ALL.value,
                every: limits::REVIEW_EVERY_IN_ALL.value,
            },
            all: Rate::default(),
            by_caller: Rates::new(limits::REVIEWED_CLIENTS.value),
            others: Rate::default(),
            invalid: HashMap::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Gate {
    /// Admits a review, or returns the limit that is exceeded.
    fn admit(&mut self, caller: &Caller, now: Instant) -> Result<(), Limit<Duration>> {
        let own = self.by_caller.get(caller, now).unwrap_or(&mut self.others);
        if !own.has_room(self.own, now) {
            return Err(limits::REVIEW_EVERY);
        }
        if !self.all.take(self.in_all, now) {
            return Err(limits::REVIEW_EVERY_IN_ALL);
        }
        own.count(self.own, now);
        Ok(())
    }

    fn known_invalid(&self, token: &[u8], now: Instant) -> Option<String> {
        let (reason, until) = self.invalid.get(&self.hasher.hash_one(token))?;
        (now < *until).then(|| reason.to_string())
    }

    fn note_invalid(&mut self, token: &[u8], reason: &str, now: Instant) {
        if self.invalid.len() >= limits::INVALID_TOKENS.value {
            self.invalid.retain(|_, (_, until)| now < *until);
        }
        if self.invalid.len() >= limits::INVALID_TOKENS.value {
            self.invalid.clear();
        }
        let reason = reason.chars().take(REASON_BYTES).collect();
        let until = now + limits::INVALID_TOKEN_TIME.value;
        self.invalid.insert(self.hasher.hash_one(token), (reason, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller(name.into())
    }

    #[test]
    fn one_caller_is_held_to_its_rate_and_leaves_the_rest_to_others() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let row = limits::REVIEWS_IN_A_ROW.value as usize;
        let mut admitted = |name: &str, at| gate.admit(&caller(name), at).map_err(|limit| limit.name);
        assert_eq!((0..row * 2).filter(|_| admitted("a", now).is_ok()).count(), row);
        assert_eq!(admitted("a", now), Err("REVIEW_EVERY"));
        assert_eq!(admitted("b", now), Ok(()));
        assert_eq!(admitted("a", now + limits::REVIEW_EVERY.value), Ok(()));
        assert_eq!(admitted("a", now + limits::REVIEW_EVERY.value), Err("REVIEW_EVERY"));
    }

    #[test]
    fn all_callers_together_have_a_rate_and_their_memory_is_bounded() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let admitted = (0..10_000).filter(|at| gate.admit(&caller(&at.to_string()), now).is_ok());
        assert_eq!(admitted.count(), limits::REVIEWS_IN_A_ROW_IN_ALL.value as usize);
        assert!(gate.by_caller.count() <= limits::REVIEWED_CLIENTS.value);
        // Idle ones make room.
        let later = now + limits::REVIEW_EVERY_IN_ALL.value * 10_000;
        assert!((0..10_000).all(|at| {
            gate.admit(&caller(&at.to_string()), later + limits::REVIEW_EVERY_IN_ALL.value * at)
                .is_ok()
        }));
        assert!(gate.by_caller.count() <= limits::REVIEWED_CLIENTS.value);
    }

    #[test]
    fn invalid_tokens_are_remembered_for_a_while_in_bounded_memory() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        gate.note_invalid(b"bad", "expired", now);
        assert_eq!(gate.known_invalid(b"bad", now).as_deref(), Some("expired"));
        assert_eq!(gate.known_invalid(b"bad", now + limits::INVALID_TOKEN_TIME.value), None);
        assert_eq!(gate.known_invalid(b"other", now), None);
        for at in 0..limits::INVALID_TOKENS.value * 2 {
            gate.note_invalid(at.to_string().as_bytes(), "unknown", now);
        }
        assert!(gate.invalid.len() <= limits::INVALID_TOKENS.value);
    }

    #[test]
    fn unauthenticated_reviews_are_rejected() {
        let reviewed = |authenticated: bool, error: Option<&str>| Reviewed {
            authenticated,
            user: "u".to_owned(),
            error: error.map(str::to_owned),
            ..Reviewed::default()
        };
        assert_eq!(subject(reviewed(true, None)), Ok("u".to_owned()));
        assert!(subject(reviewed(true, Some("but"))).is_err());
        assert_eq!(
            subject(reviewed(false, Some("invalid bearer token"))),
            Err(Error::Invalid("invalid bearer token".to_owned()))
        );
        let others = "[invalid bearer token, token audiences [\"a\"] is invalid for the target audiences [\"b\"]]";
        assert!(is_other_audience(&reviewed(false, Some(others))));
        assert!(!is_other_audience(&reviewed(true, None)) && !is_other_audience(&reviewed(false, Some("expired"))));
    }
}
