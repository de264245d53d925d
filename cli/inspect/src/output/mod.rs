//! What people see: tables without borders, figures as Linkerd writes them, a standard output that may close early.

mod figures;
mod table;

pub use figures::{bytes_per_second, milliseconds, percent, requests_per_second};
pub use table::{Align, Table};

use std::io::{self, Write};

use anyhow::Result;

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether somebody still reads standard output; prints if so.
pub fn try_print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
