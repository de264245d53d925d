//! Readings of a path: policies compare paths as they were sent, but applications decode them, merge their slashes and
//! drop their parameters first. A policy holds only if it decides about every reading alike.
//!
//! Nothing is rewritten: a path is forwarded as it came, or not at all. Case and a trailing slash are not readings,
//! because they are part of a path's meaning in policies, too.

use std::borrow::Cow;

use proxy_model::{
    ServerProtocol,
    route::{GrpcMatch, HttpMatch, PathMatch},
};

/// Times that an application may decode a path.
const DECODINGS: u8 = 2;

/// Returns true if the policy's decisions depend on paths.
pub fn decides(protocol: &ServerProtocol) -> bool {
    let http = |matched: &HttpMatch| match &matched.path {
        None => false,
        Some(PathMatch::Prefix(prefix)) => !matches!(prefix.as_str(), "" | "/"),
        Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => true,
    };
    let grpc = |matched: &GrpcMatch| matched.service.is_some() || matched.method.is_some();
    match protocol {
        ServerProtocol::Detect { routes, .. }
        | ServerProtocol::Http1 { routes, .. }
        | ServerProtocol::Http2 { routes, .. } => {
            let mut rules = routes.iter().flat_map(|route| &route.rules);
            rules.any(|rule| rule.matches.iter().any(http))
        }
        ServerProtocol::Grpc { routes } => {
            let mut rules = routes.iter().flat_map(|route| &route.rules);
            rules.any(|rule| rule.matches.iter().any(grpc))
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => false,
    }
}

/// Returns true if a path has more than one reading. One pass over its bytes.
pub fn is_ambiguous(path: &str) -> bool {
    let mut after_slash = false;
    path.bytes().any(|byte| {
        let found = matches!(byte, b'%' | b';' | b'\\') || (after_slash && matches!(byte, b'/' | b'.'));
        after_slash = byte == b'/';
        found
    })
}

/// Calls `accepts` with each further reading of a path, and the number of times that it was decoded. False if one is
/// not accepted, or if the path has what no client sends in good faith: dot segments, backslashes, control characters,
/// overlong UTF-8 or broken escapes, however they are encoded.
pub fn all_readings(path: &str, mut accepts: impl FnMut(&str, u8) -> bool) -> bool {
    let mut text = Cow::Borrowed(path);
    for level in 0..=DECODINGS {
        if level > 0 {
            match decode(&text, level == 1) {
                Decoded::Same => return true,
                Decoded::Hostile => return false,
                Decoded::Text(decoded) => text = Cow::Owned(decoded),
            }
        }
        let is_accepted = is_decent(&text) && (level == 0 || accepts(&text, level));
        if !is_accepted || !cleaned(&text, |reading| accepts(reading, level)) {
            return false;
        }
    }
    // Nothing legitimate is encoded more often.
    matches!(decode(&text, false), Decoded::Same)
}

/// Calls `accepts` with each text that results from cutting, stripping and merging `text`.
fn cleaned(text: &str, mut accepts: impl FnMut(&str) -> bool) -> bool {
    let cut = text.split(['?', '#']).next().unwrap_or_default();
    let is_cut = cut.len() < text.len();
    let bases = [Some(text), is_cut.then_some(cut)];
    bases.into_iter().flatten().enumerate().all(|(index, base)| {
        let stripped = base.contains(';').then(|| strip_parameters(base));
        let merged = base.contains("//").then(|| merge_slashes(base));
        let both = stripped
            .as_deref()
            .filter(|text| text.contains("//"))
            .map(merge_slashes);
        let base = (index > 0).then_some(base);
        let all = [base, stripped.as_deref(), merged.as_deref(), both.as_deref()];
        all.into_iter().flatten().all(&mut accepts)
    })
}

fn strip_parameters(path: &str) -> String {
    let bare = |segment: &'_ str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// Returns true if no part of a path tries to leave its place.
fn is_decent(path: &str) -> bool {
    let is_dots = |segment: &str| matches!(segment.split([';', '?', '#']).next(), Some("." | ".."));
    !path.contains(|c: char| c == '\\' || c.is_ascii_control()) && !path.split('/').any(is_dots)
}

enum Decoded {
    /// There is nothing to decode.
    Same,
    Text(String),
    /// An escape is broken, or its byte is part of an overlong form.
    Hostile,
}

/// Decodes escapes; broken ones are hostile if `strict`, and stay as they are if not.
fn decode(text: &str, strict: bool) -> Decoded {
    if !text.contains('%') {
        return Decoded::Same;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut is_same = true;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, escape(tail)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
                is_same = false;
            }
            (b'%', None) if strict => return Decoded::Hostile,
            _ => bytes.push(first),
        }
    }
    if is_same {
        return Decoded::Same;
    }
    let is_overlong = |pair: &[u8]| matches!(pair, [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]);
    if bytes.windows(2).any(is_overlong) {
        return Decoded::Hostile;
    }
    Decoded::Text(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the byte of the two digits that follow a `%`.
fn escape(tail: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (high, low) = (tail.first().and_then(digit)?, tail.get(1).and_then(digit)?);
    u8::try_from(high * 16 + low).ok()
}

/// A policy's path, decoded as often as the reading that it is compared with.
pub(crate) fn literal(path: &str, level: u8) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(path);
    for _ in 0..level {
        if let Decoded::Text(decoded) = decode(&text, false) {
            text = Cow::Owned(decoded);
        }
    }
    text
}

#[cfg(test)]
mod tests;
