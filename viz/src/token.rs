//! Token that a client of the API must have, for a mesh on one machine: its loopback is open to every user, and to web
//! pages.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, bail};
use axum::{
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use proxy_process::local;

use crate::rejection::Rejection;

/// Shortest token.
const BYTES_MIN: usize = 32;

/// Token of the API.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl Token {
    /// Reads the token of a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("--token-file {}: cannot read", path.display()))?;
        let token = text.trim();
        if token.len() < BYTES_MIN {
            bail!("--token-file {}: shorter than {BYTES_MIN} bytes", path.display());
        }
        Ok(Self(token.into()))
    }

    /// Compares in a time that depends on nothing but the lengths.
    fn matches(&self, presented: &str) -> bool {
        let pairs = self.0.bytes().zip(presented.bytes());
        self.0.len() == presented.len() && pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Serves a request that has the token. A name as its host is refused, too: it may lead here from anywhere.
pub(crate) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(refusal) = local::check_host(&parts) {
        return refusal.into_response();
    }
    let presented = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer "));
    if presented.is_some_and(|presented| token.matches(presented)) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let reason = "the token of this mesh is required: query it by --name instead of --api-addr";
    Rejection(StatusCode::UNAUTHORIZED, reason.to_owned()).into_response()
}
