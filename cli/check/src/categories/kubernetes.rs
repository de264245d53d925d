//! `kubernetes-api` and `kubernetes-version`: the cluster is reachable, and recent enough.

use crate::{Category, Check, Outcome};

/// Oldest supported Kubernetes: the one required by Linkerd 2.20.
const OLDEST: (u32, u32) = (1, 31);

pub(super) fn api() -> Category {
    Category::new(
        "kubernetes-api",
        vec![
            Check::new("can initialize the client", |facts| succeeded(&facts.client))
                .hint("select a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with --context")
                .fatal(),
            Check::new("can query the Kubernetes API", |facts| succeeded(&facts.version))
                .hint("run `kubectl version` with the same kubeconfig and context")
                .fatal(),
        ],
    )
}

pub(super) fn version() -> Category {
    let check = Check::new("is running the minimum Kubernetes API version", |facts| {
        let Ok(text) = &facts.version else { return Outcome::Skip };
        match parse(text) {
            Some(found) if found >= OLDEST => Outcome::Pass,
            Some(_) => Outcome::Fail(format!(
                "the cluster runs {text}, but the mesh requires {}.{} or newer",
                OLDEST.0, OLDEST.1
            )),
            None => Outcome::Fail(format!("cannot parse the cluster's version {text:?}")),
        }
    });
    Category::new(
        "kubernetes-version",
        vec![
            check
                .hint("upgrade the cluster, or set proxy-enable-native-sidecar to false and expect gaps")
                .warning(),
        ],
    )
}

fn succeeded(fact: &Result<String, String>) -> Outcome {
    match fact {
        Ok(_) => Outcome::Pass,
        Err(error) => Outcome::Fail(error.clone()),
    }
}

/// Parses `v1.34.4+k3s1` as (1, 34).
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim_start_matches('v').split('.');
    let number = |part: &str| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    };
    Some((number(parts.next()?)?, number(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_versions_of_distributions() {
        assert_eq!(parse("v1.34.4+k3s1"), Some((1, 34)));
        assert_eq!(parse("v1.31+"), Some((1, 31)));
        assert_eq!(parse("latest"), None);
    }
}
