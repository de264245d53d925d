//! Certificate of a server that the API server calls (a webhook, an aggregated API): made, kept in a Secret, renewed
//! before it expires, and published as `caBundle`, without an operator.
//!
//! All replicas do the same; of two that write, one wins and the other reads. A new certificate is served only after
//! the callers trust it, and the previous CA stays trusted, so that replicas may switch one by one. A Secret managed
//! by others (cert-manager, an operator) is only read.

mod make;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration, time::SystemTime};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::make::{CertificateAction, Situation, decide, make};
use super::{
    CaBundleOf, Client, NewSecret, SecretData,
    backoff::{Backoff, ERRORS},
    create_secret,
    secret::{find_secret, write_secret_at},
    write_ca_bundle,
};
use crate::Error;

/// Interval at which the Secret and the `caBundle`s are checked. An upgrade or an operator may have changed them.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time between publishing a CA and serving its certificate: caches of API servers lag by less.
const SETTLE: Duration = Duration::from_secs(2);
/// Delay after a conflict.
const AGAIN: Duration = Duration::from_millis(100);

/// Certificate to keep.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret, type `kubernetes.io/tls`.
    pub secret: String,
    /// Labels of the Secret, if it is created here.
    pub labels: BTreeMap<String, String>,
    /// DNS names of the server, such as `linkerd-proxy-injector.linkerd.svc`.
    pub dns_names: Vec<String>,
    /// The Secret is managed by others and only awaited.
    pub external: bool,
    /// Objects whose `caBundle` must trust it.
    pub ca_bundle_of: Vec<(CaBundleOf, String)>,
}

/// Certificate and key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Certificate, followed by its chain below the CA.
    pub cert_pem: String,
    /// Private key.
    pub key_pem: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Receiver of the current credentials; none until there are any.
pub type Current = watch::Receiver<Option<Arc<Credentials>>>;

/// Keeps a certificate in the returned task, until `stop`. An outage of the API server changes nothing.
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
    /// Last warning, so that each is logged once.
    warned: Option<String>,
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
            warned: None,
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
                    self.warn(&error.to_string());
                    backoff.next(ERRORS, fastrand::f64())
                }
            };
            sleep(wait).await;
        }
    }

    /// Reads the Secret, creates or renews it if necessary, and adopts its content.
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
            CertificateAction::Use(credentials, bundle) => self.adopt(credentials, bundle).await,
            CertificateAction::Wait(why) => {
                self.warn(&why);
                Ok(())
            }
            CertificateAction::Create => {
                let data = self.made(None, now)?;
                let new = NewSecret {
                    namespace: namespace.clone(),
                    name: secret.clone(),
                    kind: "kubernetes.io/tls".to_owned(),
                    labels: make::labels(&self.keep),
                    data,
                };
                create_secret(&self.client, new).await?;
                tracing::info!(%namespace, %secret, "created the certificate");
                Err(self.again())
            }
            CertificateAction::Renew { previous, version } => {
                let data = self.made(Some(&previous), now)?;
                write_secret_at(&self.client, (namespace, secret), data, &version).await?;
                tracing::info!(%namespace, %secret, "renewed the certificate");
                Err(self.again())
            }
        }
    }

    /// Makes the loop read the Secret again, as only the content on the cluster counts.
    fn again(&self) -> Error {
        Error::Conflict {
            what: format!("keep the Secret {}", self.keep.secret),
        }
    }

    fn made(&self, previous: Option<&str>, now: SystemTime) -> Result<SecretData, Error> {
        make(&self.keep.dns_names, previous, now).map_err(|error| Error::Config(error.to_string()))
    }

    async fn adopt(&mut self, credentials: Credentials, bundle: Option<String>) -> Result<(), Error> {
        let mut published = false;
        let mut failed = None;
        for (of, name) in bundle.iter().flat_map(|_| &self.keep.ca_bundle_of) {
            let pem = bundle.as_deref().unwrap_or_default();
            match write_ca_bundle(&self.client, *of, name, pem.as_bytes()).await {
                Ok(changed) => published |= changed,
                // Not installed (yet), so there are no calls through it.
                Err(Error::Absent { .. }) => {}
                Err(error) => failed = Some(error),
            }
        }
        let served = self.current.borrow().clone();
        let is_new = served.as_deref() != Some(&credentials);
        if is_new {
            match (&served, &failed) {
                // Callers trust the served certificate, but perhaps not the new one yet.
                (Some(_), Some(_)) => {}
                (before, _) => {
                    if before.is_some() && published {
                        sleep(SETTLE).await;
                    }
                    self.current.send_replace(Some(Arc::new(credentials)));
                }
            }
        }
        match failed {
            None => {
                self.warned = None;
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    fn warn(&mut self, what: &str) {
        if self.warned.as_deref() != Some(what) {
            let Keep { namespace, secret, .. } = &self.keep;
            tracing::warn!(%namespace, %secret, "cannot keep the certificate: {what}");
            self.warned = Some(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
