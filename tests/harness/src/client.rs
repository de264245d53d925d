//! Clients: one HTTP/1 or HTTP/2 connection to an address, and requests with their complete responses.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::Owned;

/// Any error of a test.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A complete response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Complete body.
    pub body: Bytes,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
}

/// One connection.
pub struct Client {
    sender: Sender,
    authority: String,
    _connection: Owned,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Connects for HTTP/1.1 requests to `authority`.
    pub async fn http1(addr: SocketAddr, authority: &str) -> Result<Self, Error> {
        Self::http1_on(connect(addr).await?, authority).await
    }

    /// The same on a stream that is open already.
    pub async fn http1_on<I>(io: I, authority: &str) -> Result<Self, Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let connection = Owned::spawn(async move {
            let _ = connection.with_upgrades().await; // The request reports its error.
        });
        Ok(Self {
            sender: Sender::Http1(sender),
            authority: authority.to_owned(),
            _connection: connection,
        })
    }

    /// Connects for cleartext HTTP/2 requests to `authority`.
    pub async fn http2(addr: SocketAddr, authority: &str) -> Result<Self, Error> {
        let io = TokioIo::new(connect(addr).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let connection = Owned::spawn(async move {
            let _ = connection.await; // The request reports its error.
        });
        Ok(Self {
            sender: Sender::Http2(sender),
            authority: authority.to_owned(),
            _connection: connection,
        })
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str) -> Result<Answer, Error> {
        self.send(Request::get(path).body(Full::default())?).await
    }

    /// `POST path` with a body.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Answer, Error> {
        self.send(Request::post(path).body(Full::new(body.into()))?).await
    }

    /// Sends a request whose URI is a path, adding the authority, and reads the complete response.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let response = self.start(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// Sends a request whose URI is a path, adding the authority; the caller reads the body.
    pub async fn start(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<hyper::body::Incoming>, Error> {
        Ok(match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key(http::header::HOST) {
                    request
                        .headers_mut()
                        .insert(http::header::HOST, self.authority.parse()?);
                }
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("http://{}{}", self.authority, request.uri()).parse()?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

async fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
