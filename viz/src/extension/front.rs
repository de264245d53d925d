//! Authentication of the API server and its user, by the ConfigMap `kube-system/extension-apiserver-authentication`.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::http::{HeaderMap, StatusCode};
use destination_k8s::{Kind, Object};
use destination_source::{
    Update,
    cluster::{self, Client, Selection, Subject},
};
use tokio::sync::watch;

use super::ClientName;
use crate::rejection::Rejection;

/// Namespace of the ConfigMap.
const NAMESPACE: &str = "kube-system";
/// Name of the ConfigMap.
const NAME: &str = "extension-apiserver-authentication";

/// Front proxy (the API server) as the ConfigMap describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontProxy {
    /// CA of the API server's client certificate, PEM; while empty, every client is rejected.
    pub(crate) ca_pem: String,
    /// Names allowed in the certificate; empty allows any.
    allowed: Vec<String>,
    users: Vec<String>,
    groups: Vec<String>,
    extra_prefixes: Vec<String>,
}

impl FrontProxy {
    fn read(data: &BTreeMap<String, String>) -> Self {
        let list = |key: &str| -> Vec<String> {
            let text = data.get(key).map_or("[]", String::as_str);
            serde_json::from_str(text).unwrap_or_else(|error| {
                tracing::warn!(%error, "invalid {key} in ConfigMap {NAMESPACE}/{NAME}: not a list, taken as empty");
                Vec::new()
            })
        };
        Self {
            ca_pem: data.get("requestheader-client-ca-file").cloned().unwrap_or_default(),
            allowed: list("requestheader-allowed-names"),
            users: list("requestheader-username-headers"),
            groups: list("requestheader-group-headers"),
            extra_prefixes: list("requestheader-extra-headers-prefix"),
        }
    }

    /// Returns the user on whose behalf the API server sends a request.
    pub(super) fn user(&self, client: &ClientName, headers: &HeaderMap) -> Result<Subject, Rejection> {
        let unknown = |reason: String| Rejection(StatusCode::UNAUTHORIZED, reason);
        let Some(name) = &client.0 else {
            let reason =
                "missing client certificate: send requests through the API server, which authenticates the user";
            return Err(unknown(reason.to_owned()));
        };
        if !self.allowed.is_empty() && !self.allowed.contains(name) {
            return Err(unknown(format!(
                "{name:?} may not act for users: it is not the API server"
            )));
        }
        let all = |names: &[String]| -> Vec<String> {
            let present = names.iter().map(|name| headers.get_all(name.as_str()));
            let mut present = present.filter(|values| values.iter().next().is_some());
            let values = present.next().into_iter().flatten();
            values
                .filter_map(|value| value.to_str().ok())
                .map(str::to_owned)
                .collect()
        };
        let user = all(&self.users).into_iter().next().filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| unknown("missing user: the API server names none".to_owned()))?;
        Ok(Subject {
            name: user,
            groups: all(&self.groups),
            extra: self.extra(headers),
        })
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefixes {
            let prefix = prefix.to_ascii_lowercase();
            for (name, value) in headers {
                if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(prefix.as_str()), value.to_str()) {
                    extra.entry(unescape(key)).or_default().push(value.to_owned());
                }
            }
        }
        extra
    }
}

/// Decodes percent escapes: names of headers cannot contain `/`, so the API server writes `%2F`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).filter(|_| *first == b'%');
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Follows the ConfigMap until the future is dropped.
pub(crate) fn follow(
    client: &Client,
) -> (
    watch::Receiver<Arc<FrontProxy>>,
    impl Future<Output = Result<(), Infallible>> + use<>,
) {
    let selection = Selection {
        namespace: Some(NAMESPACE.to_owned()),
        fields: Some(format!("metadata.name={NAME}")),
        ..Selection::from(Kind::ConfigMap)
    };
    let mut updates = cluster::watch(client, [selection]).updates;
    let (sender, receiver) = watch::channel(Arc::new(FrontProxy::default()));
    let task = async move {
        while let Some(update) = updates.recv().await {
            // A deleted ConfigMap changes nothing: an API server writes it again.
            let (Update::Reset(objects) | Update::Changed { applied: objects, .. }) = update else {
                continue;
            };
            for object in objects {
                if let Object::ConfigMap(map) = object {
                    let front = Arc::new(FrontProxy::read(map.data.as_ref().unwrap_or(&BTreeMap::new())));
                    sender.send_if_modified(|known| std::mem::replace(known, front.clone()) != front);
                }
            }
        }
        Ok(())
    };
    (receiver, task)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front() -> FrontProxy {
        let data = [
            ("requestheader-client-ca-file", "CA"),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ];
        FrontProxy::read(&data.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn reads_name_groups_and_extra_of_the_user() {
        let asked = headers(&[
            ("x-remote-user", "ann"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-example.org%2fid", "7"),
        ]);
        let client = ClientName(Some("front-proxy-client".into()));
        let user = front().user(&client, &asked).map_err(|e| e.1).expect("known");
        assert_eq!((user.name.as_str(), user.groups.len()), ("ann", 2));
        assert_eq!(user.extra["example.org/id"], ["7"]);
    }

    #[test]
    fn rejects_clients_other_than_the_api_server() {
        let asked = headers(&[("x-remote-user", "ann")]);
        let reason = |client: ClientName, asked: &HeaderMap| {
            let rejection = front().user(&client, asked).expect_err("rejected");
            assert_eq!(rejection.0, StatusCode::UNAUTHORIZED);
            rejection.1
        };
        assert!(reason(ClientName(None), &asked).contains("client certificate"));
        assert!(reason(ClientName(Some("eve".into())), &asked).contains("\"eve\" may not"));
        let unnamed = reason(ClientName(Some("front-proxy-client".into())), &HeaderMap::new());
        assert!(unnamed.contains("missing user"));
        assert_eq!(FrontProxy::default().ca_pem, "");
    }
}
