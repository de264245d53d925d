//! Reviews by the API server: of tokens (TokenReview) and of permissions (SubjectAccessReview).

use std::collections::BTreeMap;

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
        SubjectAccessReviewSpec, SubjectAccessReviewStatus,
    },
};
use kube::{Api, api::PostParams};

use super::Client;
use crate::Error;

/// Result of a TokenReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// The token is valid.
    pub authenticated: bool,
    /// User, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Requested audiences that the token is for.
    pub audiences: Vec<String>,
    /// Reason for which the token is invalid, as given by the API server.
    pub error: Option<String>,
}

/// Reviews a token. Without `audiences` it must be for the API server itself.
pub async fn token_review(client: &Client, token: &str, audiences: &[&str]) -> Result<Reviewed, Error> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: (!audiences.is_empty()).then(|| audiences.iter().map(|a| (*a).to_owned()).collect()),
        },
        ..TokenReview::default()
    };
    let reviews: Api<TokenReview> = Api::all(client.raw().clone());
    let review = client
        .call("create tokenreviews", reviews.create(&PostParams::default(), &review))
        .await?;
    let status = review.status.unwrap_or_default();
    let user = status.user.unwrap_or_default();
    Ok(Reviewed {
        authenticated: status.authenticated.unwrap_or_default(),
        user: user.username.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        audiences: status.audiences.unwrap_or_default(),
        error: status.error.filter(|error| !error.is_empty()),
    })
}

/// Action to review. Empty strings are unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Verb, such as `get` or `create`.
    pub verb: String,
    /// Group; empty is the core group.
    pub group: String,
    /// Version; empty is any.
    pub version: String,
    /// Resource, in the plural.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace; empty is all.
    pub namespace: String,
    /// Name of the object; empty is all.
    pub name: String,
}

impl Access {
    fn attributes(&self) -> ResourceAttributes {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        ResourceAttributes {
            verb: given(&self.verb),
            group: given(&self.group),
            version: given(&self.version),
            resource: given(&self.resource),
            subresource: given(&self.subresource),
            namespace: given(&self.namespace),
            name: given(&self.name),
            ..ResourceAttributes::default()
        }
    }
}

/// User who wants to act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// User name.
    pub name: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Extra attributes of the user, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Result of an access review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The action is allowed.
    pub allowed: bool,
    /// Reason given by the API server; may be empty.
    pub reason: String,
}

impl From<SubjectAccessReviewStatus> for Decision {
    fn from(status: SubjectAccessReviewStatus) -> Self {
        Self {
            allowed: status.allowed && !status.denied.unwrap_or_default(),
            reason: status.reason.or(status.evaluation_error).unwrap_or_default(),
        }
    }
}

/// Reviews whether a user may act.
pub async fn subject_access_review(client: &Client, subject: &Subject, access: &Access) -> Result<Decision, Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(subject.name.clone()),
            groups: (!subject.groups.is_empty()).then(|| subject.groups.clone()),
            extra: (!subject.extra.is_empty()).then(|| subject.extra.clone()),
            resource_attributes: Some(access.attributes()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.raw().clone());
    let review = client
        .call(
            "create subjectaccessreviews",
            reviews.create(&PostParams::default(), &review),
        )
        .await?;
    Ok(review.status.unwrap_or_default().into())
}

/// Reviews whether this program may act.
pub async fn self_subject_access_review(client: &Client, access: &Access) -> Result<Decision, Error> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(access.attributes()),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.raw().clone());
    let review = client
        .call(
            "create selfsubjectaccessreviews",
            reviews.create(&PostParams::default(), &review),
        )
        .await?;
    Ok(review.status.unwrap_or_default().into())
}
