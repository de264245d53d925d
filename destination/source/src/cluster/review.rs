//! Questions to the API server: whose token is this, and may somebody do something.

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

/// What the API server says about a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// Whether the token proves anything.
    pub authenticated: bool,
    /// The user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Which of the audiences that we asked for the token is for.
    pub audiences: Vec<String>,
    /// Why it proves nothing, in the API server's words.
    pub error: Option<String>,
}

/// Asks whose a token is. Without `audiences` it must be for the API server itself.
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

/// What somebody wants to do. Empty strings leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Such as `get` or `create`.
    pub verb: String,
    /// The group; empty is the core group.
    pub group: String,
    /// The version; empty is any.
    pub version: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace; empty is all of them.
    pub namespace: String,
    /// The object; empty is all of them.
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

/// Somebody who wants to do something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub name: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// What else the API server knows of the user, by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Whether somebody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, in the API server's words; may be empty.
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

/// Asks whether somebody may do something.
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

/// Asks whether we may do something ourselves.
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
