//! Leader election by a Lease: of several equal processes, the holder writes.
//!
//! A holder counts as gone when *this* process has seen its lease unchanged for its duration; clocks of two machines
//! are never compared. That is why `kubert`'s lease is not used: it compares the holder's `renewTime` with its own
//! clock.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::Client;
use crate::Error;

/// Options of a lease.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Identity of this process: the pod's name, which is unique.
    pub holder: String,
    /// Time for which a silent holder keeps the lease; at least a second.
    pub duration: Duration,
    /// Interval of renewals: a third of that, so that two failures do no harm.
    pub renew: Duration,
}

impl LeaseOptions {
    /// Makes options for a lease of 30 s, renewed every 10.
    pub fn new(namespace: &str, name: &str, holder: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            holder: holder.to_owned(),
            duration: Duration::from_secs(30),
            renew: Duration::from_secs(10),
        }
    }
}

/// Candidate for a lease.
#[derive(Debug)]
pub struct Elector {
    client: Client,
    options: LeaseOptions,
    leads: watch::Sender<bool>,
    /// Last change of the lease, and the time at which it was seen.
    seen: Option<(Record, Instant)>,
    /// Last renewal by this process.
    renewed: Option<Instant>,
}

/// Holder and renewal time, which change with each renewal.
type Record = (Option<String>, Option<MicroTime>);

/// Action on a lease.
#[derive(Debug, PartialEq, Eq)]
enum LeaseAction {
    Renew,
    Take,
    Wait,
}

/// Decides the action of `me` on a lease that was seen unchanged for `seen_for`.
fn decide(me: &str, lease: &LeaseSpec, seen_for: Duration, fallback: Duration) -> LeaseAction {
    let lasts = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(fallback, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => LeaseAction::Renew,
        None | Some("") => LeaseAction::Take,
        Some(_) if seen_for >= lasts => LeaseAction::Take,
        Some(_) => LeaseAction::Wait,
    }
}

impl Elector {
    /// Makes an elector and the receiver of its leadership.
    pub fn new(client: &Client, options: LeaseOptions) -> (Self, watch::Receiver<bool>) {
        let (leads, led) = watch::channel(false);
        let elector = Self {
            client: client.clone(),
            options,
            leads,
            seen: None,
            renewed: None,
        };
        (elector, led)
    }

    /// Runs until `stop`, then releases the lease, so that the next holder need not wait.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let held = self.step().await;
            self.report(held);
            let pause = self.pause();
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if *self.leads.borrow() {
            self.leads.send_replace(false);
            if let Err(error) = self.release().await {
                tracing::info!("cannot release the lease, which will expire: {error}");
            }
        }
    }

    /// Returns the time to the next step: holders renew, others check, at the same interval.
    fn pause(&self) -> Duration {
        // Sooner after a failure, while there is still time.
        let failed = self
            .renewed
            .is_some_and(|renewed| renewed.elapsed() >= self.options.renew / 2);
        let pause = if failed {
            self.options.renew / 5
        } else {
            self.options.renew
        };
        pause.mul_f64(1.0 - fastrand::f64() / 10.0)
    }

    fn report(&mut self, held: Result<bool, Error>) {
        let leads = match held {
            Ok(holds) => {
                self.renewed = holds.then(Instant::now);
                holds
            }
            Err(error) => {
                tracing::debug!("{error}");
                // No other process takes it before it expires; stop well before, as clocks may differ in speed.
                let safe = self.options.duration * 2 / 3;
                self.renewed.is_some_and(|renewed| renewed.elapsed() < safe)
            }
        };
        let changed = self
            .leads
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            let lease = format!("{}/{}", self.options.namespace, self.options.name);
            tracing::info!(lease, "{}", if leads { "acquired the lease" } else { "lost the lease" });
        }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.raw().clone(), &self.options.namespace)
    }

    /// Reads the lease, renews or takes it, and returns true if this process holds it.
    async fn step(&mut self) -> Result<bool, Error> {
        let leases = self.leases();
        let found = self
            .client
            .call("get leases", leases.get_opt(&self.options.name))
            .await?;
        let Some(mut lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.options.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(&LeaseSpec::default(), true)),
            };
            let params = PostParams::default();
            let made = leases.create(&params, &lease);
            return won(self.client.call("create leases", made).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let record = (spec.holder_identity.clone(), spec.renew_time.clone());
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => Instant::now(),
        };
        self.seen = Some((record, since));
        let take = match decide(&self.options.holder, &spec, since.elapsed(), self.options.duration) {
            LeaseAction::Wait => return Ok(false),
            LeaseAction::Renew => false,
            LeaseAction::Take => true,
        };
        lease.spec = Some(self.spec(&spec, take));
        // Carries the version that was read: of two concurrent writers, one fails.
        let params = PostParams::default();
        let written = leases.replace(&self.options.name, &params, &lease);
        won(self.client.call("update leases", written).await)
    }

    fn spec(&self, before: &LeaseSpec, take: bool) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mut spec = LeaseSpec {
            holder_identity: Some(self.options.holder.clone()),
            lease_duration_seconds: i32::try_from(self.options.duration.as_secs().max(1)).ok(),
            renew_time: Some(now.clone()),
            ..before.clone()
        };
        if take {
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(before.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        }
        spec
    }

    async fn release(&self) -> Result<(), Error> {
        let leases = self.leases();
        let mut lease = self.client.call("get leases", leases.get(&self.options.name)).await?;
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.options.holder) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let params = PostParams::default();
        let written = leases.replace(&self.options.name, &params, &lease);
        self.client.call("update leases", written).await.map(|_| ())
    }
}

/// Returns true if a write succeeded, and false if a concurrent one was first.
fn won<T>(written: Result<T, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_lease_only_after_its_full_duration_of_silence() {
        let lease = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let decided = |lease: &LeaseSpec, seconds: u64| {
            decide("me", lease, Duration::from_secs(seconds), Duration::from_secs(30))
        };
        assert_eq!(decided(&lease("me"), 100), LeaseAction::Renew);
        assert_eq!(decided(&lease("you"), 14), LeaseAction::Wait);
        assert_eq!(decided(&lease("you"), 15), LeaseAction::Take);
        assert_eq!(decided(&lease(""), 0), LeaseAction::Take);
        assert_eq!(decided(&LeaseSpec::default(), 0), LeaseAction::Take);
        let endless = LeaseSpec {
            lease_duration_seconds: None,
            ..lease("you")
        };
        assert_eq!(decided(&endless, 29), LeaseAction::Wait);
        assert_eq!(decided(&endless, 30), LeaseAction::Take);
    }
}
