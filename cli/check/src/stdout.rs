//! Standard output, which may close early (`mesh … | head`). Used by every crate of the program `mesh`.

use std::io::{self, Write};

use anyhow::{Context as _, Result};

/// Prints to standard output. A closed reader (`| head`) is not an error.
pub fn print(text: &str) -> Result<()> {
    try_print(text).map(|_| ())
}

/// Prints to standard output. Returns false if the reader has closed it.
pub fn try_print(text: &str) -> Result<bool> {
    write(&mut io::stdout().lock(), text.as_bytes())
}

/// Writes to `out`, which stands for standard output. Returns false if the reader has closed it.
pub fn write(out: &mut impl Write, bytes: &[u8]) -> Result<bool> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ignores_a_closed_reader_but_reports_a_full_disk() {
        assert!(write(&mut Vec::new(), b"text").expect("written"));
        assert!(!write(&mut Broken(io::ErrorKind::BrokenPipe), b"text").expect("a closed reader is not an error"));
        let error = write(&mut Broken(io::ErrorKind::StorageFull), b"text").expect_err("lost");
        assert_eq!(error.to_string(), "cannot write to standard output");
    }
}
