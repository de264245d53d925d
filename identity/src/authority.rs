//! The current issuer and the anchors that it chains to, reloaded while running.

use std::{sync::Arc, time::SystemTime};

use identity_x509::{Anchors, Issuer};
use proxy_process::files::{INTERVAL, PolledFiles, ReadError};
use tokio::sync::watch;

use crate::{args::Args, metrics::Metrics};

/// An issuer that has been verified against its anchors.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) issuer: Issuer,
    pub(crate) anchors: Anchors,
}

/// Receiver of the current authority; `None` until the files have held a valid one.
pub(crate) type AuthorityReceiver = watch::Receiver<Option<Arc<Authority>>>;

/// Reason for which the files do not yield an authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Invalid(#[from] identity_x509::Error),
}

/// Keeps the authority up to date with its files.
pub(crate) struct Reload {
    files: PolledFiles<3>,
    current: watch::Sender<Option<Arc<Authority>>>,
    metrics: Metrics,
}

impl Reload {
    /// Reads the files for the first time. Errors are logged, as the files may become valid later.
    pub(crate) fn new(args: &Args, metrics: Metrics) -> (Self, AuthorityReceiver) {
        let files = PolledFiles::new([
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
        reload.poll(SystemTime::now());
        (reload, receiver)
    }

    /// Polls the files periodically; never returns.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.poll(SystemTime::now());
        }
    }

    /// Adopts the content of the files if it has changed and is valid; otherwise keeps the current authority.
    pub(crate) fn poll(&mut self, now: SystemTime) {
        if let Some(texts) = self.files.changed() {
            match load(texts, now) {
                Ok(authority) => {
                    let hours = authority.issuer.validity().remaining(now).as_secs() / 3600;
                    tracing::info!(hours_left = hours, "issuer loaded");
                    self.current.send_replace(Some(Arc::new(authority)));
                }
                Err(error) => {
                    self.metrics.reload_rejected();
                    match &*self.current.borrow() {
                        Some(_) => tracing::warn!("rejected new issuer, the old one keeps signing: {error}"),
                        None => tracing::error!("no issuer loaded, cannot sign certificates: {error}"),
                    }
                }
            }
        }
        if let Some(authority) = &*self.current.borrow() {
            self.metrics.issuer_ttl(authority.issuer.validity().remaining(now));
        }
    }
}

fn load(texts: &Result<[String; 3], ReadError>, now: SystemTime) -> Result<Authority, Error> {
    let [certificate, key, anchors] = texts.as_ref().map_err(Clone::clone)?;
    let anchors = Anchors::from_pem(anchors)?;
    let issuer = Issuer::from_pem(certificate, key)?;
    issuer.check(&anchors, now)?;
    Ok(Authority { issuer, anchors })
}
