//! Who of several equal processes writes: the one that holds the Lease.
//!
//! Whether a holder is gone is told by how long *we* have seen its lease unchanged, never by comparing its clock to ours.

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

/// Which lease, and for how long.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are: the pod's name, so that no two are the same.
    pub holder: String,
    /// How long a holder that says nothing keeps the lease; a second at least.
    pub duration: Duration,
    /// How often it is renewed: a third of that, so that two failures cost nothing.
    pub renew: Duration,
}

impl LeaseOptions {
    /// A lease of 30 s, renewed every 10.
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

/// Tries to hold a lease, and says whether it does.
#[derive(Debug)]
pub struct Elector {
    client: Client,
    options: LeaseOptions,
    leads: watch::Sender<bool>,
    /// What the lease said when it changed last, and when we saw that.
    seen: Option<(Record, Instant)>,
    /// When we renewed last.
    renewed: Option<Instant>,
}

/// What changes when a holder renews.
type Record = (Option<String>, Option<MicroTime>);

/// What to do about a lease.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Renew,
    Take,
    Wait,
}

/// What `me` does about a lease whose record was seen unchanged for `seen_for`.
fn decide(me: &str, lease: &LeaseSpec, seen_for: Duration, fallback: Duration) -> Act {
    let lasts = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(fallback, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => Act::Renew,
        None | Some("") => Act::Take,
        Some(_) if seen_for >= lasts => Act::Take,
        Some(_) => Act::Wait,
    }
}

impl Elector {
    /// An elector, and whether we hold the lease at any moment.
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

    /// Runs until `stop`, and gives the lease back then, so that the next holder need not wait.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let held = self.step().await;
            self.tell(held);
            let pause = self.pause();
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if *self.leads.borrow() {
            self.leads.send_replace(false);
            if let Err(error) = self.release().await {
                tracing::info!("the lease runs out by itself: {error}");
            }
        }
    }

    /// A holder renews in time; the others look as often.
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

    fn tell(&mut self, held: Result<bool, Error>) {
        let leads = match held {
            Ok(holds) => {
                self.renewed = holds.then(Instant::now);
                holds
            }
            Err(error) => {
                tracing::debug!("{error}");
                // Nobody else takes it before its end; we stop well before, for our clocks may run differently.
                let safe = self.options.duration * 2 / 3;
                self.renewed.is_some_and(|renewed| renewed.elapsed() < safe)
            }
        };
        let changed = self
            .leads
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            let lease = format!("{}/{}", self.options.namespace, self.options.name);
            tracing::info!(
                lease,
                "{}",
                if leads {
                    "we hold the lease"
                } else {
                    "we no longer hold the lease"
                }
            );
        }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.raw().clone(), &self.options.namespace)
    }

    /// Looks at the lease, renews or takes it; says whether it is ours.
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
            return lost(self.client.call("create leases", made).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let record = (spec.holder_identity.clone(), spec.renew_time.clone());
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => Instant::now(),
        };
        self.seen = Some((record, since));
        let take = match decide(&self.options.holder, &spec, since.elapsed(), self.options.duration) {
            Act::Wait => return Ok(false),
            Act::Renew => false,
            Act::Take => true,
        };
        lease.spec = Some(self.spec(&spec, take));
        // With the version that we read: of two that try, one loses.
        let params = PostParams::default();
        let written = leases.replace(&self.options.name, &params, &lease);
        lost(self.client.call("update leases", written).await)
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

/// Whether a write succeeded; somebody else's was first, if it did not.
fn lost<T>(written: Result<T, Error>) -> Result<bool, Error> {
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
    fn a_lease_is_taken_only_when_its_holder_was_silent_for_its_whole_time() {
        let lease = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let decided = |lease: &LeaseSpec, seconds: u64| {
            decide("me", lease, Duration::from_secs(seconds), Duration::from_secs(30))
        };
        assert_eq!(decided(&lease("me"), 100), Act::Renew);
        assert_eq!(decided(&lease("you"), 14), Act::Wait);
        assert_eq!(decided(&lease("you"), 15), Act::Take);
        assert_eq!(decided(&lease(""), 0), Act::Take);
        assert_eq!(decided(&LeaseSpec::default(), 0), Act::Take);
        let endless = LeaseSpec {
            lease_duration_seconds: None,
            ..lease("you")
        };
        assert_eq!(decided(&endless, 29), Act::Wait);
        assert_eq!(decided(&endless, 30), Act::Take);
    }
}
