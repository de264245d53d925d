//! Which versions of which groups the API server serves: asked once for all watches that wait for a CRD.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::Client;
use crate::Error;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);

/// Versions of each group.
type Groups = BTreeMap<String, Vec<String>>;

/// The groups of one API server.
#[derive(Debug)]
pub(super) struct Discovery {
    client: Client,
    last: Mutex<Option<(Instant, Arc<Groups>)>>,
}

impl Discovery {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            last: Mutex::new(None),
        }
    }

    /// The versions, `group/version`, of a group that are served. None means that there is no such group.
    pub(super) async fn versions(&self, group: &str) -> Result<Option<Vec<String>>, Error> {
        // The lock is held while we ask: others then find the answer here.
        let mut last = self.last.lock().await;
        let fresh = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        let groups = match fresh {
            Some((_, groups)) => groups.clone(),
            None => {
                let all = self.client.raw().list_api_groups();
                let all = self.client.call("list the groups of the API", all).await?;
                let versions = |group: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup| {
                    let served = group.versions.into_iter().map(|version| version.group_version);
                    (group.name, served.collect())
                };
                let groups: Arc<Groups> = Arc::new(all.groups.into_iter().map(versions).collect());
                *last = Some((Instant::now(), groups.clone()));
                groups
            }
        };
        Ok(groups.get(group).cloned())
    }
}
