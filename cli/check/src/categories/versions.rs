//! `linkerd-version` and `control-plane-version`: this program, the control plane and the expected version agree. No
//! server outside the cluster is contacted to find the newest.

use serde_json::Value;

use crate::{
    Category, Check, Facts, ObjectKind, Outcome, Scope,
    facts::{annotation, text},
};

pub(super) fn categories(scope: &Scope) -> Vec<Category> {
    let mut all = Vec::new();
    if let Some(expected) = scope.expected_version.clone() {
        let check = Check::new("cli is up-to-date", move |facts| {
            same("this program", &facts.scope.version, &expected)
        });
        all.push(Category::new(
            "linkerd-version",
            vec![check.hint("install that version of mesh").warning()],
        ));
    }
    let up_to_date = Check::new("control plane is up-to-date", |facts| {
        let Some(expected) = &facts.scope.expected_version else {
            return Outcome::Skip;
        };
        control_plane(facts).map_or(Outcome::Skip, |version| same("the control plane", &version, expected))
    });
    let agree = Check::new("control plane and cli versions match", |facts| {
        match control_plane(facts) {
            Some(version) if version == facts.scope.version => Outcome::Pass,
            Some(version) => Outcome::Fail(format!(
                "the control plane is {version}, but this program is {}",
                facts.scope.version
            )),
            None => Outcome::Fail("the control plane does not say its version".to_owned()),
        }
    });
    let hint = "run `mesh upgrade | kubectl apply -f -`, or use the mesh program of the control plane's version";
    all.push(Category::new(
        "control-plane-version",
        vec![up_to_date.hint(hint).warning(), agree.hint(hint).warning()],
    ));
    all
}

fn same(who: &str, is: &str, expected: &str) -> Outcome {
    if is == expected {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("{who} is {is}, expected {expected}"))
}

/// Returns the version of the control plane.
pub(super) fn control_plane(facts: &Facts) -> Option<String> {
    version_of(facts.named(ObjectKind::ConfigMaps, "linkerd-config").ok()??)
}

/// Returns the version of a control plane by its ConfigMap `linkerd-config`: from the values, else the annotation.
pub fn version_of(config: &Value) -> Option<String> {
    let values = text(config, "/data/values");
    let configured = values.lines().find_map(|line| line.strip_prefix("linkerdVersion:"));
    let configured = configured.map(|version| version.trim().trim_matches('"').to_owned());
    let annotated = || {
        let signature = annotation(config, "linkerd.io/created-by");
        signature.rsplit_once(['/', ' ']).map(|(_, version)| version.to_owned())
    };
    configured.filter(|version| !version.is_empty()).or_else(annotated)
}
