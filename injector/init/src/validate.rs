//! `mesh-validator`: connects to an unused address and expects to reach itself through the redirection rules.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use clap::Parser;

/// Exit status when traffic is not redirected; repair controllers watch for it.
pub const EXIT_NOT_REDIRECTED: u8 = 95;
/// Length of the token that identifies the listener.
const TOKEN_LEN: usize = 63;

/// Checks that outbound traffic of this network namespace is redirected.
#[derive(Debug, Parser)]
#[command(name = "mesh-validator", version)]
pub struct Args {
    /// Unused address to connect to; the rules redirect it to the listener
    #[arg(long, default_value = "1.1.1.1:20001")]
    pub connect_addr: SocketAddr,
    /// Address that redirected traffic reaches
    #[arg(long, default_value = "0.0.0.0:4140")]
    pub listen_addr: SocketAddr,
    /// Timeout of the whole check, such as 10s
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Accepted for compatibility with the charts
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Accepted for compatibility with the charts
    #[arg(long, default_value = "plain")]
    pub log_format: String,
}

/// Error of a check.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener that cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// A connection that failed.
    #[error(
        "traffic is not redirected: no answer from the validator at {0} ({1}); is the CNI plugin installed on this node?"
    )]
    Connect(SocketAddr, io::Error),
    /// An answer from another program.
    #[error("traffic is not redirected: another program answers at {0}; is the CNI plugin installed on this node?")]
    Foreign(SocketAddr),
}

/// Parses `10s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(format!("{text:?} is not a duration such as 10s, 500ms or 2m")),
    };
    let number: u32 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a duration such as 10s, 500ms or 2m"))?;
    if number == 0 {
        return Err("the timeout must not be zero".to_owned());
    }
    Ok(Duration::from_millis(u64::from(number) * unit))
}

/// Succeeds if the connection reaches the program's own listener in time.
pub fn run(args: &Args) -> Result<(), Error> {
    let deadline = Instant::now() + args.timeout;
    let mut token: String = std::iter::repeat_with(fastrand::alphanumeric).take(TOKEN_LEN).collect();
    token.push('\n');
    let listener = TcpListener::bind(args.listen_addr).map_err(|error| Error::Listen(args.listen_addr, error))?;
    let answer = token.clone();
    // Ends with the process; each connection gets the token.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    let failed = |error| Error::Connect(args.connect_addr, error);
    let mut stream = TcpStream::connect_timeout(&args.connect_addr, args.timeout).map_err(failed)?;
    let mut read = Vec::with_capacity(token.len() + 1);
    while read.len() <= token.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        let mut buffer = [0; TOKEN_LEN + 2];
        match stream.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
    if read == token.as_bytes() {
        Ok(())
    } else {
        Err(Error::Foreign(args.connect_addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_or_rejects_durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("10").is_err() && duration("s").is_err() && duration("0s").is_err());
    }
}
