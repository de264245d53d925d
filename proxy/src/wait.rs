//! `mesh-proxy await`: exits when the sidecar beside it is ready. It is the hook of pods without native sidecars, whose
//! application starts only afterwards.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use proxy_model::ports;

use crate::env::values::duration;

/// Usage of the command.
const USAGE: &str = "usage: mesh-proxy await [--timeout=2m] [--port=4191]";
/// Time between two probes.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for one probe.
const ANSWER: Duration = Duration::from_secs(1);
/// Default time in all.
const TIMEOUT: Duration = Duration::from_secs(120);

/// WaitError of the command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// The command line is invalid.
    #[error("{0}; {USAGE}")]
    Usage(String),
    /// It was not ready in time.
    #[error("sidecar not ready on port {port} within {within:?}: {last}")]
    NotReady {
        port: u16,
        within: Duration,
        last: io::Error,
    },
}

/// Runs `await` with its arguments; a failure is one line, which the kubelet shows as the hook's.
pub(crate) fn run(args: impl Iterator<Item = String>) -> ExitCode {
    match wait(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-proxy await: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wait(args: impl Iterator<Item = String>) -> Result<(), WaitError> {
    let (timeout, port) = read(args)?;
    let deadline = Instant::now() + timeout;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ready(address, left.clamp(Duration::from_millis(1), ANSWER)) {
            Ok(()) => return Ok(()),
            Err(last) if left <= PAUSE => {
                return Err(WaitError::NotReady {
                    port,
                    within: timeout,
                    last,
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn read(mut args: impl Iterator<Item = String>) -> Result<(Duration, u16), WaitError> {
    let (mut timeout, mut port) = (TIMEOUT, ports::ADMIN);
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (arg, args.next()),
        };
        let value = value.ok_or_else(|| WaitError::Usage(format!("{flag} needs a value")))?;
        let wrong = |reason: String| WaitError::Usage(format!("{flag}: {reason}"));
        match flag.as_str() {
            "--timeout" => timeout = duration(&value).map_err(wrong)?,
            "--port" => {
                let number = value.parse().ok().filter(|port| *port != 0);
                port = number.ok_or_else(|| wrong(format!("{value:?} is not a port from 1 to 65535")))?;
            }
            _ => return Err(WaitError::Usage(format!("unknown argument {flag}"))),
        }
    }
    Ok((timeout, port))
}

/// Probes once.
fn ready(address: SocketAddr, timeout: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status)?;
    match &status[9..] {
        b"200" => Ok(()),
        code => {
            let code = String::from_utf8_lossy(code);
            Err(io::Error::other(format!("/ready answers {code}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::{USAGE, WaitError};

    fn wait(args: &[&str]) -> Result<(), WaitError> {
        super::wait(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn it_ends_at_the_first_ready_answer() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("its address").port();
        let answers = thread::spawn(move || {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = server.accept().expect("a probe");
                let mut line = [0; 15];
                stream.read_exact(&mut line).expect("a request");
                assert_eq!(&line, b"GET /ready HTTP");
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").expect("answered");
                // What is unread when a socket closes would reset the answer.
                let _ = stream.read(&mut [0; 256]);
            }
        });
        wait(&["--timeout=10s", "--port", &port.to_string()]).expect("ready");
        answers.join().expect("both probes");
    }

    #[test]
    fn it_says_why_it_gave_up() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("its address").port();
        drop(server);
        let said = wait(&["--timeout=150ms", &format!("--port={port}")]).expect_err("no server");
        assert!(
            said.to_string()
                .starts_with(&format!("sidecar not ready on port {port}"))
        );
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (args, word) in [
            (&["--port=0"][..], "--port"),
            (&["--timeout", "2"], "--timeout"),
            (&["--timeout"], "needs a value"),
            (&["--x=1"], "--x"),
        ] {
            let said = wait(args).expect_err("refused").to_string();
            assert!(said.contains(word) && said.contains(USAGE), "{said}");
        }
    }
}
