//! Stateless stream of objects as they appear and change, for callers that act on the current content alone.

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

/// Duration of a watch; then all objects are sent again, so that a missed one gets another chance.
const WATCH: Duration = Duration::from_secs(240);
/// Silence beyond the end of a watch after which it is dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Passes every existing, new or changed object to `apply`, endlessly. `failed` receives the cause of any gap.
pub async fn each(
    client: &Client,
    (resource, filter): (&Resource, Filter<'_>),
    mut apply: impl FnMut(Value),
    mut failed: impl FnMut(&Error),
) {
    let mut backoff = Backoff::default();
    loop {
        match watch(client, (resource, filter), &mut |object| {
            backoff.reset();
            apply(object);
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
    apply: &mut impl FnMut(Value),
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
    // Without a version the API server begins with all existing objects.
    let request = Request::new(resource.path()).watch(&params, "");
    let open = async {
        let request = request.map_err(kube::Error::BuildRequest)?;
        client.raw().request_events::<Value>(request).await
    };
    let mut events = std::pin::pin!(client.call(&what, open).await?);
    while let Ok(Some(event)) = timeout(WATCH + SILENCE, events.next()).await {
        match event.map_err(|error| client.blame(&what, &error))? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => apply(object),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(client.blame(&what, &kube::Error::Api(status))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::Response;
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// Recorded requests: method, path with query, media type, body.
    type Requests = Arc<Mutex<Vec<[String; 4]>>>;

    /// An API server that responds to everything with one text.
    fn server(text: &'static str) -> (Client, Requests) {
        let asked = Requests::default();
        let record = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let record = Arc::clone(&record);
            async move {
                let kind = request.headers().get(http::header::CONTENT_TYPE).cloned();
                let (method, uri) = (request.method().to_string(), request.uri().to_string());
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let kind = kind.map_or_else(String::new, |kind| kind.to_str().expect("text").to_owned());
                let body = String::from_utf8_lossy(&body).into_owned();
                record.lock().expect("no panic").push([method, uri, kind, body]);
                Ok::<_, std::io::Error>(Response::new(Body::from(text.as_bytes().to_vec())))
            }
        });
        (Client::from_kube(kube::Client::new(service, "default")), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn sends_all_objects_again_with_each_watch() {
        let (client, asked) = server(concat!(
            r#"{"type": "ADDED", "object": {"metadata": {"name": "a"}}}"#,
            "\n",
            r#"{"type": "DELETED", "object": {"metadata": {"name": "b"}}}"#,
            "\n",
            r#"{"type": "MODIFIED", "object": {"metadata": {"name": "c"}}}"#,
            "\n",
        ));
        let filter = Filter {
            labels: "mesh",
            fields: "spec.nodeName=n",
        };
        let pods = Resource::new("v1", "pods");
        let mut names = Vec::new();
        let endless = each(
            &client,
            (&pods, filter),
            |object| names.push(object["metadata"]["name"].as_str().expect("a name").to_owned()),
            |error| panic!("{error}"),
        );
        assert!(
            timeout(Duration::from_secs(1), endless).await.is_err(),
            "it never returns"
        );
        assert!(
            names.len() >= 4 && names.chunks(2).all(|two| two == ["a", "c"]),
            "{names:?}"
        );
        let asked = asked.lock().expect("no panic");
        assert!(
            asked.len() < 20,
            "a watch that ends at once is not restarted at once: {}",
            asked.len()
        );
        let uri = &asked[0][1];
        for part in [
            "/api/v1/pods?",
            "labelSelector=mesh",
            "fieldSelector=spec.nodeName%3Dn",
            "timeoutSeconds=240",
        ] {
            assert!(uri.contains(part), "{part} in {uri}");
        }
    }

    #[tokio::test]
    async fn deletes_and_changes_only_the_expected_object() {
        let (client, asked) = server("{}");
        let pods = Resource::new("v1", "pods").within("a");
        pods.delete(&client, "web-1", "u").await.expect("deleted");
        let nodes = Resource::new("v1", "nodes");
        let patch = json!({"metadata": {"resourceVersion": "7"}});
        nodes.merge(&client, "n", &patch).await.expect("patched");
        let asked = asked.lock().expect("no panic");
        let [method, path, _, body] = &asked[0];
        assert_eq!(
            (method.as_str(), path.as_str()),
            ("DELETE", "/api/v1/namespaces/a/pods/web-1")
        );
        assert!(body.contains(r#""preconditions":{"uid":"u"}"#), "{body}");
        let [method, path, kind, body] = &asked[1];
        assert_eq!((method.as_str(), path.as_str()), ("PATCH", "/api/v1/nodes/n"));
        assert_eq!(
            (kind.as_str(), body.as_str()),
            ("application/merge-patch+json", patch.to_string().as_str())
        );
    }
}
