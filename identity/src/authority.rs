//! What signs now: the issuer and the anchors that it chains to, reloaded while running.

use std::{sync::Arc, time::SystemTime};

use identity_x509::{Anchors, Issuer};
use tokio::sync::watch;

use crate::{
    args::Args,
    files::{Files, INTERVAL, Unreadable},
    metrics::Metrics,
};

/// An issuer that was seen to chain to its anchors.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) issuer: Issuer,
    pub(crate) anchors: Anchors,
}

/// The current authority; `None` until the files have held a good one.
pub(crate) type AuthorityReceiver = watch::Receiver<Option<Arc<Authority>>>;

/// Why the files give no authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Invalid(#[from] identity_x509::Error),
}

/// Keeps the authority up to date with its files.
pub(crate) struct Reload {
    files: Files<3>,
    current: watch::Sender<Option<Arc<Authority>>>,
    metrics: Metrics,
}

impl Reload {
    /// Reads the files for the first time. What is wrong with them is logged; they may yet become good.
    pub(crate) fn new(args: &Args, metrics: Metrics) -> (Self, AuthorityReceiver) {
        let files = Files::new([
            args.issuer_cert.clone(),
            args.issuer_key.clone(),
            args.trust_anchors.clone(),
        ]);
        let (current, receiver) = watch::channel(None);
        let mut reload = Self {
            files,
            current,
            metrics,
        };
        reload.look(SystemTime::now());
        (reload, receiver)
    }

    /// Looks at the files from time to time, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look(SystemTime::now());
        }
    }

    /// Takes what the files hold when it has changed and is good; otherwise what was good stays.
    pub(crate) fn look(&mut self, now: SystemTime) {
        if let Some(texts) = self.files.changed() {
            match load(texts, now) {
                Ok(authority) => {
                    let hours = authority.issuer.validity().remaining(now).as_secs() / 3600;
                    tracing::info!(hours_left = hours, "issuer loaded");
                    self.current.send_replace(Some(Arc::new(authority)));
                }
                Err(error) => {
                    self.metrics.reload_refused();
                    match &*self.current.borrow() {
                        Some(_) => tracing::warn!("new issuer refused, the old one keeps signing: {error}"),
                        None => tracing::error!("no issuer yet, nothing can be signed: {error}"),
                    }
                }
            }
        }
        if let Some(authority) = &*self.current.borrow() {
            self.metrics.issuer_ttl(authority.issuer.validity().remaining(now));
        }
    }
}

fn load(texts: &Result<[String; 3], Unreadable>, now: SystemTime) -> Result<Authority, Error> {
    let [certificate, key, anchors] = texts.as_ref().map_err(Clone::clone)?;
    let anchors = Anchors::from_pem(anchors)?;
    let issuer = Issuer::from_pem(certificate, key)?;
    issuer.check(&anchors, now)?;
    Ok(Authority { issuer, anchors })
}
