//! `mesh viz tap`: live requests, one event per line.

use anyhow::{Result, anyhow};
use http_body_util::BodyExt;
use viz_api::{
    Problem, Resource, TapEvent, TapRequest,
    tap::{Peer, StreamId},
};

use super::{ApiFlags, NamespaceFlags, api::Body, resources};
use crate::output;

/// Longest line of the stream: several times an event with the largest headers.
const LINE_BYTES: usize = 1024 * 1024;

/// Arguments of `mesh viz tap`.
#[derive(Debug, clap::Args)]
pub(crate) struct TapArgs {
    /// Output format.
    #[arg(short, long, value_enum)]
    output: Option<TapFormat>,
    #[command(flatten)]
    tap: TapFlags,
}

/// Flags shared by `tap` and `top`: the requests to tap.
#[derive(Debug, clap::Args)]
pub(super) struct TapFlags {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Restrict to requests to this resource, KIND/NAME.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Maximum requests per second, over all pods.
    #[arg(long, default_value_t = 100)]
    max_rps: u32,
    /// Restrict to this scheme.
    #[arg(long)]
    scheme: Option<String>,
    /// Restrict to this method.
    #[arg(long)]
    method: Option<String>,
    /// Restrict to this authority.
    #[arg(long)]
    authority: Option<String>,
    /// Restrict to paths with this prefix.
    #[arg(long, value_parser = path_prefix)]
    path: Option<String>,
    /// Restrict to pods that match this label selector.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    source: ApiFlags,
}

impl TapFlags {
    /// Starts the tap. The format decides whether headers are included.
    pub(super) async fn open(self, format: Option<TapFormat>) -> Result<Lines> {
        let api = self.source.api().await?;
        let request = TapRequest {
            namespace: self.namespace.get(&api),
            labels: self.selector,
            to: self.to,
            to_namespace: self.to_namespace,
            scheme: self.scheme,
            method: self.method,
            authority: self.authority,
            path: self.path,
            max_rps: Some(self.max_rps),
            headers: format == Some(TapFormat::Json),
            ..TapRequest::new(resources::parse_one(&self.resource)?)
        };
        Ok(Lines::new(api.tap(&request).await?))
    }
}

/// Parses a path prefix. One without a leading slash would never match.
fn path_prefix(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text == "*" {
        return Ok(text.to_owned());
    }
    Err("a path must begin with /".to_owned())
}

/// Output format, other than one short line per event.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TapFormat {
    /// Lines with all labels
    Wide,
    /// One JSON object per event, with headers
    Json,
}

/// `mesh viz tap`: shows events until the reader closes standard output.
pub(super) async fn run(args: TapArgs) -> Result<()> {
    let format = args.output;
    let mut lines = args.tap.open(format).await?;
    while let Some(line) = lines.next().await? {
        if !show(&line, format)? {
            return Ok(());
        }
    }
    Err(anyhow!("mesh-viz closed the tap"))
}

/// Lines of a tap stream.
pub(super) struct Lines {
    body: Body,
    pending: Vec<u8>,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self {
            body,
            pending: Vec::new(),
        }
    }

    /// Returns the next line including its newline, or none at the end of the tap. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.pending.drain(..=end).collect()));
            }
            if self.pending.len() > LINE_BYTES {
                return Err(anyhow!("mesh-viz sent a line of more than {LINE_BYTES} bytes"));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| anyhow!("lost the tap: {e}"))?;
            self.pending
                .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
    }
}

/// Prints one line of the stream. Returns false if the reader has closed standard output.
fn show(line: &[u8], format: Option<TapFormat>) -> Result<bool> {
    if let Ok(problem) = serde_json::from_slice::<Problem>(line) {
        eprintln!("mesh: {}", problem.error);
        return Ok(true);
    }
    let event: TapEvent = serde_json::from_slice(line)?;
    if event.dropped > 0 {
        eprintln!(
            "mesh: {} events were dropped because they arrived faster than they could be shown",
            event.dropped
        );
    }
    let text = match format {
        Some(TapFormat::Json) => serde_json::to_string_pretty(&event)?,
        Some(TapFormat::Wide) => format!("{}{}", short(&event), labels(&event)),
        None => short(&event),
    };
    output::try_print(&format!("{text}\n"))
}

