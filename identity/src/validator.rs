//! Validation of tokens, by one of two methods: offline, with the keys of a JSON Web Key Set, or by TokenReview at the
//! API server of a cluster.

use crate::{
    review::{Caller, Reviewer},
    token::{Error, Jwks, SUBJECT_PREFIX, TOKEN_BYTES_MAX},
};

/// ServiceAccount of a validated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Method of validating tokens.
#[derive(Clone, Debug)]
pub(crate) enum Validator {
    /// Offline, with the keys of a file.
    Jwks(Jwks),
    /// By the API server of a cluster.
    Kubernetes(Reviewer),
}

impl Validator {
    /// Validates a token and returns its service account.
    pub(crate) async fn validate(&self, token: &[u8], caller: &Caller) -> Result<ServiceAccount, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::TooLarge(token.len()));
        }
        let subject = match self {
            Self::Jwks(jwks) => jwks.subject(token)?,
            Self::Kubernetes(reviewer) => reviewer.subject(token, caller).await?,
        };
        service_account(&subject).ok_or(Error::NotServiceAccount(subject))
    }
}

/// Parses `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(subject: &str) -> Option<ServiceAccount> {
    let (namespace, name) = subject.strip_prefix(SUBJECT_PREFIX)?.split_once(':')?;
    (is_label(namespace) && is_label(name)).then(|| ServiceAccount {
        namespace: namespace.into(),
        name: name.into(),
    })
}

/// Returns true for a DNS-1123 label. The name must be one too, as upstream requires: a dot would shift the parts of
/// the identity.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    text.len() <= 63 && text.bytes().all(inner) && edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_service_account_subjects() {
        let web = service_account("system:serviceaccount:emoji:web").expect("valid");
        assert_eq!((web.namespace.as_str(), web.name.as_str()), ("emoji", "web"));
        for wrong in [
            "",
            "system:serviceaccount:emoji",
            "system:serviceaccount::web",
            "system:serviceaccount:emoji:",
            "system:serviceaccount:emoji:a.b",
            "system:serviceaccount:emoji:web:more",
            "system:serviceaccount:-emoji:web",
            "system:node:web",
        ] {
            assert_eq!(service_account(wrong), None, "{wrong:?}");
        }
    }
}
