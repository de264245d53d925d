//! How to know the API server, and for whom it asks: the ConfigMap `kube-system/extension-apiserver-authentication`.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::http::{HeaderMap, StatusCode};
use destination_k8s::{Kind, Object};
use destination_source::{
    Update,
    cluster::{self, Client, Selection, Subject},
};
use tokio::sync::watch;

use super::ClientName;
use crate::api::Refused;

/// Where the ConfigMap is.
const NAMESPACE: &str = "kube-system";
/// Its name.
const NAME: &str = "extension-apiserver-authentication";

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Front {
    /// Who signs the API server's certificate for asking us, PEM; nobody is believed while it is empty.
    pub(crate) ca_pem: String,
    /// The names that it may have there; empty is any.
    allowed: Vec<String>,
    users: Vec<String>,
    groups: Vec<String>,
    extra_prefixes: Vec<String>,
}

impl Front {
    fn read(data: &BTreeMap<String, String>) -> Self {
        let list = |key: &str| -> Vec<String> {
            let text = data.get(key).map_or("[]", String::as_str);
            serde_json::from_str(text).unwrap_or_else(|error| {
                tracing::warn!(%error, "{key} of the ConfigMap {NAMESPACE}/{NAME} is no list; it counts as empty");
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

    /// For whom the API server asks.
    pub(super) fn user(&self, client: &ClientName, headers: &HeaderMap) -> Result<Subject, Refused> {
        let unknown = |reason: String| Refused(StatusCode::UNAUTHORIZED, reason);
        let Some(name) = &client.0 else {
            let reason = "ask through the API server: a tap needs its client certificate, which says for whom it asks";
            return Err(unknown(reason.to_owned()));
        };
        if !self.allowed.is_empty() && !self.allowed.contains(name) {
            return Err(unknown(format!(
                "{name:?} may not ask for others: it is not the API server"
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
        let user = user.ok_or_else(|| unknown("the API server does not say for whom it asks".to_owned()))?;
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

/// A header's name has no `/`: the API server writes `%2F`.
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

/// Follows the ConfigMap until it is dropped.
pub(crate) fn follow(
    client: &Client,
) -> (
    watch::Receiver<Arc<Front>>,
    impl Future<Output = Result<(), Infallible>> + use<>,
) {
    let selection = Selection {
        namespace: Some(NAMESPACE.to_owned()),
        fields: Some(format!("metadata.name={NAME}")),
        ..Selection::from(Kind::ConfigMap)
    };
    let mut updates = cluster::watch(client, [selection]).updates;
    let (sender, receiver) = watch::channel(Arc::new(Front::default()));
    let task = async move {
        while let Some(update) = updates.recv().await {
            // What was said last stays if it is deleted: an API server writes it anew.
            let (Update::Reset(objects) | Update::Changed { applied: objects, .. }) = update else {
                continue;
            };
            for object in objects {
                if let Object::ConfigMap(map) = object {
                    let front = Arc::new(Front::read(map.data.as_ref().unwrap_or(&BTreeMap::new())));
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

    fn front() -> Front {
        let data = [
            ("requestheader-client-ca-file", "CA"),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ];
        Front::read(&data.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn the_user_has_name_groups_and_more() {
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
    fn nobody_else_is_believed() {
        let asked = headers(&[("x-remote-user", "ann")]);
        let refused = |client: ClientName, asked: &HeaderMap| {
            let refused = front().user(&client, asked).expect_err("refused");
            assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
            refused.1
        };
        assert!(refused(ClientName(None), &asked).contains("client certificate"));
        assert!(refused(ClientName(Some("eve".into())), &asked).contains("\"eve\" may not"));
        let nobody = refused(ClientName(Some("front-proxy-client".into())), &HeaderMap::new());
        assert!(nobody.contains("does not say for whom"));
        assert_eq!(Front::default().ca_pem, "");
    }
}
