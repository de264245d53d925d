//! What outlives the process: its leaf and what the control plane has said, in the identity directory beside the key. A
//! restarted proxy begins with them, so that it serves although the control plane is away; whatever the control plane then
//! says takes their place.

use std::{path::PathBuf, time::Duration};

use proxy_discovery::Discovery;
use proxy_metrics::Metrics;
use proxy_model::{Memory, limits::MEMORY_BYTES};

use super::identity::{read, write};

/// Name of the file, beside `key.p8`.
const FILE: &str = "discovery.pb";
/// Time for what comes after a change: a rollout is many changes, and one file.
const SETTLE: Duration = Duration::from_secs(1);

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Remembered(PathBuf);

impl Remembered {
    /// The file in the identity directory.
    pub(crate) fn beside(dir: &std::path::Path) -> Self {
        Self(dir.join(FILE))
    }

    /// What an earlier process knew; a file that cannot be read is as good as none.
    pub(crate) fn load(&self) -> Memory {
        let bytes = match read(&self.0) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Memory::default(),
            Err(error) => {
                tracing::warn!(%error, "what an earlier process knew is lost");
                return Memory::default();
            }
        };
        let written = std::fs::metadata(&self.0).and_then(|file| file.modified()).ok();
        let age = written.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        match proxy_api::decode::memory(&bytes) {
            Ok(memory) => {
                let (answers, age) = (memory.len(), age.as_secs());
                tracing::info!(answers, age_seconds = age, "starting with what an earlier process knew");
                memory
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "what an earlier process knew is lost");
                Memory::default()
            }
        }
    }

    /// Writes what is known whenever it has changed. Never ends.
    pub(crate) async fn keep(self, discovery: Discovery, metrics: Metrics) {
        let (mut kept, mut failed) = (discovery.changes(), false);
        loop {
            tokio::time::sleep(SETTLE).await;
            let changes = discovery.changes();
            if changes == kept {
                continue;
            }
            kept = changes;
            let (bytes, refused) = proxy_api::encode::memory(&discovery.memory(), MEMORY_BYTES);
            for _ in 0..refused {
                metrics.limit_refused("MEMORY_BYTES");
            }
            match write(&self.0, &bytes) {
                Ok(()) => failed = false,
                // Said once: it is missed only after a restart.
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!(%error, "what is known now will not outlive this process");
                }
                Err(_) => {}
            }
        }
    }
}
