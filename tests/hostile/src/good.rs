//! Well-behaved clients, which ask at a steady rate: the attack may not be felt by them.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests_harness::{certificates::identity, client::Client};
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};

use crate::raw::{self, From, http2::Http2, tls::Keys};

/// Time after which an answer counts as none.
const ANSWER: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 5 });
/// Requests on a connection before the next, so that new connections are asked for, too.
const UNTIL_CHANGED: u32 = 20;

/// Client with its question.
pub struct Good {
    /// Name in the table.
    pub name: &'static str,
    /// Server.
    pub to: SocketAddr,
    /// Own address.
    pub from: From,
    /// Time between questions.
    pub every: Duration,
    /// Question.
    pub question: Question,
}

/// Question.
pub enum Question {
    /// `GET path`, answered by 200.
    Get(&'static str),
    /// gRPC call, answered by a message.
    Call(&'static str, Vec<u8>),
    /// The same over TLS.
    SecureGet(Keys, &'static str),
    /// Review of a pod, answered by a patch.
    Review(Keys, Vec<u8>),
}

/// Questions asked so far, with their answers.
#[derive(Clone, Debug, Default)]
pub struct Asked(Rc<RefCell<Vec<Answered>>>);

#[derive(Clone, Debug)]
struct Answered {
    due: Instant,
    took: Duration,
    failed: Option<String>,
}

/// Answers of a time.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Questions.
    pub asked: usize,
    /// Questions without a right answer.
    pub failed: usize,
    /// First failure.
    pub failure: Option<String>,
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
}

impl Asked {
    /// Answers to the questions that were due in a time.
    pub fn within(&self, from: Instant, to: Instant) -> Seen {
        let all = self.0.borrow();
        let due = all.iter().filter(|one| one.due >= from && one.due < to);
        let mut took: Vec<Duration> = due.clone().map(|one| one.took).collect();
        took.sort_unstable();
        let at = |share: f64| {
            let index = (took.len() as f64 * share).ceil() as usize;
            took.get(index.saturating_sub(1)).copied().unwrap_or_default()
        };
        let failures: Vec<&String> = due.filter_map(|one| one.failed.as_ref()).collect();
        Seen {
            asked: took.len(),
            failed: failures.len(),
            failure: failures.first().map(|text| (*text).clone()),
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

impl Good {
    /// Asks until dropped. A question that is due while an earlier one waits counts from its own time.
    pub async fn ask_on(self, asked: Asked) {
        let mut connection = Connection {
            good: self,
            open: None,
            asked: 0,
        };
        let mut due = interval(connection.good.every);
        loop {
            let due = due.tick().await.into_std();
            let answer = timeout(ANSWER, connection.ask()).await;
            let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {ANSWER:?}")));
            if answer.is_err() {
                connection.open = None;
            }
            asked.0.borrow_mut().push(Answered {
                due,
                took: due.elapsed(),
                failed: answer.err().map(|error| format!("{error:#}")),
            });
        }
    }
}

struct Connection {
    good: Good,
    open: Option<Open>,
    asked: u32,
}

enum Open {
    Http1(Client),
    Http2(Http2<TcpStream>),
}

impl Connection {
    async fn ask(&mut self) -> Result<()> {
        self.asked += 1;
        if self.asked.is_multiple_of(UNTIL_CHANGED) {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.good.connect().await.context("cannot connect")?,
        };
        let open = self.open.insert(open);
        match (&self.good.question, open) {
            (Question::Get(path) | Question::SecureGet(_, path), Open::Http1(client)) => {
                let answer = client.get(path).await.map_err(|error| anyhow::anyhow!(error))?;
                ensure!(answer.status == 200, "{} {:?}", answer.status, answer.headers);
            }
            (Question::Review(_, review), Open::Http1(client)) => {
                let answer = client.post("/", review.clone()).await;
                let answer = answer.map_err(|error| anyhow::anyhow!(error))?;
                let is_patched = answer.body.windows(9).any(|part| part == b"JSONPatch");
                ensure!(answer.status == 200 && is_patched, "{}", answer.status);
            }
            (Question::Call(path, message), Open::Http2(connection)) => {
                connection.grpc(path, &identity("bench", "client"), message).await?;
                // A watch would stay open.
                self.open = None;
            }
            _ => unreachable!("a connection suits its question"),
        }
        Ok(())
    }
}

impl Good {
    async fn connect(&self) -> Result<Open> {
        let socket = raw::connect(self.to, self.from).await?;
        Ok(match &self.question {
            Question::Get(_) => Open::Http1(http1(socket).await?),
            Question::Call(..) => Open::Http2(Http2::open(socket, &[]).await?),
            Question::Review(keys, _) | Question::SecureGet(keys, _) => {
                let config = keys.config(&[b"http/1.1"])?;
                Open::Http1(http1(keys.connect(socket, &config).await?).await?)
            }
        })
    }
}

async fn http1<I: raw::Io + Send + 'static>(io: I) -> Result<Client> {
    Client::http1_on(io, "good.example")
        .await
        .map_err(|error| anyhow::anyhow!(error))
}
