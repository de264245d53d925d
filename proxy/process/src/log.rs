//! The log: on stdout, as Linkerd's proxies write it, with a filter that can be changed while the process runs.
//!
//! A filter is a list of `LEVEL`, `TARGET=LEVEL` and `[{FIELD}]=LEVEL`. Filters of spans match nothing, because our
//! code opens none; so no program carries the regular expressions to match them.

use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
    sync::Arc,
    time::Instant,
};

use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{format::Writer, time::FormatTime},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::Error;

/// Format of lines.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text, with the time since the start.
    #[default]
    Plain,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" | "" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(Error::LogFormat(text.to_owned())),
        }
    }
}

/// Handle on the filter of the running process.
#[derive(Clone, Debug)]
pub struct Handle(Arc<reload::Handle<Targets, Registry>>);

impl Handle {
    /// Filter in force.
    pub fn filter(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Replaces the filter.
    pub fn set_filter(&self, filter: &str) -> Result<(), Error> {
        self.0.reload(parse(filter)?).map_err(|error| invalid(filter, &error))
    }
}

/// Sets up the log, once per process.
pub fn init(filter: &str, format: Format) -> Result<Handle, Error> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_thread_ids(true)
        .with_ansi(false)
        .with_writer(|| OneLine(io::stdout()));
    let lines = match format {
        Format::Plain => lines.with_timer(Uptime(Instant::now())).boxed(),
        Format::Json => lines.json().with_current_span(false).with_span_list(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| Error::LogTwice)?;
    Ok(Handle(Arc::new(handle)))
}

/// Writer that keeps each event on its line: foreign text, such as a name in a review, must not forge another event or
/// control a terminal.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    /// Writes an event, which comes as a whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = match event.strip_suffix(b"\n") {
            Some(line) => (line, &b"\n"[..]),
            None => (event, &b""[..]),
        };
        let text = String::from_utf8_lossy(line);
        if text.chars().any(is_control) {
            let escape = |c: char| {
                if is_control(c) {
                    c.escape_default().to_string()
                } else {
                    c.to_string()
                }
            };
            let escaped: String = text.chars().map(escape).collect();
            self.0.write_all(&[escaped.as_bytes(), end].concat())?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns true for characters that break a line or change how a terminal shows it.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn parse(filter: &str) -> Result<Targets, Error> {
    let listed = with_our_targets(filter.trim());
    let directives = listed.split(',').map(str::trim).filter(|one| !one.is_empty());
    let directives: Vec<&str> = directives.collect();
    if directives.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::ERROR));
    }
    directives.join(",").parse().map_err(|error| invalid(filter, &error))
}

fn invalid(filter: &str, error: &dyn fmt::Display) -> Error {
    Error::LogFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    }
}

/// Filters are written for Linkerd (`linkerd=info`); its level applies to our programs and crates, too. Directives that
/// name ours come later in the list and win.
fn with_our_targets(filter: &str) -> String {
    let level = filter
        .split(',')
        .rev()
        .find_map(|directive| directive.trim().strip_prefix("linkerd="));
    match level {
        None => filter.to_owned(),
        Some(level) => format!("mesh={level},proxy_={level},{filter}"),
    }
}

/// `[  12.345678s]`
struct Uptime(Instant);

impl FormatTime for Uptime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let up = self.0.elapsed();
        write!(w, "[{:>6}.{:06}s]", up.as_secs(), up.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn filters_for_linkerd_apply_to_our_crates() {
        let injected = "warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off";
        assert!(with_our_targets(injected).starts_with("mesh=info,proxy_=info,warn,linkerd=info"));
        assert_eq!(with_our_targets("debug"), "debug");
        let shown = parse(injected).expect("valid").to_string();
        assert!(shown.contains("proxy_=info") && shown.contains("mesh=info"), "{shown}");
        let parsed = parse(injected).expect("valid");
        assert!(parsed.would_enable("proxy_http::client", &Level::INFO));
        assert!(!parsed.would_enable("proxy_http::client", &Level::DEBUG));
        assert!(!parsed.would_enable("hickory", &Level::WARN) && parsed.would_enable("h2", &Level::WARN));
        let error = parse("linkerd=loud").expect_err("no level").to_string();
        assert!(error.starts_with("invalid log filter \"linkerd=loud\":"), "{error}");
    }

    #[test]
    fn foreign_text_forges_no_event() {
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        #[derive(Clone)]
        struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("whole").write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let shared = Shared(Arc::clone(&written));
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || OneLine(shared.clone()));
        let name = "web\n[ 1.0s] ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}é";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(%name, "event of {name}");
        });
        let text = String::from_utf8(written.lock().expect("whole").clone()).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.ends_with('\n') && !text.trim_end_matches('\n').chars().any(is_control),
            "{text:?}"
        );
        assert!(
            text.contains("\\nERROR") || text.contains("\\n[ 1.0s] ERROR forged\\r"),
            "{text}"
        );
        assert!(text.contains('é'));
    }

    #[test]
    fn ignores_blanks_and_empty_items() {
        let filter = parse(" debug, ,h2=off,").expect("valid");
        assert!(filter.would_enable("mesh", &Level::DEBUG) && !filter.would_enable("h2", &Level::ERROR));
        let nothing = parse(" ").expect("valid");
        assert!(nothing.would_enable("mesh", &Level::ERROR) && !nothing.would_enable("mesh", &Level::WARN));
    }

    #[test]
    fn parses_plain_and_json_formats() {
        assert_eq!("json".parse::<Format>().expect("known"), Format::Json);
        assert!(matches!("xml".parse::<Format>(), Err(Error::LogFormat(_))));
    }
}
