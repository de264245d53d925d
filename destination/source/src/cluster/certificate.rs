//! The certificate of a server that the API server calls (a webhook, an aggregated API): made, kept in a Secret, replaced
//! before it expires, and believed by whoever calls, without anybody's help.
//!
//! All replicas do the same; of two that write, one wins and the other reads. A new certificate is served only after those
//! who call were told to believe it, and what they believed before stays believed, so that replicas may change one by one.
//! A Secret that is somebody else's (cert-manager's, a person's) is only read.

mod make;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration, time::SystemTime};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::make::{Act, Situation, decide, make};
use super::{
    CaBundleOf, Client, NewSecret, SecretData,
    backoff::{Backoff, ERRORS},
    create_secret,
    secret::{find_secret, write_secret_at},
    write_ca_bundle,
};
use crate::Error;

/// How often the Secret and those who should believe it are looked at. An upgrade or a person may have changed them.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between telling API servers what to believe and serving it: their caches are behind by less.
const SETTLE: Duration = Duration::from_secs(2);
/// After somebody else was first.
const AGAIN: Duration = Duration::from_millis(100);

/// What to keep.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret, type `kubernetes.io/tls`.
    pub secret: String,
    /// Labels of the Secret, if we make it.
    pub labels: BTreeMap<String, String>,
    /// The server's names, such as `linkerd-proxy-injector.linkerd.svc`.
    pub dns_names: Vec<String>,
    /// Somebody else makes the Secret; it is waited for.
    pub external: bool,
    /// Who must believe it.
    pub ca_bundle_of: Vec<(CaBundleOf, String)>,
}

/// A certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate, and what stands between it and the CA.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// What is in force; none until there is something.
pub type Current = watch::Receiver<Option<Arc<Credentials>>>;

/// Keeps a certificate in the task that is returned, until `stop`. An outage of the API server changes nothing.
pub fn keep(
    client: &Client,
    keep: Keep,
    stop: CancellationToken,
) -> (Current, impl Future<Output = ()> + Send + use<>) {
    let (sender, receiver) = watch::channel(None);
    let keeper = Keeper::new(client.clone(), keep, sender, SystemTime::now);
    (receiver, async move {
        stop.run_until_cancelled(keeper.run()).await;
    })
}

struct Keeper {
    client: Client,
    keep: Keep,
    current: watch::Sender<Option<Arc<Credentials>>>,
    clock: fn() -> SystemTime,
    /// What was said last, so that it is said once.
    said: Option<String>,
}

impl Keeper {
    fn new(
        client: Client,
        keep: Keep,
        current: watch::Sender<Option<Arc<Credentials>>>,
        clock: fn() -> SystemTime,
    ) -> Self {
        Self {
            client,
            keep,
            current,
            clock,
            said: None,
        }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.step().await {
                Ok(()) => {
                    backoff.reset();
                    INTERVAL
                }
                Err(Error::Conflict { .. }) => AGAIN,
                Err(error) => {
                    self.say(&error.to_string());
                    backoff.next(ERRORS, fastrand::f64())
                }
            };
            sleep(wait).await;
        }
    }

    /// Looks at the Secret, makes or replaces it if it has to be, and takes what it holds.
    async fn step(&mut self) -> Result<(), Error> {
        let Keep { namespace, secret, .. } = &self.keep;
        let found = find_secret(&self.client, namespace, secret).await?;
        let now = (self.clock)();
        let situation = Situation {
            keep: &self.keep,
            found: found.as_ref(),
            now,
        };
        match decide(situation) {
            Act::Use(credentials, bundle) => self.take(credentials, bundle).await,
            Act::Wait(why) => {
                self.say(&why);
                Ok(())
            }
            Act::Create => {
                let data = self.made(None, now)?;
                let new = NewSecret {
                    namespace: namespace.clone(),
                    name: secret.clone(),
                    kind: "kubernetes.io/tls".to_owned(),
                    labels: make::labels(&self.keep),
                    data,
                };
                create_secret(&self.client, new).await?;
                tracing::info!(%namespace, %secret, "made a certificate");
                Err(self.again())
            }
            Act::Renew { previous, version } => {
                let data = self.made(Some(&previous), now)?;
                write_secret_at(&self.client, (namespace, secret), data, &version).await?;
                tracing::info!(%namespace, %secret, "replaced the certificate before its end");
                Err(self.again())
            }
        }
    }

    /// What was written is read before it is used: what the cluster holds counts.
    fn again(&self) -> Error {
        Error::Conflict {
            what: format!("keep the Secret {}", self.keep.secret),
        }
    }

    fn made(&self, previous: Option<&str>, now: SystemTime) -> Result<SecretData, Error> {
        make(&self.keep.dns_names, previous, now).map_err(|error| Error::Config(error.to_string()))
    }

    async fn take(&mut self, credentials: Credentials, bundle: Option<String>) -> Result<(), Error> {
        let mut told = false;
        let mut failed = None;
        for (of, name) in bundle.iter().flat_map(|_| &self.keep.ca_bundle_of) {
            let pem = bundle.as_deref().unwrap_or_default();
            match write_ca_bundle(&self.client, *of, name, pem.as_bytes()).await {
                Ok(changed) => told |= changed,
                // Not installed (yet): nobody calls us through it.
                Err(Error::Absent { .. }) => {}
                Err(error) => failed = Some(error),
            }
        }
        let served = self.current.borrow().clone();
        let is_new = served.as_deref() != Some(&credentials);
        if is_new {
            match (&served, &failed) {
                // Those who call believe what we serve; what is new, perhaps not yet.
                (Some(_), Some(_)) => {}
                (before, _) => {
                    if before.is_some() && told {
                        sleep(SETTLE).await;
                    }
                    self.current.send_replace(Some(Arc::new(credentials)));
                }
            }
        }
        match failed {
            None => {
                self.said = None;
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    fn say(&mut self, what: &str) {
        if self.said.as_deref() != Some(what) {
            let Keep { namespace, secret, .. } = &self.keep;
            tracing::warn!(%namespace, %secret, "the certificate: {what}");
            self.said = Some(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
