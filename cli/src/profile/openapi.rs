//! Routes of an OpenAPI document, version 2 or 3.
//!
//! Read as plain YAML, not by the crate `openapiv3`: that knows version 3 only, and rejects documents for details that
//! do not matter to routes.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Route;

const METHODS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// Parses the routes, sorted by path.
pub(super) fn routes(text: &str) -> Result<Vec<Route>> {
    let document = destination_yaml::one(text)?;
    let paths = document["paths"].as_object().context("missing field paths")?;
    let base = base(&document);
    let mut names: Vec<&String> = paths.keys().collect();
    names.sort();
    let mut routes = Vec::new();
    for path in names {
        let full = format!("{base}{path}");
        for method in METHODS {
            let operation = &paths[path][method];
            if operation.is_object() {
                routes.push(route(&full, method, operation));
            }
        }
    }
    Ok(routes)
}

/// Returns the base path: `basePath` of version 2, or the path of the first server of version 3.
fn base(document: &Value) -> String {
    let server = document["servers"][0]["url"].as_str().unwrap_or_default();
    let path = match server.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => server,
    };
    let base = document["basePath"].as_str().unwrap_or(path);
    base.trim_end_matches('/').to_owned()
}

fn route(path: &str, method: &str, operation: &Value) -> Route {
    let method = method.to_uppercase();
    let responses = operation["responses"].as_object().into_iter().flatten();
    let mut statuses: Vec<(u16, bool)> = responses
        .filter_map(|(status, _)| status.parse().ok())
        .map(|status: u16| (status, status >= 500))
        .collect();
    statuses.sort_unstable();
    Route {
        name: format!("{method} {path}"),
        path_regex: regex(path),
        method,
        is_retryable: operation["x-linkerd-retryable"] == true,
        timeout: operation["x-linkerd-timeout"].as_str().map(str::to_owned),
        statuses,
    }
}

/// Converts a path with parameters to a regular expression.
fn regex(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(&super::proto::escape(before));
        out.push_str("[^/]*");
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    out + &super::proto::escape(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_each_operation_into_a_route() {
        let text = "swagger: '2.0'\nbasePath: /v1\npaths:\n  /pets/{id}.json:\n    get:\n      x-linkerd-timeout: 1s\n      \
                    responses: {'200': {}, '503': {}, default: {}}\n    parameters: []\n  /a:\n    post:\n      \
                    x-linkerd-retryable: true\n      responses: {}\n";
        let found = routes(text).expect("valid");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].is_retryable), ("POST /v1/a", true));
        assert_eq!(found[1].path_regex, "/v1/pets/[^/]*\\.json");
        assert_eq!(found[1].statuses, [(200, false), (503, true)]);
        assert_eq!(found[1].timeout.as_deref(), Some("1s"));
        assert!(routes("a: 1").is_err());
    }

    #[test]
    fn takes_the_base_path_of_version_3_from_the_server_url() {
        let text = "servers: [{url: 'https://x.y/api/'}]\npaths: {/a: {get: {}}}";
        assert_eq!(routes(text).expect("valid")[0].path_regex, "/api/a");
    }
}
