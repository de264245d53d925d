//! `emoji`: lists the emoji to vote for, over gRPC.

use anyhow::Result;
use http::Request;
use hyper::body::Incoming;
use tonic::Status;
use tower::service_fn;

use super::{
    proto::{self, Emoji, FindReply, FindRequest, ListReply, ListRequest},
    server::{Protocol, Reply, Servers},
};

/// Shortcodes and emoji.
const EMOJI: [(&str, &str); 12] = [
    (":crab:", "🦀"),
    (":doughnut:", "🍩"),
    (":fire:", "🔥"),
    (":ghost:", "👻"),
    (":guitar:", "🎸"),
    (":octopus:", "🐙"),
    (":pizza:", "🍕"),
    (":robot:", "🤖"),
    (":rocket:", "🚀"),
    (":snail:", "🐌"),
    (":taco:", "🌮"),
    (":turtle:", "🐢"),
];

/// Arguments of `emoji`.
#[derive(Debug, clap::Args)]
pub struct EmojiArgs {
    /// gRPC port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

pub(super) async fn run(args: EmojiArgs) -> Result<()> {
    let servers = Servers::new();
    servers.serve(args.port, Protocol::Grpc, serve).await?;
    servers.finish().await
}

async fn serve(request: Request<Incoming>) -> Reply {
    match request.uri().path() {
        proto::LIST => {
            let list = service_fn(async |_: tonic::Request<ListRequest>| {
                let emoji = EMOJI.iter().map(emoji).collect();
                Ok::<_, Status>(tonic::Response::new(ListReply { emoji }))
            });
            proto::answer(request, list).await
        }
        proto::FIND => {
            let find = service_fn(async |request: tonic::Request<FindRequest>| {
                let found = EMOJI.iter().find(|(code, _)| *code == request.get_ref().shortcode);
                Ok::<_, Status>(tonic::Response::new(FindReply {
                    emoji: found.map(emoji),
                }))
            });
            proto::answer(request, find).await
        }
        path => Status::unimplemented(format!("no method {path}")).into_http(),
    }
}

fn emoji((shortcode, unicode): &(&str, &str)) -> Emoji {
    Emoji {
        shortcode: (*shortcode).to_owned(),
        unicode: (*unicode).to_owned(),
    }
}
