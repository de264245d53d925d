//! Whether a user may tap: `watch` on the subresource `tap` of what is tapped.

use axum::http::StatusCode;
use destination_source::{
    Error,
    cluster::{Access, Client, Subject, subject_access_review},
};
use viz_api::{
    Kind, Resource,
    cluster::{GROUP, SUBRESOURCE, VERSION},
};

use crate::api::Refused;

/// What a user wants to tap.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a Resource,
    pub(super) namespace: &'a str,
}

impl Wanted<'_> {
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

    /// The sentence for a user who may not.
    fn refusal(&self, user: &str, reason: &str) -> String {
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
            "the user {user:?} has no right to tap: the verb watch on {}/{SUBRESOURCE} of the group {GROUP}{named} in the \
             namespace {} is not allowed{reason}",
            self.resource.kind.plural(),
            self.namespace
        )
    }
}

/// Refuses who may not.
pub(super) async fn check(client: &Client, user: &Subject, wanted: &Wanted<'_>) -> Result<(), Refused> {
    match subject_access_review(client, user, &wanted.access()).await {
        Ok(decision) if decision.allowed => Ok(()),
        Ok(decision) => {
            let refusal = wanted.refusal(&user.name, &decision.reason);
            Err(Refused(StatusCode::FORBIDDEN, refusal))
        }
        Err(error @ Error::Unreachable { .. }) => Err(Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("whether {:?} may tap cannot be asked: {error}", user.name),
        )),
        Err(error) => Err(Refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("whether {:?} may tap cannot be asked: {error}", user.name),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_right_that_is_missing() {
        let resource = Resource::named(Kind::Deployment, "web");
        let wanted = Wanted {
            resource: &resource,
            namespace: "vote",
        };
        let access = wanted.access();
        assert_eq!(
            (access.resource.as_str(), access.subresource.as_str()),
            ("deployments", "tap")
        );
        assert_eq!(
            wanted.refusal("ann", "no RBAC policy matched"),
            "the user \"ann\" has no right to tap: the verb watch on deployments/tap of the group tap.linkerd.io named web \
             in the namespace vote is not allowed (no RBAC policy matched)"
        );
    }
}
