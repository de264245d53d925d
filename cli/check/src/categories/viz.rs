//! `linkerd-viz`: is viz there, ready, and is tap's API one that the API server can use. Nothing is said where viz is not
//! installed.

use super::{
    control_plane::{has, is_over, is_ready},
    webhooks::{is_injected, verify},
};
use crate::{
    Ask, Category, Check, Facts, Outcome, What,
    facts::{items, object_name, text},
};

const TAP: &str = "v1alpha1.tap.linkerd.io";
const DEPLOYMENT: &str = "mesh-viz";
const INSTALL: &str = "run `mesh viz install | kubectl apply -f -`";

pub(super) fn category(_: &Ask) -> Category {
    let checks = vec![
        Check::new("linkerd-viz Namespace exists", |facts| {
            has(facts, What::Namespaces, &[&facts.ask.viz])
        })
        .hint(INSTALL),
        Check::new("linkerd-viz Deployment exists", |facts| {
            has(facts, What::VizDeployments, &[DEPLOYMENT])
        })
        .hint(INSTALL),
        Check::new("can initialize the tap API: its APIService exists", |facts| {
            has(facts, What::ApiServices, &[TAP])
        })
        .hint(INSTALL),
        Check::new("linkerd-viz ClusterRoles for tap exist", |facts| {
            let roles = match facts.list(What::ClusterRoles) {
                Ok(roles) => roles,
                Err(error) => return Outcome::Unknown(error),
            };
            let mut rules = roles.iter().flat_map(|role| items(role, "/rules"));
            if rules.any(|rule| items(rule, "/apiGroups").any(|group| group == "tap.linkerd.io")) {
                return Outcome::Pass;
            }
            Outcome::Fail("no ClusterRole gives a right to tap (watch on tap.linkerd.io)".to_owned())
        })
        .hint(INSTALL)
        .warns(),
        Check::new("linkerd-viz pods are injected", |facts| {
            pods(facts, |pod| !is_injected(pod), "without a sidecar")
        })
        .hint("the injector was down when they started: `kubectl -n linkerd-viz rollout restart deploy`")
        .warns(),
        Check::new("viz extension pods are running", |facts| {
            pods(facts, |pod| !is_ready(pod), "not ready")
        })
        .hint("`kubectl -n linkerd-viz get pods` and `kubectl -n linkerd-viz logs` say why not")
        .is_waited_for(),
        Check::new("tap API server has valid cert", certificate)
            .hint("mesh-viz keeps it itself: `kubectl -n linkerd-viz logs deploy/mesh-viz` says what keeps it from it")
            .is_waited_for(),
        Check::new("tap API service is running", available)
            .hint("`kubectl describe apiservice v1alpha1.tap.linkerd.io` says why the API server cannot use it")
            .is_waited_for(),
    ];
    let guarded = checks.into_iter().map(Check::only_with_viz);
    Category::new("linkerd-viz", guarded.collect())
}

impl Check {
    fn only_with_viz(self) -> Self {
        self.only_if(|facts| {
            let namespace = matches!(facts.named(What::Namespaces, &facts.ask.viz), Ok(Some(_)));
            namespace || matches!(facts.named(What::ApiServices, TAP), Ok(Some(_)))
        })
    }
}

fn pods(facts: &Facts, is_wrong: impl Fn(&serde_json::Value) -> bool, how: &str) -> Outcome {
    let pods = match facts.pods_in(&facts.ask.viz) {
        Ok(pods) => pods,
        Err(error) => return Outcome::Unknown(error),
    };
    let pods: Vec<_> = pods.filter(|pod| !is_over(pod)).collect();
    if pods.is_empty() {
        return Outcome::Fail("no pod is running".to_owned());
    }
    let wrong: Vec<String> = pods
        .into_iter()
        .filter(|pod| is_wrong(pod))
        .map(|pod| object_name(pod).to_owned())
        .collect();
    Outcome::none_of(&wrong, |names| format!("{how}: {names}"))
}

fn certificate(facts: &Facts) -> Outcome {
    let Ok(Some(api)) = facts.named(What::ApiServices, TAP) else {
        return Outcome::Skip;
    };
    if api["spec"]["insecureSkipTLSVerify"] == true {
        return Outcome::Fail("the APIService skips the verification of its server (insecureSkipTLSVerify)".to_owned());
    }
    let host = format!(
        "{}.{}.svc",
        text(api, "/spec/service/name"),
        text(api, "/spec/service/namespace")
    );
    match facts.named(What::VizSecrets, "tap-k8s-tls") {
        Ok(Some(secret)) => {
            verify(text(api, "/spec/caBundle"), secret, &host, facts.now).map_or_else(Outcome::Fail, |()| Outcome::Pass)
        }
        Ok(None) => Outcome::Fail("there is no Secret tap-k8s-tls".to_owned()),
        Err(error) => Outcome::Unknown(error),
    }
}

fn available(facts: &Facts) -> Outcome {
    let Ok(Some(api)) = facts.named(What::ApiServices, TAP) else {
        return Outcome::Skip;
    };
    let mut conditions = items(api, "/status/conditions");
    match conditions.find(|condition| condition["type"] == "Available") {
        Some(condition) if condition["status"] == "True" => Outcome::Pass,
        Some(condition) => Outcome::Fail(text(condition, "/message").to_owned()),
        None => Outcome::Fail("the API server has not tried it yet".to_owned()),
    }
}
