//! `kubernetes-api` and `kubernetes-version`: is there a cluster, and does it have what the mesh needs.

use crate::{Category, Check, Outcome};

/// The oldest Kubernetes with everything: the one that Linkerd 2.20 asks for.
const OLDEST: (u32, u32) = (1, 31);

pub(super) fn api() -> Category {
    Category::new(
        "kubernetes-api",
        vec![
            Check::new("can initialize the client", |facts| told(&facts.client))
                .hint("name the kubeconfig by --kubeconfig or KUBECONFIG, and one of its contexts by --context")
                .is_fatal(),
            Check::new("can query the Kubernetes API", |facts| told(&facts.version))
                .hint("`kubectl version` must answer with the same kubeconfig and context")
                .is_fatal(),
        ],
    )
}

pub(super) fn version() -> Category {
    let check = Check::new("is running the minimum Kubernetes API version", |facts| {
        let Ok(text) = &facts.version else { return Outcome::Skip };
        match parse(text) {
            Some(found) if found >= OLDEST => Outcome::Pass,
            Some(_) => Outcome::Fail(format!(
                "the cluster runs {text}, and the mesh needs {}.{} or newer",
                OLDEST.0, OLDEST.1
            )),
            None => Outcome::Fail(format!("the cluster's version {text:?} is not understood")),
        }
    });
    Category::new(
        "kubernetes-version",
        vec![
            check
                .hint("upgrade the cluster, or set proxy-enable-native-sidecar to false and expect gaps")
                .warns(),
        ],
    )
}

fn told(fact: &Result<String, String>) -> Outcome {
    match fact {
        Ok(_) => Outcome::Pass,
        Err(error) => Outcome::Fail(error.clone()),
    }
}

/// `v1.34.4+k3s1` is (1, 34).
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
    fn versions_of_distributions_are_read() {
        assert_eq!(parse("v1.34.4+k3s1"), Some((1, 34)));
        assert_eq!(parse("v1.31+"), Some((1, 31)));
        assert_eq!(parse("latest"), None);
    }
}
