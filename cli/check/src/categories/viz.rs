//! `linkerd-viz`: viz is installed and ready, and the API server can use tap's API. Skipped where viz is not installed,
//! unless it is required.

use super::{
    control_plane::{has, has_ended, is_ready},
    webhooks::{is_injected, verify},
};
use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{items, object_name, text},
};

const TAP: &str = "v1alpha1.tap.linkerd.io";
const DEPLOYMENT: &str = "mesh-viz";
const INSTALL: &str = "run `mesh viz install | kubectl apply -f -`";

pub(super) fn category(_: &Scope) -> Category {
    let checks = vec![
        Check::new("linkerd-viz Namespace exists", |facts| {
            has(facts, ObjectKind::Namespaces, &[&facts.scope.viz])
        })
        .hint(INSTALL),
        Check::new("linkerd-viz Deployment exists", |facts| {
            has(facts, ObjectKind::VizDeployments, &[DEPLOYMENT])
        })
        .hint(INSTALL),
        Check::new("can initialize the tap API: its APIService exists", |facts| {
            has(facts, ObjectKind::ApiServices, &[TAP])
        })
        .hint(INSTALL),
        Check::new("linkerd-viz ClusterRoles for tap exist", |facts| {
            let roles = match facts.list(ObjectKind::ClusterRoles) {
                Ok(roles) => roles,
                Err(error) => return Outcome::Unknown(error),
            };
            let mut rules = roles.iter().flat_map(|role| items(role, "/rules"));
            if rules.any(|rule| items(rule, "/apiGroups").any(|group| group == "tap.linkerd.io")) {
                return Outcome::Pass;
            }
            Outcome::Fail("no ClusterRole permits taps (watch on tap.linkerd.io)".to_owned())
        })
        .hint(INSTALL)
        .warning(),
        Check::new("linkerd-viz pods are injected", |facts| {
            pods(facts, |pod| !is_injected(pod), "without a sidecar")
        })
        .hint("the injector was down when they started: `kubectl -n linkerd-viz rollout restart deploy`")
        .warning(),
        Check::new("viz extension pods are running", |facts| {
            pods(facts, |pod| !is_ready(pod), "not ready")
        })
        .hint("run `kubectl -n linkerd-viz get pods` and `kubectl -n linkerd-viz logs`")
        .retried(),
        Check::new("tap API server has valid cert", certificate)
            .hint("mesh-viz renews it: run `kubectl -n linkerd-viz logs deploy/mesh-viz` to see why it cannot")
            .retried(),
        Check::new("tap API service is running", available)
            .hint("run `kubectl describe apiservice v1alpha1.tap.linkerd.io`")
            .retried(),
    ];
    let guarded = checks.into_iter().map(Check::only_with_viz);
    Category::new("linkerd-viz", guarded.collect())
}

impl Check {
    fn only_with_viz(self) -> Self {
        self.only_if(|facts| {
            let namespace = matches!(facts.named(ObjectKind::Namespaces, &facts.scope.viz), Ok(Some(_)));
            facts.scope.viz_required || namespace || matches!(facts.named(ObjectKind::ApiServices, TAP), Ok(Some(_)))
        })
    }
}

fn pods(facts: &Facts, is_wrong: impl Fn(&serde_json::Value) -> bool, how: &str) -> Outcome {
    let pods = match facts.pods_in(&facts.scope.viz) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let pods: Vec<_> = pods.filter(|pod| !has_ended(pod)).collect();
    if pods.is_empty() {
        return Outcome::Fail("no pod is running".to_owned());
    }
    let wrong: Vec<String> = pods
        .into_iter()
        .filter(|pod| is_wrong(pod))
        .map(|pod| object_name(pod).to_owned())
        .collect();
    Outcome::fail_if_any(&wrong, |names| format!("{how}: {names}"))
}

fn certificate(facts: &Facts) -> Outcome {
    let Ok(Some(api)) = facts.named(ObjectKind::ApiServices, TAP) else {
        return Outcome::Skip;
    };
    if api["spec"]["insecureSkipTLSVerify"] == true {
        return Outcome::Fail("the APIService does not verify its server (insecureSkipTLSVerify)".to_owned());
    }
    let host = format!(
        "{}.{}.svc",
        text(api, "/spec/service/name"),
        text(api, "/spec/service/namespace")
    );
    match facts.named(ObjectKind::VizSecrets, "tap-k8s-tls") {
        Ok(Some(secret)) => {
            verify(text(api, "/spec/caBundle"), secret, &host, facts.now).map_or_else(Outcome::Fail, |()| Outcome::Pass)
        }
        Ok(None) => Outcome::Fail("missing Secret tap-k8s-tls".to_owned()),
        Err(error) => Outcome::Unknown(error),
    }
}

fn available(facts: &Facts) -> Outcome {
    let Ok(Some(api)) = facts.named(ObjectKind::ApiServices, TAP) else {
        return Outcome::Skip;
    };
    let mut conditions = items(api, "/status/conditions");
    match conditions.find(|condition| condition["type"] == "Available") {
        Some(condition) if condition["status"] == "True" => Outcome::Pass,
        Some(condition) => Outcome::Fail(text(condition, "/message").to_owned()),
        None => Outcome::Fail("the API server has not tried it yet".to_owned()),
    }
}
