//! One review: bytes of an AdmissionReview in, bytes of its answer out. Pure but for what is known of the cluster.
//!
//! Who is to blame decides what happens: a wrong annotation refuses the pod in a sentence; a review that is none, or our own
//! failure, is no answer at all, and then the webhook's failure policy decides.

use base64::{Engine, engine::general_purpose::STANDARD};
use injector_patch::{Injector, Namespace, Origin, Outcome, Owner, Patch, Report, Workload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::{Cluster, Controller, template_hash},
    events::{Events, Happened, INJECTED, SKIPPED},
    metrics::{Metrics, Request as Labels},
    validate::{Asked, Verdict},
};

/// What a review is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A sidecar.
    Inject,
    /// Whether the object makes sense.
    Validate,
}

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
    #[serde(default)]
    dry_run: bool,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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
    pub(crate) events: &'a Events,
    pub(crate) metrics: &'a Metrics,
}

impl Reviewer<'_> {
    /// Answers a review.
    pub(crate) fn answer(self, purpose: Purpose, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let review: Review = serde_json::from_slice(body).map_err(NoAnswer::Malformed)?;
        let request = review.request.ok_or(NoAnswer::NoRequest)?;
        let response = match purpose {
            Purpose::Inject => self.inject(request)?,
            Purpose::Validate => self.validate(request),
        };
        let answer = Answer {
            api_version: review.api_version,
            kind: "AdmissionReview",
            response,
        };
        serde_json::to_vec(&answer).map_err(NoAnswer::Unwritable)
    }

    fn inject(self, request: Request) -> Result<Response, NoAnswer> {
        match self.patch(&request) {
            Ok(patch) => Response::allowed(request.uid, patch),
            Err(error) => {
                self.metrics.refused("invalid");
                tracing::info!(namespace = %request.namespace, kind = %request.kind.kind, %error, "refused");
                Ok(Response::denied(request.uid, error.to_string()))
            }
        }
    }

    fn validate(self, request: Request) -> Response {
        let kind = request.kind.kind.clone();
        let asked = Asked {
            group: &request.kind.group,
            namespace: &request.namespace,
            injector: self.injector,
        };
        let (counted, verdict) = asked.judge(request.object);
        match verdict {
            Verdict::Allowed(warnings) => {
                self.metrics
                    .validated(counted, if warnings.is_empty() { "allowed" } else { "warned" });
                Response {
                    warnings,
                    ..Response::plain(request.uid)
                }
            }
            Verdict::Refused(reason) => {
                self.metrics.validated(counted, "refused");
                tracing::info!(namespace = %request.namespace, %kind, %reason, "refused");
                Response::denied(request.uid, reason)
            }
        }
    }

    fn patch(self, request: &Request) -> Result<Patch, injector_patch::Error> {
        let namespace = self.cluster.namespace(&request.namespace);
        match (request.kind.group.as_str(), request.kind.kind.as_str()) {
            _ if request.object.is_null() => Ok(Patch::default()),
            ("", "Pod") => self.pod(request, &namespace),
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

    fn pod(self, request: &Request, namespace: &Namespace) -> Result<Patch, injector_patch::Error> {
        let pod = &request.object;
        let direct = controller(pod);
        let owner = direct
            .as_ref()
            .map(|direct| self.cluster.owner(&namespace.name, direct, template_hash(pod)));
        let owner_kind = owner
            .as_ref()
            .map_or_else(|| "pod".to_owned(), |owner| owner.kind.to_lowercase());
        let workload = Workload {
            object: pod,
            namespace,
            owner: owner.map(Owner::from),
            origin: Origin::Webhook,
        };
        let outcome = self.injector.inject(&workload)?;
        let (report, skipped) = match &outcome {
            Outcome::Inject(report, _) => (report, None),
            Outcome::Skip(report) => (report, Some(report.tokens())),
        };
        let labels = self.labels(&owner_kind, &namespace.name, report.annotation_at);
        self.metrics.answered(labels, skipped);
        if let Some(told) = told(report)
            && !request.dry_run
        {
            let (reason, text) = (told.0, told.1.as_str());
            tracing::info!(namespace = %namespace.name, object = %report.resource(), %owner_kind, reason, "{text}");
            let object = direct.unwrap_or_else(|| itself(pod));
            let happened = Happened::new(&namespace.name, object, told).of(pod);
            self.events.tell(happened, self.metrics);
        }
        Ok(match outcome {
            Outcome::Inject(_, patch) => patch,
            Outcome::Skip(_) => Patch::default(),
        })
    }

    fn labels(self, owner_kind: &str, namespace: &str, annotation_at: &'static str) -> Labels {
        Labels {
            owner_kind: owner_kind.to_owned(),
            namespace: namespace.to_owned(),
            annotation_at,
        }
    }
}

/// What controls a pod.
fn controller(pod: &Value) -> Option<Controller> {
    let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let owner = owners.find(|owner| owner["controller"] == true)?;
    let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
    Some(Controller {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
    })
}

/// A pod that nothing controls. It has no uid yet.
fn itself(pod: &Value) -> Controller {
    let metadata = &pod["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
    Controller {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.unwrap_or_default().trim_end_matches('-').to_owned(),
        uid: String::new(),
    }
}

/// What happened, in the words of Linkerd's Events; nothing, if nobody asked for a sidecar.
fn told(report: &Report) -> Option<(&'static str, String)> {
    if report.is_injectable() {
        return Some((INJECTED, "Linkerd sidecar proxy injected".to_owned()));
    }
    let notable = report.reasons.iter().any(injector_patch::Reason::is_notable);
    let why = report.sentence();
    notable.then(|| (SKIPPED, format!("Linkerd sidecar proxy injection skipped: {why}")))
}

impl Response {
    fn plain(uid: String) -> Self {
        Self {
            uid,
            allowed: true,
            patch_type: None,
            patch: None,
            status: None,
            warnings: vec![],
        }
    }

    fn allowed(uid: String, patch: Patch) -> Result<Self, NoAnswer> {
        let mut response = Self::plain(uid);
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
            allowed: false,
            status,
            ..Self::plain(uid)
        }
    }
}
