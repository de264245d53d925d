//! `mesh viz tap`: requests as they pass, one event a line.

use anyhow::{Result, anyhow};
use http_body_util::BodyExt;
use viz_api::{
    Problem, Resource, TapEvent, TapRequest,
    tap::{Peer, StreamId},
};

use super::{Api, Namespace, Source, api::Body, resources};
use crate::output;

/// Longest line of the stream: an event with all headers of the longest kind, several times.
const LINE_BYTES: usize = 1024 * 1024;

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,
    #[command(flatten)]
    namespace: Namespace,
    /// Only what goes to this resource, KIND/NAME.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Requests a second, over all pods.
    #[arg(long, default_value_t = 100)]
    max_rps: u32,
    /// Only this scheme.
    #[arg(long)]
    scheme: Option<String>,
    /// Only this method.
    #[arg(long)]
    method: Option<String>,
    /// Only this authority.
    #[arg(long)]
    authority: Option<String>,
    /// Only paths that begin with this.
    #[arg(long, value_parser = path_prefix)]
    path: Option<String>,
    /// Only pods that carry these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    #[command(flatten)]
    source: Source,
}

/// Reads the beginning of a path; with another one nothing would ever be shown.
pub(super) fn path_prefix(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text == "*" {
        return Ok(text.to_owned());
    }
    Err("a path begins with /".to_owned())
}

/// In which form, if not one short line an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines with all labels.
    Wide,
    /// One JSON object an event, with headers.
    Json,
}

/// Shows events until nobody reads any more.
pub(super) async fn run(args: Args) -> Result<()> {
    let format = args.output;
    let api = args.source.api().await?;
    let request = args.request(&api)?;
    let mut lines = Lines::of(api.tap(&request).await?);
    while let Some(line) = lines.next().await? {
        if !show(&line, format)? {
            return Ok(());
        }
    }
    Err(anyhow!("mesh-viz ended the tap"))
}

/// The lines of a tap, as they come.
pub(super) struct Lines {
    body: Body,
    pending: Vec<u8>,
}

impl Lines {
    pub(super) fn of(body: Body) -> Self {
        Self {
            body,
            pending: Vec::new(),
        }
    }

    /// The next line, its end included; none at the end of the tap. May be dropped and asked again.
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
            let frame = frame.map_err(|e| anyhow!("mesh-viz ended the tap: {e}"))?;
            self.pending
                .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
    }
}

impl Args {
    fn request(self, api: &Api) -> Result<TapRequest> {
        Ok(TapRequest {
            namespace: self.namespace.get(api),
            labels: self.selector,
            to: self.to,
            to_namespace: self.to_namespace,
            scheme: self.scheme,
            method: self.method,
            authority: self.authority,
            path: self.path,
            max_rps: Some(self.max_rps),
            headers: self.output == Some(Format::Json),
            ..TapRequest::of(resources::parse_one(&self.resource)?)
        })
    }
}

/// Prints one line of the stream; whether somebody still reads.
fn show(line: &[u8], format: Option<Format>) -> Result<bool> {
    if let Ok(problem) = serde_json::from_slice::<Problem>(line) {
        eprintln!("mesh: {}", problem.error);
        return Ok(true);
    }
    let event: TapEvent = serde_json::from_slice(line)?;
    if event.dropped > 0 {
        eprintln!(
            "mesh: {} events were lost, for they came faster than they could be shown",
            event.dropped
        );
    }
    let text = match format {
        Some(Format::Json) => serde_json::to_string_pretty(&event)?,
        Some(Format::Wide) => format!("{}{}", short(&event), labels(&event)),
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

/// `true`, or why there is no TLS.
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
    fn a_path_that_none_begins_with_is_refused() {
        assert_eq!(path_prefix("/api").as_deref(), Ok("/api"));
        assert_eq!(path_prefix("api").expect_err("no path"), "a path begins with /");
    }

    #[test]
    fn lines_are_linkerds() {
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
