//! Routes of a protobuf file: one for each method of its services.
//!
//! Scanned for `package`, `service` and `rpc`, not parsed by the crate `protox-parse`: that would add a lexer generator
//! to the build for three keywords, and reject files of newer editions.

use anyhow::Result;

use super::Route;

/// Parses the routes, in file order.
pub(super) fn routes(text: &str) -> Result<Vec<Route>> {
    let text = without_comments(text);
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | ')'))
        .flat_map(|word| word.split_inclusive(['{', '}']))
        .flat_map(|word| match word.strip_suffix(['{', '}']) {
            Some(head) => [head, &word[head.len()..]],
            None => [word, ""],
        })
        .filter(|word| !word.is_empty())
        .collect();
    let mut package = String::new();
    let mut service = None;
    let mut depth = 0_usize;
    let mut routes = Vec::new();
    for pair in words.windows(2) {
        match pair {
            ["{", _] => depth += 1,
            ["}", _] => {
                depth = depth.saturating_sub(1);
                service = service.filter(|_| depth > 0);
            }
            ["package", name] if depth == 0 => package = format!("{name}."),
            ["service", name] if depth == 0 => service = Some(*name),
            ["rpc", name] => {
                if let Some(service) = service {
                    routes.push(route(&format!("{package}{service}"), name));
                }
            }
            _ => {}
        }
    }
    Ok(routes)
}

fn route(service: &str, method: &str) -> Route {
    Route {
        name: method.to_owned(),
        method: "POST".to_owned(),
        path_regex: format!("/{}/{}", escape(service), escape(method)),
        is_retryable: false,
        timeout: None,
        statuses: Vec::new(),
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, comment) = rest.split_at(at);
        out.push_str(before);
        rest = if comment.starts_with("//") {
            comment.find('\n').map_or("", |end| &comment[end..])
        } else if comment.starts_with("/*") {
            comment.find("*/").map_or("", |end| &comment[end + 2..])
        } else {
            out.push('/');
            &comment[1..]
        };
    }
    out + rest
}

/// Escapes a text for use in a regular expression.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_each_method_into_a_route() {
        let text = "syntax = \"proto3\"; // package no;\npackage emoji.v1;\nmessage M { string service = 1; }\n\
                    service Emoji {\n  rpc List(ListRequest) returns (stream M) { option x = 1; }\n  /* rpc Not (M) */\n  \
                    rpc Find (M) returns (M);\n}\nservice Vote{rpc Cast(M) returns(M){}}\n";
        let found = routes(text).expect("read");
        let paths: Vec<&str> = found.iter().map(|route| route.path_regex.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/emoji\\.v1\\.Emoji/List",
                "/emoji\\.v1\\.Emoji/Find",
                "/emoji\\.v1\\.Vote/Cast"
            ]
        );
        assert_eq!(found[1].name, "Find");
    }
}
