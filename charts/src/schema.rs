//! Validation of values against a chart's schema. Implements the part of JSON Schema that the charts use: `type`,
//! `enum`, `pattern` (described by the `description` beside it), `minimum`, `maximum`, `properties` and
//! `additionalProperties: false`; a test rejects any other keyword.

use serde_json::Value;

use crate::Error;

/// Supported keywords.
#[cfg(test)]
pub(crate) const KEYWORDS: [&str; 9] = [
    "$schema",
    "type",
    "enum",
    "pattern",
    "description",
    "minimum",
    "maximum",
    "properties",
    "additionalProperties",
];

/// Rejects the first value that violates the schema; `path` is its location.
pub(crate) fn check(schema: &Value, value: &Value, path: &str) -> Result<(), Error> {
    let invalid = |reason: String| {
        Err(Error::Value {
            field: if path.is_empty() { ".".into() } else { path.into() },
            reason,
        })
    };
    if let Some(types) = schema.get("type") {
        let names: Vec<&str> = match types {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        if !names.iter().any(|name| is(name, value)) {
            let words = names.iter().map(|name| word(name)).collect::<Vec<_>>().join(" or ");
            return invalid(format!("{value} is not {words}"));
        }
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        return invalid(format!("{value} is not one of {}", choices.join(", ")));
    }
    if let (Some(pattern), Some(text)) = (schema.get("pattern").and_then(Value::as_str), value.as_str()) {
        // Patterns are valid: a test compiles each.
        let matches = regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        if !matches {
            let meaning = schema.get("description").and_then(Value::as_str).unwrap_or(pattern);
            return invalid(format!("{value} is not {meaning}"));
        }
    }
    if let Some(number) = value.as_f64() {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        if bound("minimum").is_some_and(|least| number < least) {
            return invalid(format!("{value} is less than {}", schema["minimum"]));
        }
        if bound("maximum").is_some_and(|most| number > most) {
            return invalid(format!("{value} is more than {}", schema["maximum"]));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match schema.get("properties").and_then(|known| known.get(key)) {
            Some(schema) => check(schema, value, &path)?,
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                return Err(Error::Value {
                    field: path,
                    reason: "unknown value".into(),
                });
            }
            None => {}
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn word(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}
