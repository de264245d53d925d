//! `linkerd-version` and `control-plane-version`: do this program, the control plane and what was asked for agree. Nobody
//! is called outside of the cluster to find out what is newest.

use serde_json::Value;

use crate::{
    Ask, Category, Check, Facts, Outcome, What,
    facts::{annotation, text},
};

pub(super) fn categories(ask: &Ask) -> Vec<Category> {
    let mut all = Vec::new();
    if let Some(expected) = ask.expected_version.clone() {
        let check = Check::new("cli is up-to-date", move |facts| {
            same("this program", &facts.ask.version, &expected)
        });
        all.push(Category::new(
            "linkerd-version",
            vec![check.hint("install that version of mesh").warns()],
        ));
    }
    let up_to_date = Check::new("control plane is up-to-date", |facts| {
        let Some(expected) = &facts.ask.expected_version else {
            return Outcome::Skip;
        };
        control_plane(facts).map_or(Outcome::Skip, |version| same("the control plane", &version, expected))
    });
    let agree = Check::new("control plane and cli versions match", |facts| {
        match control_plane(facts) {
            Some(version) if version == facts.ask.version => Outcome::Pass,
            Some(version) => Outcome::Fail(format!(
                "the control plane is {version}, and this program {}",
                facts.ask.version
            )),
            None => Outcome::Fail("the control plane does not say its version".to_owned()),
        }
    });
    let hint = "run `mesh upgrade | kubectl apply -f -`, or use the mesh program of the control plane's version";
    all.push(Category::new(
        "control-plane-version",
        vec![up_to_date.hint(hint).warns(), agree.hint(hint).warns()],
    ));
    all
}

fn same(who: &str, is: &str, expected: &str) -> Outcome {
    if is == expected {
        return Outcome::Pass;
    }
    Outcome::Fail(format!("{who} is {is}, and {expected} is expected"))
}

/// The control plane's version.
pub(super) fn control_plane(facts: &Facts) -> Option<String> {
    version_of(facts.named(What::ConfigMaps, "linkerd-config").ok()??)
}

/// The version of a control plane by its ConfigMap `linkerd-config`: of its values, or as it signs its objects.
pub fn version_of(config: &Value) -> Option<String> {
    let values = text(config, "/data/values");
    let said = values.lines().find_map(|line| line.strip_prefix("linkerdVersion:"));
    let said = said.map(|version| version.trim().trim_matches('"').to_owned());
    let signed = || {
        let signature = annotation(config, "linkerd.io/created-by");
        signature.rsplit_once(['/', ' ']).map(|(_, version)| version.to_owned())
    };
    said.filter(|version| !version.is_empty()).or_else(signed)
}
