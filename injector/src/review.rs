//! One review: bytes of an AdmissionReview in, bytes of its answer out. Pure but for what is known of the cluster.
//!
//! Who is to blame decides what happens: a wrong annotation refuses the pod in a sentence; a review that is none, or our own
//! failure, is no answer at all, and then the webhook's failure policy decides.

use base64::{Engine, engine::general_purpose::STANDARD};
use injector_patch::{Injector, Namespace, Origin, Outcome, Owner, Patch, Report, Workload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    metrics::{Metrics, Request as Labels},
};

/// Why a review has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It is none.
    #[error("this is no AdmissionReview: {0}")]
    Malformed(serde_json::Error),
    /// It asks nothing.
    #[error("this AdmissionReview has no request")]
    NoRequest,
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Unwritable(serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupKind,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct GroupKind {
    #[serde(default)]
    group: String,
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: String,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// What reviews are answered from.
#[derive(Copy, Clone)]
pub(crate) struct Reviewer<'a> {
    pub(crate) injector: &'a Injector,
    pub(crate) cluster: &'a Cluster,
    pub(crate) metrics: &'a Metrics,
}

impl Reviewer<'_> {
    /// Answers a review.
    pub(crate) fn answer(self, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let review: Review = serde_json::from_slice(body).map_err(NoAnswer::Malformed)?;
        let request = review.request.ok_or(NoAnswer::NoRequest)?;
        let response = match self.patch(&request) {
            Ok(patch) => Response::allowed(request.uid, patch)?,
            Err(error) => {
                self.metrics.refused("invalid");
                tracing::info!(namespace = %request.namespace, kind = %request.kind.kind, %error, "refused");
                Response::denied(request.uid, error.to_string())
            }
        };
        let answer = Answer {
            api_version: review.api_version,
            kind: "AdmissionReview",
            response,
        };
        serde_json::to_vec(&answer).map_err(NoAnswer::Unwritable)
    }

    fn patch(self, request: &Request) -> Result<Patch, injector_patch::Error> {
        let namespace = self.cluster.namespace(&request.namespace);
        match (request.kind.group.as_str(), request.kind.kind.as_str()) {
            _ if request.object.is_null() => Ok(Patch::default()),
            ("", "Pod") => self.pod(&request.object, &namespace),
            ("", "Service") => {
                let patch = self.injector.service(&request.object, &namespace);
                let skipped = patch.is_empty().then(String::new);
                self.metrics
                    .answered(self.labels("service", &namespace.name, ""), skipped);
                Ok(patch)
            }
            _ => Ok(Patch::default()),
        }
    }

    fn pod(self, pod: &Value, namespace: &Namespace) -> Result<Patch, injector_patch::Error> {
        let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let direct = owners.find(|owner| owner["controller"] == true).map(|owner| {
            let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
            Owner {
                kind: text("kind"),
                name: text("name"),
            }
        });
        let owner = direct.map(|direct| self.cluster.owner(&namespace.name, direct, pod));
        let owner_kind = owner
            .as_ref()
            .map_or_else(|| "pod".to_owned(), |owner| owner.kind.to_lowercase());
        let workload = Workload {
            object: pod,
            namespace,
            owner,
            origin: Origin::Webhook,
        };
        let named = workload.owner.clone();
        match self.injector.inject(&workload)? {
            Outcome::Inject(report, patch) => {
                self.metrics
                    .answered(self.labels(&owner_kind, &namespace.name, report.annotation_at), None);
                event(namespace, named.as_ref(), &report);
                Ok(patch)
            }
            Outcome::Skip(report) => {
                let labels = self.labels(&owner_kind, &namespace.name, report.annotation_at);
                self.metrics.answered(labels, Some(report.tokens()));
                event(namespace, named.as_ref(), &report);
                Ok(Patch::default())
            }
        }
    }

    fn labels(self, owner_kind: &str, namespace: &str, annotation_at: &'static str) -> Labels {
        Labels {
            owner_kind: owner_kind.to_owned(),
            namespace: namespace.to_owned(),
            annotation_at,
        }
    }
}

/// What happened, in the words of Linkerd's Events.
fn event(namespace: &Namespace, owner: Option<&Owner>, report: &Report) {
    let object = owner.map_or_else(
        || report.resource(),
        |o| format!("{}/{}", o.kind.to_lowercase(), o.name),
    );
    let namespace = &namespace.name;
    if report.is_injectable() {
        tracing::info!(%namespace, %object, reason = "Injected", "Linkerd sidecar proxy injected");
    } else if report.reasons.iter().any(injector_patch::Reason::is_notable) {
        let why = report.sentence();
        tracing::info!(%namespace, %object, reason = "InjectionSkipped", "Linkerd sidecar proxy injection skipped: {why}");
    } else {
        tracing::debug!(%namespace, %object, why = report.sentence(), "not injected");
    }
}

impl Response {
    fn allowed(uid: String, patch: Patch) -> Result<Self, NoAnswer> {
        let mut response = Self {
            uid,
            allowed: true,
            patch_type: None,
            patch: None,
            status: None,
        };
        if !patch.is_empty() {
            let text = serde_json::to_vec(&patch.operations).map_err(NoAnswer::Unwritable)?;
            (response.patch_type, response.patch) = (Some("JSONPatch"), Some(STANDARD.encode(text)));
        }
        Ok(response)
    }

    fn denied(uid: String, message: String) -> Self {
        let status = Some(Status {
            code: 400,
            reason: "BadRequest",
            message,
        });
        Self {
            uid,
            allowed: false,
            patch_type: None,
            patch: None,
            status,
        }
    }
}
