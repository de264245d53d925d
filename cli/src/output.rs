//! What people see: tables without borders, figures as Linkerd writes them, a standard output that may close early.

mod figures;
mod spinner;
mod table;

pub(crate) use cli_check::stdout::{print, try_print};
pub(crate) use figures::{bytes_per_second, milliseconds, percent, requests_per_second};
pub(crate) use spinner::patiently;
pub(crate) use table::{Align, Table};
