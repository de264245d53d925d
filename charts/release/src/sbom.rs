//! Software bill of materials per program: a CycloneDX 1.5 document of all that is linked into it.

use serde_json::{Value, json};

use crate::{
    VERSION,
    linked::{Linked, Package},
    sha256,
};

/// Libraries of the machine that are part of a program: Rust's standard library and the C library.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platform {
    /// Version of Rust.
    pub(crate) rust: String,
    /// Version of the GNU C library; none where it is another.
    pub(crate) glibc: Option<String>,
}

/// Document of one program.
pub(crate) fn document(program: &str, linked: &Linked, platform: &Platform) -> Value {
    let crates = linked.packages.iter().skip(1);
    let mut components: Vec<Value> = crates.clone().map(component).collect();
    components.extend(platform.components());
    let own = component_ref(program);
    let mut dependencies = Vec::new();
    for (place, package) in linked.packages.iter().enumerate() {
        let mut uses: Vec<String> = package.uses.iter().map(|used| purl(&linked.packages[*used])).collect();
        if place == 0 {
            uses.extend(platform.refs());
        }
        let name = if place == 0 { own.clone() } else { purl(package) };
        dependencies.push(json!({"ref": name, "dependsOn": uses}));
    }
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "mesh-release", "version": VERSION}]},
            "component": {
                "type": "application", "bom-ref": own, "name": program, "version": VERSION,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = serial(&document.to_string()).into();
    document
}

impl Platform {
    fn parts(&self) -> Vec<(&str, &str, &str)> {
        let rust = ("rust-std", self.rust.as_str(), "MIT OR Apache-2.0");
        let glibc = self
            .glibc
            .iter()
            .map(|version| ("glibc", version.as_str(), "LGPL-2.1-or-later"));
        [rust].into_iter().chain(glibc).collect()
    }

    fn components(&self) -> Vec<Value> {
        let one = |(name, version, licence): (&str, &str, &str)| {
            let purl = generic(name, version);
            json!({
                "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
                "licenses": [{"expression": licence}],
            })
        };
        self.parts().into_iter().map(one).collect()
    }

    fn refs(&self) -> Vec<String> {
        let parts = self.parts().into_iter();
        parts.map(|(name, version, _)| generic(name, version)).collect()
    }
}

fn component(package: &Package) -> Value {
    let purl = purl(package);
    let mut component = json!({
        "type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl,
    });
    if let Some(licence) = &package.licence {
        // `MIT/Apache-2.0` is the older form of an SPDX expression.
        let parts: Vec<&str> = licence.split('/').map(str::trim).collect();
        component["licenses"] = json!([{"expression": parts.join(" OR ")}]);
    }
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

fn purl(package: &Package) -> String {
    // Build metadata, such as `0.6.1+5.3.1`, is escaped.
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

fn generic(name: &str, version: &str) -> String {
    format!("pkg:generic/{name}@{version}")
}

fn component_ref(program: &str) -> String {
    format!("{program}@{VERSION}")
}

/// UUID of version 8 that the content determines, so that the same commit makes the same document.
fn serial(content: &str) -> String {
    let digits = sha256(content.as_bytes());
    format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[15..18],
        &digits[18..30]
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::linked::tests::example;

    #[test]
    fn names_every_part_and_who_uses_it() {
        let platform = Platform {
            rust: "1.95.0".into(),
            glibc: Some("2.36".into()),
        };
        let document = document("mesh-viz", &example(), &platform);
        let list = |key: &str| document[key].as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let parts: BTreeSet<String> = list("components").iter().map(|one| text(&one["bom-ref"])).collect();
        assert_eq!(
            parts.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "pkg:cargo/axum@0.8.9",
                "pkg:cargo/bytes@1.12.1",
                "pkg:cargo/hyper@1.9.0",
                "pkg:generic/glibc@2.36",
                "pkg:generic/rust-std@1.95.0",
            ]
        );
        // Every reference names a component or the program; the program uses, however far away, every component.
        let (mut reached, mut waiting) = (
            BTreeSet::new(),
            vec![text(&document["metadata"]["component"]["bom-ref"])],
        );
        while let Some(name) = waiting.pop() {
            for one in list("dependencies").iter().filter(|one| one["ref"] == name.as_str()) {
                waiting.extend(one["dependsOn"].as_array().expect("a list").iter().map(text));
            }
            reached.insert(name);
        }
        reached.remove("mesh-viz@0.1.0");
        assert_eq!(reached, parts);
        let hyper = list("components").into_iter().find(|one| one["name"] == "hyper");
        assert_eq!(hyper.expect("hyper")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(
            list("components")[1]["hashes"],
            json!([{"alg": "SHA-256", "content": "ab12"}])
        );
        assert_eq!(text(&document["serialNumber"]).len(), "urn:uuid:".len() + 36);
    }
}
