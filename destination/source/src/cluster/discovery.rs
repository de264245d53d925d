//! Versions of each group that the API server serves, requested once for all watches that wait for a CRD.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::Client;
use crate::Error;

/// Time for which a response is reused.
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

    /// Returns the served versions of a group, as `group/version`; none if the group does not exist.
    pub(super) async fn versions(&self, group: &str) -> Result<Option<Vec<String>>, Error> {
        // The lock is held during the request, so that others reuse the response.
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
