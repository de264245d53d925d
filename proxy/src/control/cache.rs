//! State that outlives the process: the control plane's answers, in the identity directory beside the key and the leaf.
//! A restarted proxy starts with them, so that it serves although the control plane is away; newer answers replace
//! them.

use std::{path::PathBuf, time::Duration};

use proxy_discovery::Discovery;
use proxy_metrics::Metrics;
use proxy_model::{DiscoveryCache, limits::MEMORY_BYTES};

use super::identity::{read, write};

/// Name of the file, beside `key.p8`.
const FILE: &str = "discovery.pb";
/// Delay before a write: a rollout is many changes, and one file.
const SETTLE: Duration = Duration::from_secs(1);

/// File that holds the discovery cache between two processes.
#[derive(Clone, Debug)]
pub(crate) struct CacheFile(PathBuf);

impl CacheFile {
    /// The file in the identity directory.
    pub(crate) fn in_dir(dir: &std::path::Path) -> Self {
        Self(dir.join(FILE))
    }

    /// Returns the answers of the previous process; an unreadable file counts as missing.
    pub(crate) fn load(&self) -> DiscoveryCache {
        let bytes = match read(&self.0) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return DiscoveryCache::default(),
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "cannot restore discovery cache");
                return DiscoveryCache::default();
            }
        };
        let written = std::fs::metadata(&self.0).and_then(|file| file.modified()).ok();
        let age = written.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        match proxy_api::decode::cache(&bytes) {
            Ok(cache) => {
                let (answers, age) = (cache.len(), age.as_secs());
                tracing::info!(answers, age_seconds = age, "restored discovery cache");
                cache
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "cannot restore discovery cache");
                DiscoveryCache::default()
            }
        }
    }

    /// Writes the current answers after each change. Never returns.
    pub(crate) async fn persist(self, discovery: Discovery, metrics: Metrics) {
        let (mut kept, mut failed) = (discovery.changes(), false);
        loop {
            tokio::time::sleep(SETTLE).await;
            let changes = discovery.changes();
            if changes == kept {
                continue;
            }
            kept = changes;
            let (bytes, refused) = proxy_api::encode::cache(&discovery.answers(), MEMORY_BYTES.value);
            for _ in 0..refused {
                metrics.limit_refused(MEMORY_BYTES);
            }
            match write(&self.0, &bytes) {
                Ok(()) => failed = false,
                // Logged once: the file is missed only after a restart.
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!(%error, "cannot persist discovery cache");
                }
                Err(_) => {}
            }
        }
    }
}
