//! Authorization of taps: the verb `watch` on the subresource `tap` of a resource.

use axum::http::StatusCode;
use destination_source::{
    Error,
    cluster::{Access, Client, Subject, subject_access_review},
};
use viz_api::{
    Kind, Resource,
    cluster::{GROUP, SUBRESOURCE, VERSION},
};

use crate::rejection::Rejection;

/// Access that a tap needs.
pub(super) struct TapAccess<'a> {
    pub(super) resource: &'a Resource,
    pub(super) namespace: &'a str,
}

impl TapAccess<'_> {
    fn access(&self) -> Access {
        Access {
            verb: "watch".to_owned(),
            group: GROUP.to_owned(),
            version: VERSION.to_owned(),
            resource: self.resource.kind.plural().to_owned(),
            subresource: SUBRESOURCE.to_owned(),
            namespace: self.namespace.to_owned(),
            name: self.resource.name.clone().unwrap_or_default(),
        }
    }

    /// Sentence for a user without permission.
    fn denial(&self, user: &str, reason: &str) -> String {
        let named = match (&self.resource.name, self.resource.kind) {
            (Some(name), kind) if kind != Kind::Namespace => format!(" named {name}"),
            _ => String::new(),
        };
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(" ({reason})")
        };
        format!(
            "permission denied: user {user:?} cannot watch {}/{SUBRESOURCE} of the group {GROUP}{named} in namespace {}{reason}",
            self.resource.kind.plural(),
            self.namespace
        )
    }
}

/// Rejects a user without permission.
pub(super) async fn check(client: &Client, user: &Subject, tap: &TapAccess<'_>) -> Result<(), Rejection> {
    match subject_access_review(client, user, &tap.access()).await {
        Ok(decision) if decision.allowed => Ok(()),
        Ok(decision) => {
            let denial = tap.denial(&user.name, &decision.reason);
            Err(Rejection(StatusCode::FORBIDDEN, denial))
        }
        Err(error @ Error::Unreachable { .. }) => Err(Rejection(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("cannot authorize user {:?}: {error}", user.name),
        )),
        Err(error) => Err(Rejection(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot authorize user {:?}: {error}", user.name),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denial_names_the_missing_permission() {
        let resource = Resource::named(Kind::Deployment, "web");
        let tap = TapAccess {
            resource: &resource,
            namespace: "vote",
        };
        let access = tap.access();
        assert_eq!(
            (access.resource.as_str(), access.subresource.as_str()),
            ("deployments", "tap")
        );
        assert_eq!(
            tap.denial("ann", "no RBAC policy matched"),
            "permission denied: user \"ann\" cannot watch deployments/tap of the group tap.linkerd.io named web in namespace \
             vote (no RBAC policy matched)"
        );
    }
}
