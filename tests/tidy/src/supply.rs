//! Gate for what comes from others: bans, licences and sources of `.deny.toml`, checked with what cargo tells.
//! cargo-deny reads the same file in `.github/workflows`; building it here would take as long as our tests.

use std::{collections::BTreeSet, fs, sync::LazyLock};

use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::{
    assert_none,
    workspace::{METADATA, ROOT, built, dependents},
};

/// The file, as far as it is read here.
#[derive(Deserialize)]
struct Deny {
    bans: Bans,
    licenses: Licences,
    sources: Sources,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Packages that may use it.
    #[serde(default)]
    wrappers: BTreeSet<String>,
    reason: String,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

static DENY: LazyLock<Deny> = LazyLock::new(|| {
    let text = fs::read_to_string(ROOT.join(".deny.toml")).expect(".deny.toml is there");
    toml::from_str(&text).expect(".deny.toml is as expected")
});

#[test]
fn no_banned_crate_is_built() {
    let built = built();
    let mut wrong = Vec::new();
    for ban in DENY.bans.deny.iter().filter(|ban| built.contains(&ban.name)) {
        let users = dependents(&ban.name).into_iter().filter(|user| built.contains(*user));
        let unexpected = users.filter(|user| !ban.wrappers.contains(*user));
        wrong.extend(unexpected.map(|user| format!("{user} → {}: {}", ban.name, ban.reason)));
    }
    assert_none(".deny.toml bans these", &wrong);
}

#[test]
fn exceptions_of_bans_are_in_use() {
    let mut stale = Vec::new();
    for ban in &DENY.bans.deny {
        let users = dependents(&ban.name);
        let gone = ban.wrappers.iter().filter(|wrapper| !users.contains(wrapper.as_str()));
        stale.extend(gone.map(|wrapper| format!("{wrapper} → {}", ban.name)));
    }
    assert_none("wrappers in .deny.toml that use nothing of the kind", &stale);
}

#[test]
fn licences_are_allowed() {
    let mut wrong = Vec::new();
    for package in &METADATA.packages {
        let exceptions = DENY.licenses.exceptions.iter();
        let own: BTreeSet<&String> = exceptions
            .filter(|exception| exception.name == *package.name)
            .flat_map(|exception| &exception.allow)
            .collect();
        let licence = package.license.as_deref().unwrap_or("none");
        let is_allowed = Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|required| {
                let name = required.to_string();
                DENY.licenses.allow.contains(&name) || own.contains(&name)
            })
        });
        if !is_allowed {
            wrong.push(format!("{} {}: {licence}", package.name, package.version));
        }
    }
    assert_none(".deny.toml does not allow the licences of these", &wrong);
}

#[test]
fn crates_come_from_one_registry() {
    let mut wrong = Vec::new();
    for package in &METADATA.packages {
        // Those without a source are ours.
        let Some(source) = &package.source else { continue };
        let registry = source.repr.strip_prefix("registry+");
        if !registry.is_some_and(|registry| DENY.sources.allow_registry.contains(registry)) {
            wrong.push(format!("{} {}: {source}", package.name, package.version));
        }
    }
    assert_none(".deny.toml does not allow the sources of these", &wrong);
}
