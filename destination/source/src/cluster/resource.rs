//! Objects as untyped JSON, for the CLI, which also shows and checks objects that the mesh's types would reject.

use std::fmt;

use http::{Method, Request};
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Client;
use crate::{Error, limits};

/// Characters that are escaped in paths and queries.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Objects of one kind: in one namespace, in all, or without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group and version, such as `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// Plural, such as `deployments`.
    pub plural: String,
    /// Namespace.
    pub namespace: Option<String>,
}

/// Selection among the objects of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Label selector; empty selects all.
    pub labels: &'a str,
    /// Field selector; empty selects all.
    pub fields: &'a str,
}

impl Resource {
    /// Names the objects of a kind, in all namespaces.
    pub fn new(api_version: &str, plural: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            plural: plural.to_owned(),
            namespace: None,
        }
    }

    /// Restricts them to one namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    pub(super) fn path(&self) -> String {
        let root = if self.api_version.contains('/') {
            "/apis"
        } else {
            "/api"
        };
        let version = &self.api_version;
        match &self.namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{version}/{}", self.plural),
        }
    }

    /// Lists the objects, page by page. Fails with [`Error::Absent`] for a kind that is not served.
    pub async fn list(&self, client: &Client, filter: Filter<'_>) -> Result<Vec<Value>, Error> {
        let what = match &self.namespace {
            Some(namespace) => format!("list {} in the namespace {namespace}", self.plural),
            None => format!("list {}", self.plural),
        };
        let mut objects = Vec::new();
        let mut next = String::new();
        loop {
            let query = query(&[
                ("limit", &limits::PAGE.to_string()),
                ("labelSelector", filter.labels),
                ("fieldSelector", filter.fields),
                ("continue", &next),
            ]);
            let mut page: Value = read(client, &what, &format!("{}?{query}", self.path())).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                objects.extend(items);
            }
            next.clear();
            next.push_str(page["metadata"]["continue"].as_str().unwrap_or_default());
            if next.is_empty() {
                return Ok(objects);
            }
            if objects.len() > limits::OBJECTS_OF_KIND {
                return Err(Error::Refused {
                    what,
                    code: 0,
                    reason: format!("there are more than {} objects", limits::OBJECTS_OF_KIND),
                });
            }
        }
    }

    /// Reads the object with a name. Fails with [`Error::Absent`] if it does not exist.
    pub async fn get(&self, client: &Client, name: &str) -> Result<Value, Error> {
        let what = match &self.namespace {
            Some(namespace) => format!("get {} {namespace}/{name}", self.plural),
            None => format!("get {} {name}", self.plural),
        };
        read(client, &what, &format!("{}/{}", self.path(), escape(name))).await
    }

    /// Reads the object with a name, if it exists.
    pub async fn find(&self, client: &Client, name: &str) -> Result<Option<Value>, Error> {
        match self.get(client, name).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object with a name and uid. Fails with [`Error::Conflict`] or [`Error::Absent`] if it has been
    /// replaced.
    pub async fn delete(&self, client: &Client, name: &str, uid: &str) -> Result<(), Error> {
        let what = match &self.namespace {
            Some(namespace) => format!("delete {} {namespace}/{name}", self.plural),
            None => format!("delete {} {name}", self.plural),
        };
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        let request = Request::delete(format!("{}/{}", self.path(), escape(name)))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes());
        let deleted = client.request(&what, request.map_err(kube::core::request::Error::BuildRequest));
        deleted.await.map(|_: Value| ())
    }

    /// Applies a merge patch to the object with a name. If the patch has a `resourceVersion`, a concurrent change is
    /// [`Error::Conflict`].
    pub async fn merge(&self, client: &Client, name: &str, patch: &Value) -> Result<(), Error> {
        let what = format!("patch {} {name}", self.plural);
        let request = Request::patch(format!("{}/{}", self.path(), escape(name)))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        let patched = client.request(&what, request.map_err(kube::core::request::Error::BuildRequest));
        patched.await.map(|_: Value| ())
    }
}

/// Reads a path of the API server, such as `/version`; `what` names the action for errors.
pub async fn read(client: &Client, what: &str, path: &str) -> Result<Value, Error> {
    let request = Request::get(path).body(Vec::new());
    client
        .request(what, request.map_err(kube::core::request::Error::BuildRequest))
        .await
}

/// Request to an aggregated API.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// Action, for errors ("tap deployment/web").
    pub what: String,
    /// Path.
    pub path: String,
    /// Media type of the response.
    pub accept: &'a str,
    /// Body, JSON.
    pub body: Vec<u8>,
}

/// Posts to an aggregated API and returns the response's body as a stream.
pub async fn post(client: &Client, post: Post<'_>) -> Result<Body, Error> {
    let Post {
        what,
        path,
        accept,
        body,
    } = post;
    let what = what.as_str();
    let request = Request::builder()
        .method(Method::POST)
        .uri(&path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, accept)
        .body(Body::from(body));
    let request = request.map_err(|error| Error::Config(format!("invalid path {path:?}: {error}")))?;
    let response = client.call(what, client.raw().send(request)).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let text = client
        .call(what, async { Ok(collect(response.into_body()).await) })
        .await?;
    Err(client.blame(what, &kube::Error::Api(refusal(status.as_u16(), &text).boxed())))
}

/// Largest error response that is read.
const REFUSAL_BYTES: usize = 64 * 1024;

async fn collect(mut body: Body) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| {
        use http_body::Body as _;
        std::pin::Pin::new(&mut body).poll_frame(cx)
    })
    .await
    {
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        if text.len() > REFUSAL_BYTES {
            break;
        }
    }
    text
}

/// Parses an error response: a Status, an object with the key `error`, or plain text.
fn refusal(code: u16, text: &[u8]) -> kube::core::Status {
    let read: Option<Value> = serde_json::from_slice(text).ok();
    let word = |key: &str| read.as_ref()?.get(key)?.as_str().map(str::to_owned);
    let plain = || String::from_utf8_lossy(text).trim().to_owned();
    kube::core::Status {
        code,
        message: word("message").or_else(|| word("error")).unwrap_or_else(plain),
        reason: word("reason").unwrap_or_default(),
        ..kube::core::Status::default()
    }
}

fn query(pairs: &[(&str, &str)]) -> String {
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    let texts: Vec<String> = given.map(|(key, value)| format!("{key}={}", escape(value))).collect();
    texts.join("&")
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
fn escape(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_paths_and_queries() {
        let pods = Resource::new("v1", "pods");
        assert_eq!(pods.path(), "/api/v1/pods");
        let deployments = Resource::new("apps/v1", "deployments").within("a");
        assert_eq!(deployments.path(), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(
            query(&[("limit", "5"), ("continue", ""), ("labelSelector", "a in (b,c)")]),
            "limit=5&labelSelector=a%20in%20%28b%2Cc%29"
        );
    }

    #[test]
    fn parses_each_form_of_error_response() {
        let status = refusal(403, br#"{"kind":"Status","message":"no","reason":"Forbidden"}"#);
        assert_eq!((status.message.as_str(), status.reason.as_str()), ("no", "Forbidden"));
        assert_eq!(refusal(400, br#"{"error":"bad kind"}"#).message, "bad kind");
        assert_eq!(refusal(503, b"gone\n").message, "gone");
    }
}
