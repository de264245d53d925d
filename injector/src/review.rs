//! One review: bytes of an AdmissionReview in, bytes of the answer out. It reads only cached state of the cluster.
//!
//! Blame decides the outcome: an invalid annotation rejects the pod with a message; a malformed review or a failure of
//! this program gets no answer at all, and the webhook's failure policy applies.
//!
//! Reviews may come from anyone who reaches the port, so text from them is logged escaped, bounded in labels and
//! Events, and an object is parsed only if its kind is one that is reviewed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use injector_patch::{Injector, Namespace, Origin, Outcome, Owner, Patch, Report, Workload};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    cluster::{Cluster, Controller, template_hash},
    events::{Events, INJECTED, InjectionEvent, SKIPPED},
    limits::REVIEW_VALUES,
    metrics::{Metrics, Request as Labels},
    validate::{Validator, Verdict},
};

/// Longest name that Kubernetes allows.
const NAME_BYTES_MAX: usize = 253;
/// Time for the watch to deliver a Service that was created just before the object that refers to it.
const SETTLE_TIME: Duration = Duration::from_millis(250);
/// Kinds of owners with a label of their own.
const OWNER_KINDS: [&str; 8] = [
    "pod",
    "deployment",
    "replicaset",
    "replicationcontroller",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
];

/// Purpose of a review.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Injection.
    Inject,
    /// Validation.
    Validate,
}

/// Error of a review without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Malformed JSON.
    #[error("invalid AdmissionReview: {0}")]
    Malformed(serde_json::Error),
    /// A review without a request.
    #[error("invalid AdmissionReview: no request")]
    NoRequest,
    /// An object that would take too much memory.
    #[error("invalid AdmissionReview: the object has more than {} values", REVIEW_VALUES.value)]
    TooManyValues,
    /// An answer that cannot be encoded.
    #[error("cannot encode the answer: {0}")]
    Encode(serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: GroupKind,
    #[serde(default)]
    namespace: String,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: bool,
}

impl Request<'_> {
    /// Parses the object; null for a deletion.
    fn object(&self) -> Result<Value, NoAnswer> {
        let Some(raw) = self.object else { return Ok(Value::Null) };
        if count_values(raw.get()) > REVIEW_VALUES.value {
            return Err(NoAnswer::TooManyValues);
        }
        serde_json::from_str(raw.get()).map_err(NoAnswer::Malformed)
    }
}

/// Returns an upper bound of the number of values in valid JSON.
fn count_values(json: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
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

/// Dependencies of a review.
#[derive(Copy, Clone)]
pub(crate) struct Reviewer<'a> {
    pub(crate) injector: &'a Injector,
    pub(crate) cluster: &'a Cluster,
    pub(crate) events: &'a Events,
    pub(crate) metrics: &'a Metrics,
}