fn short(event: &TapEvent) -> String {
    let inbound = event.proxy_direction == "INBOUND";
    let address = |peer: &Option<Peer>| match peer {
        Some(peer) if peer.ip.contains(':') => format!("[{}]:{}", peer.ip, peer.port),
        Some(peer) => format!("{}:{}", peer.ip, peer.port),
        None => String::new(),
    };
    let secured = if inbound { &event.source } else { &event.destination };
    let flow = format!(
        "proxy={} src={} dst={} tls={}",
        if inbound { "in " } else { "out" },
        address(&event.source),
        address(&event.destination),
        secured.as_ref().map_or("", tls)
    );
    let id = |id: StreamId| format!("id={}:{}", id.base, id.stream);
    let micros = |nanos: u64| format!("{}µs", nanos / 1000);
    if let Some(init) = &event.request_init_event {
        let (method, authority, path) = (&init.method, &init.authority, &init.path);
        return format!(
            "req {} {flow} :method={method} :authority={authority} :path={path}",
            id(init.id)
        );
    }
    if let Some(init) = &event.response_init_event {
        let latency = micros(init.since_request_init);
        return format!(
            "rsp {} {flow} :status={} latency={latency}",
            id(init.id),
            init.http_status
        );
    }
    let Some(end) = &event.response_end_event else {
        return format!("??? {flow}");
    };
    let how = match (end.grpc_status_code, end.reset_error_code) {
        (Some(code), _) => format!(" grpc-status={}", grpc_status(code)),
        (_, Some(code)) => format!(" reset-error={code}"),
        _ => String::new(),
    };
    let duration = micros(end.since_response_init);
    format!(
        "end {} {flow}{how} duration={duration} response-length={}B",
        id(end.id),
        end.response_bytes
    )
}

/// Returns `true`, or the reason for the absence of TLS.
fn tls(peer: &Peer) -> &str {
    let label = |key: &str| {
        peer.metadata
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    match label("tls") {
        Some("true") => "true",
        tls => label("no_tls_reason").or(tls).unwrap_or(""),
    }
}

fn labels(event: &TapEvent) -> String {
    let side = |prefix: &str, peer: &Option<Peer>| {
        let labels = peer.iter().flat_map(|p| &p.metadata);
        labels
            .map(|(key, value)| format!(" {prefix}_{key}={value}"))
            .collect::<Vec<_>>()
            .concat()
    };
    let route = event
        .route_meta
        .iter()
        .map(|(key, value)| format!(" rt_{key}={value}"))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "{}{}{route}",
        side("src", &event.source),
        side("dst", &event.destination)
    )
}

fn grpc_status(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES
        .get(code as usize)
        .map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use viz_api::tap::{RequestInit, ResponseEnd, ResponseInit};

    use super::*;

    fn event() -> TapEvent {
        let peer = |ip: &str, port: u16, labels: &[(&str, &str)]| {
            let metadata = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Some(Peer {
                ip: ip.to_owned(),
                port,
                metadata,
            })
        };
        TapEvent {
            source: peer("10.0.0.1", 5555, &[]),
            destination: peer("10.0.0.2", 8080, &[("tls", "true"), ("server_id", "web")]),
            proxy_direction: "OUTBOUND".into(),
            ..TapEvent::default()
        }
    }

    #[test]
    fn rejects_a_path_without_leading_slash() {
        assert_eq!(path_prefix("/api").as_deref(), Ok("/api"));
        assert_eq!(path_prefix("api").expect_err("no slash"), "a path must begin with /");
    }

    #[test]
    fn renders_the_lines_of_linkerd() {
        let id = StreamId { base: 1, stream: 0 };
        let request = RequestInit {
            id,
            method: "GET".into(),
            authority: "web".into(),
            path: "/x".into(),
            ..RequestInit::default()
        };
        let flow = "id=1:0 proxy=out src=10.0.0.1:5555 dst=10.0.0.2:8080 tls=true";
        let line = short(&TapEvent {
            request_init_event: Some(request),
            ..event()
        });
        assert_eq!(line, format!("req {flow} :method=GET :authority=web :path=/x"));
        let response = ResponseInit {
            id,
            since_request_init: 1_234_567,
            http_status: 200,
            headers: Vec::new(),
        };
        let line = short(&TapEvent {
            response_init_event: Some(response),
            ..event()
        });
        assert_eq!(line, format!("rsp {flow} :status=200 latency=1234µs"));
        let end = ResponseEnd {
            id,
            since_response_init: 100_000,
            response_bytes: 1337,
            grpc_status_code: Some(0),
            ..ResponseEnd::default()
        };
        let event = TapEvent {
            response_end_event: Some(end),
            ..event()
        };
        assert_eq!(
            short(&event),
            format!("end {flow} grpc-status=OK duration=100µs response-length=1337B")
        );
        assert_eq!(labels(&event), " dst_server_id=web dst_tls=true");
    }
}
