//! Values: parsed, merged and set one by one, with Helm's semantics.

use serde_json::{Map, Value};

use crate::Error;

/// Longest list that `--set` may create by an index, so that a typo cannot exhaust memory.
const INDEX_MAX: usize = 1_000;

/// Parses a values file; an empty file yields an empty mapping.
pub fn parse(text: &str) -> Result<Value, Error> {
    match destination_yaml::one(text) {
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(map @ Value::Object(_)) => Ok(map),
        Ok(_) => Err(Error::Values("invalid values: must be a mapping".into())),
        Err(error) => Err(Error::Values(format!("invalid values: {error}"))),
    }
}

/// Merges `over` into `values`: maps are merged, anything else is replaced, and null removes a value.
pub fn merge(values: &mut Value, over: &Value) {
    let (Value::Object(values), Value::Object(over)) = (values, over) else {
        return;
    };
    for (key, value) in over {
        match (values.get_mut(key), value) {
            (_, Value::Null) => {
                values.remove(key);
            }
            (Some(old @ Value::Object(_)), Value::Object(_)) => merge(old, value),
            _ => {
                values.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Applies a `--set`: `a.b=c,d[0].e=f,g={x,y}`; a backslash escapes the next character.
pub fn set(values: &mut Value, text: &str) -> Result<(), Error> {
    assign(values, text, scalar)
}

/// Applies a `--set-string`: as [`set`], but every value is a string.
pub fn set_string(values: &mut Value, text: &str) -> Result<(), Error> {
    assign(values, text, |text| Value::String(plain(text)))
}

/// Applies a `--set-file`: sets one value to a text, verbatim.
pub fn set_text(values: &mut Value, path: &str, text: String) -> Result<(), Error> {
    *place(values, path).ok_or_else(|| malformed(path))? = Value::String(text);
    Ok(())
}

fn malformed(part: &str) -> Error {
    Error::Values(format!(
        "invalid --set: {part:?} is not NAME=VALUE, such as proxy.logLevel=info"
    ))
}

fn assign(values: &mut Value, text: &str, scalar: fn(&str) -> Value) -> Result<(), Error> {
    for part in split(text, ',') {
        let (path, value) = cut(&part).ok_or_else(|| malformed(&part))?;
        let value = match value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("") => Value::Array(vec![]),
            Some(items) => split(items, ',').iter().map(|item| scalar(item)).collect(),
            None => scalar(value),
        };
        *place(values, path).ok_or_else(|| malformed(&part))? = value;
    }
    Ok(())
}

/// Returns the value at a path; creates it if it is missing.
fn place<'a>(values: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    split(path, '.').iter().try_fold(values, |at, name| step(at, name))
}

/// Follows one name of a path and the indexes after it.
fn step<'a>(at: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let (key, indexes) = match name.split_once('[') {
        Some((key, rest)) => (key, rest.strip_suffix(']')?.split("][").collect()),
        None => (name, vec![]),
    };
    if key.is_empty() {
        return None;
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    let mut at = at.as_object_mut()?.entry(plain(key)).or_insert(Value::Null);
    for index in indexes {
        let index: usize = index.parse().ok().filter(|index| *index <= INDEX_MAX)?;
        if !at.is_array() {
            *at = Value::Array(vec![]);
        }
        let items = at.as_array_mut()?;
        if items.len() <= index {
            items.resize(index + 1, Value::Null);
        }
        at = &mut items[index];
    }
    Some(at)
}

/// Splits at separators outside braces that no backslash escapes; keeps backslashes.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut depth, mut escaped) = (vec![String::new()], 0_usize, false);
    for c in text.chars() {
        let protected = escaped;
        escaped = c == '\\' && !protected;
        match c {
            '{' if !protected => depth += 1,
            '}' if !protected => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == separator && depth == 0 && !protected {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn cut(part: &str) -> Option<(&str, &str)> {
    part.split_once('=').filter(|(path, _)| !path.is_empty())
}

/// Removes escaping backslashes.
fn plain(text: &str) -> String {
    let mut escaped = false;
    let kept = text.chars().filter(|c| {
        let drop = *c == '\\' && !escaped;
        escaped = drop;
        !drop
    });
    kept.collect()
}

/// Reads booleans, integers and null as such, anything else (also `007`) as a string.
fn scalar(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        "0" => 0.into(),
        number if !number.starts_with('0') && number.parse::<i64>().is_ok() && !number.starts_with('+') => {
            number.parse::<i64>().map_or(Value::Null, Value::from)
        }
        text => Value::String(plain(text)),
    }
}
