//! Objects as they come and change, without a memory of them: for who acts on what an object says at the moment.

use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::{WatchEvent, params::WatchParams, request::Request};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    Client, Filter, Resource,
    backoff::{self, Backoff},
};
use crate::Error;

/// How long a watch lasts; then all objects are told again, so that who missed one gets another chance.
const WATCH: Duration = Duration::from_secs(240);
/// Silence after the end of a watch that makes it a dead one.
const SILENCE: Duration = Duration::from_secs(15);

/// Tells every object that there is, and each one that is new or changes, for ever. `failed` hears why there is a gap.
pub async fn each(
    client: &Client,
    (resource, filter): (&Resource, Filter<'_>),
    mut tell: impl FnMut(Value),
    mut failed: impl FnMut(&Error),
) {
    let mut backoff = Backoff::default();
    loop {
        match watch(client, (resource, filter), &mut |object| {
            backoff.reset();
            tell(object);
        })
        .await
        {
            Ok(()) => {}
            Err(error) => failed(&error),
        }
        sleep(backoff.next(backoff::ERRORS, fastrand::f64())).await;
    }
}

async fn watch(
    client: &Client,
    (resource, filter): (&Resource, Filter<'_>),
    tell: &mut impl FnMut(Value),
) -> Result<(), Error> {
    let what = format!("watch {}", resource.plural);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let params = WatchParams {
        label_selector: some(filter.labels),
        field_selector: some(filter.fields),
        timeout: Some(WATCH.as_secs() as u32),
        bookmarks: false,
        ..WatchParams::default()
    };
    // From no version on: the API server begins with all objects that there are.
    let request = Request::new(resource.path()).watch(&params, "");
    let open = async {
        let request = request.map_err(kube::Error::BuildRequest)?;
        client.raw().request_events::<Value>(request).await
    };
    let mut events = std::pin::pin!(client.call(&what, open).await?);
    while let Ok(Some(event)) = timeout(WATCH + SILENCE, events.next()).await {
        match event.map_err(|error| client.blame(&what, &error))? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => tell(object),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(client.blame(&what, &kube::Error::Api(status))),
        }
    }
    Ok(())
}
