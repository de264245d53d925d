//! Messages of the proxy API as values for JSON and YAML, with the API's own shape and names. Generated messages have
//! neither a serializer nor a descriptor; their `Debug` text is the only form with all fields, so it is parsed.

use std::fmt::Debug;

use anyhow::{Result, anyhow};
use serde_json::{Map, Number, Value};

/// Converts a message to a value. Unset fields are omitted.
pub(super) fn value(message: &impl Debug) -> Result<Value> {
    let text = format!("{message:?}");
    let mut reader = Reader { rest: &text };
    let value = reader.value();
    value
        .filter(|_| reader.skip().is_empty())
        .ok_or_else(|| anyhow!("cannot parse the response: {text}"))
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    /// Consumes a character, if it is next.
    fn takes(&mut self, mark: char) -> bool {
        let rest = self.skip().strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Value> {
        let rest = self.skip();
        match rest.chars().next()? {
            '"' => self.string().map(Value::String),
            'b' if rest.starts_with("b\"") => {
                self.rest = &rest[1..];
                self.string().map(Value::String)
            }
            '[' => self.items('[', ']').map(Value::Array),
            '(' => self.items('(', ')').map(Value::Array),
            '{' => self.map(),
            first if first == '-' || first.is_ascii_digit() => self.number(),
            _ => self.named(),
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.strip_prefix('"')?.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0' => '\0',
                    code @ ('u' | 'x') => {
                        let hex: String = match code {
                            'u' => chars.by_ref().skip(1).take_while(|c| *c != '}').collect(),
                            _ => chars.by_ref().take(2).collect(),
                        };
                        char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                    }
                    other => other,
                }),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn number(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        text.parse::<Number>().ok().map(Value::Number)
    }

    fn word(&mut self) -> Option<&'a str> {
        let rest = self.skip();
        // A raw identifier, such as `r#type`.
        let rest = rest.strip_prefix("r#").unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn items(&mut self, open: char, close: char) -> Option<Vec<Value>> {
        let mut items = vec![];
        self.takes(open).then_some(())?;
        while !self.takes(close) {
            items.push(self.value()?);
            if !self.takes(',') {
                return self.takes(close).then_some(items);
            }
        }
        Some(items)
    }

    /// Parses `{key: value}`, with any keys.
    fn map(&mut self) -> Option<Value> {
        let mut map = Map::new();
        self.takes('{').then_some(())?;
        while !self.takes('}') {
            let key = match self.value()? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            self.takes(':').then_some(())?;
            let value = self.value()?;
            if !value.is_null() {
                map.insert(key, value);
            }
            if !self.takes(',') {
                return self.takes('}').then_some(Value::Object(map));
            }
        }
        Some(Value::Object(map))
    }

    /// Parses a value that begins with a name: an option, a message, an enum variant or a word.
    fn named(&mut self) -> Option<Value> {
        let name = self.word()?;
        if self.rest.starts_with('(') {
            let mut items = self.items('(', ')')?;
            let value = if items.len() == 1 {
                items.remove(0)
            } else {
                Value::Array(items)
            };
            let is_option = name == "Some";
            return Some(if is_option {
                value
            } else {
                Value::Object(Map::from_iter([(name.to_owned(), value)]))
            });
        }
        if self.rest.starts_with(" {") {
            return self.map();
        }
        Some(match name {
            "None" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word => Value::String(word.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proxy_api::encode;
    use proxy_model::{
        Authorization, OutboundTarget, ServerPolicy, ServerProtocol, inbound::catch_all, route::HttpMatch,
    };
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug alone")]
    enum Kind {
        Detect(Inner),
        Deny,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug alone")]
    struct Inner {
        text: String,
        list: Vec<i64>,
        none: Option<u8>,
        some: Option<f64>,
        map: BTreeMap<String, bool>,
    }

    #[test]
    fn parses_every_form() {
        let inner = Inner {
            text: "a \"b\" \\ \n ü \u{1} {[(".to_owned(),
            list: vec![-1, 2],
            none: None,
            some: Some(1.5),
            map: BTreeMap::from([("k/x".to_owned(), true)]),
        };
        let expected = json!({"text": inner.text, "list": [-1, 2], "some": 1.5, "map": {"k/x": true}});
        let all = (Some(Kind::Detect(inner)), Kind::Deny, ());
        assert_eq!(
            value(&all).expect("readable"),
            json!([{"Detect": expected}, "Deny", []])
        );
    }

    #[test]
    fn parses_raw_identifiers() {
        let text = "HttpMethod { r#type: Some(Registered(0)), r#in: None }";
        let mut reader = Reader { rest: text };
        assert_eq!(reader.value(), Some(json!({"type": {"Registered": 0}})));
    }

    #[test]
    fn shows_a_policy_that_matches_methods() {
        let mut route = catch_all::<HttpMatch>();
        route.rules[0].matches[0].method = Some(http::Method::GET);
        let policy = ServerPolicy {
            protocol: ServerProtocol::Http1 {
                routes: vec![route],
                rate_limit: None,
            },
            authorizations: vec![Authorization::everyone("probe")],
            labels: BTreeMap::new(),
            server_ips: Vec::new(),
        };
        let shown = value(&encode::server_policy(&policy)).expect("readable").to_string();
        assert!(shown.contains(r#""method":{"type":{"Registered":"#), "{shown}");
    }

    #[test]
    fn keeps_the_shape_of_messages() {
        let request = proxy_api::OutboundRequest {
            workload: "default:diagnostics".to_owned(),
            target: OutboundTarget::Addr("10.0.0.1:80".parse().expect("an address")),
        };
        let shown = value(&encode::traffic_spec(&request)).expect("readable");
        assert_eq!(shown["source_workload"], "default:diagnostics", "{shown}");
        assert_eq!(shown["target"]["Addr"]["port"], 80, "{shown}");
    }
}