impl Reviewer<'_> {
    /// Answers a review.
    pub(crate) async fn answer(self, purpose: Purpose, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let review: Review<'_> = serde_json::from_slice(body).map_err(NoAnswer::Malformed)?;
        let request = review.request.ok_or(NoAnswer::NoRequest)?;
        let response = match purpose {
            Purpose::Inject => self.inject(request)?,
            Purpose::Validate => self.validate(request).await?,
        };
        let answer = Answer {
            api_version: review.api_version,
            kind: "AdmissionReview",
            response,
        };
        serde_json::to_vec(&answer).map_err(NoAnswer::Encode)
    }

    fn inject(self, request: Request<'_>) -> Result<Response, NoAnswer> {
        let patch = match (request.kind.group.as_str(), request.kind.kind.as_str()) {
            ("", "Pod") => self.pod(&request, &request.object()?),
            ("", "Service") => Ok(self.service(&request, &request.object()?)),
            _ => Ok(Patch::default()),
        };
        match patch {
            Ok(patch) => Response::allowed(request.uid, patch),
            Err(error) => {
                self.metrics.refused("invalid");
                let (namespace, error) = (&request.namespace, error.to_string());
                tracing::info!(?namespace, kind = ?request.kind.kind, ?error, "rejected an object");
                Ok(Response::denied(request.uid, error))
            }
        }
    }

    async fn validate(self, request: Request<'_>) -> Result<Response, NoAnswer> {
        let validator = Validator {
            group: &request.kind.group,
            namespace: &request.namespace,
            injector: self.injector,
            cluster: self.cluster,
        };
        let judge = || {
            let object = if validator.reviews(&request.kind.kind) {
                request.object()?
            } else {
                Value::Null
            };
            Ok::<_, NoAnswer>(validator.judge(object))
        };
        let mut judged = judge()?;
        if judged.lacks_service {
            tokio::time::sleep(SETTLE_TIME).await;
            judged = judge()?;
        }
        Ok(match judged.verdict {
            Verdict::Allowed(warnings) => {
                let result = if warnings.is_empty() { "allowed" } else { "warned" };
                self.metrics.validated(judged.kind, result);
                Response {
                    warnings,
                    ..Response::plain(request.uid)
                }
            }
            Verdict::Rejected(reason) => {
                self.metrics.validated(judged.kind, "refused");
                let (namespace, kind) = (&request.namespace, &request.kind.kind);
                tracing::info!(?namespace, ?kind, ?reason, "rejected an object");
                Response::denied(request.uid, reason)
            }
        })
    }

    fn service(self, request: &Request<'_>, service: &Value) -> Patch {
        if service.is_null() {
            return Patch::default();
        }
        let namespace = self.cluster.namespace(&request.namespace);
        let patch = self.injector.service(service, &namespace);
        let skipped = patch.is_empty().then(String::new);
        let labels = self.labels("service", &namespace.name, "");
        self.metrics.answered(labels, skipped);
        patch
    }

    fn pod(self, request: &Request<'_>, pod: &Value) -> Result<Patch, injector_patch::Error> {
        if pod.is_null() {
            return Ok(Patch::default());
        }
        let namespace: &Namespace = &self.cluster.namespace(&request.namespace);
        let direct = controller(pod);
        let owner = direct
            .as_ref()
            .map(|direct| self.cluster.owner(&namespace.name, direct, template_hash(pod)));
        let owner_kind = owner_kind(owner.as_ref());
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
        let labels = self.labels(owner_kind, &namespace.name, report.annotation_at);
        self.metrics.answered(labels, skipped);
        if let Some((reason, text)) = event(report)
            && !request.dry_run
        {
            let (namespace, object) = (&namespace.name, report.resource());
            tracing::info!(?namespace, ?object, owner_kind, reason, ?text, "reviewed a pod");
            let object = direct.unwrap_or_else(|| uncontrolled(pod));
            let event = InjectionEvent::new(namespace, object, reason, text).with_hash(pod);
            self.events.push(event, self.metrics);
        }
        Ok(match outcome {
            Outcome::Inject(_, patch) => patch,
            Outcome::Skip(_) => Patch::default(),
        })
    }

    /// Labels of a review; namespaces that do not exist share an empty label.
    fn labels(self, owner_kind: &'static str, namespace: &str, annotation_at: &'static str) -> Labels {
        let exists = self.cluster.has_namespace(namespace);
        Labels {
            owner_kind,
            namespace: if exists { namespace.to_owned() } else { String::new() },
            annotation_at,
        }
    }
}

/// Label of an owner's kind.
fn owner_kind(owner: Option<&Controller>) -> &'static str {
    let Some(owner) = owner else { return "pod" };
    let known = OWNER_KINDS
        .into_iter()
        .find(|kind| owner.kind.eq_ignore_ascii_case(kind));
    known.unwrap_or("other")
}

/// Returns the controller of a pod, if its reference is one that Kubernetes allows.
fn controller(pod: &Value) -> Option<Controller> {
    let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let owner = owners.find(|owner| owner["controller"] == true)?;
    let text = |key: &str| bounded(owner[key].as_str().unwrap_or_default());
    Some(Controller {
        api_version: text("apiVersion")?,
        kind: text("kind")?,
        name: text("name")?,
        uid: text("uid")?,
    })
}

/// Returns a pod without a controller; it has no uid yet.
fn uncontrolled(pod: &Value) -> Controller {
    let metadata = &pod["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
    Controller {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: bounded(name.unwrap_or_default().trim_end_matches('-')).unwrap_or_default(),
        uid: String::new(),
    }
}

fn bounded(text: &str) -> Option<String> {
    (text.len() <= NAME_BYTES_MAX).then(|| text.to_owned())
}

/// Returns reason and text of the Event about a pod, upstream's words; none if injection was not requested.
fn event(report: &Report) -> Option<(&'static str, String)> {
    if report.is_injectable() {
        return Some((INJECTED, "Linkerd sidecar proxy injected".to_owned()));
    }
    let notable = report.reasons.iter().any(injector_patch::Reason::is_notable);
    let reasons = report.sentence();
    notable.then(|| (SKIPPED, format!("Linkerd sidecar proxy injection skipped: {reasons}")))
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
            let text = serde_json::to_vec(&patch.operations).map_err(NoAnswer::Encode)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_values_outside_strings() {
        for (json, count) in [("0", 1), ("[1,2,[3]]", 5), (r#"{"a,[\"{":"b,c"}"#, 2), (r#""\\","#, 2)] {
            assert_eq!(count_values(json), count, "{json}");
        }
    }
}
