//! YAML: people's and clusters' text in, values out, and back. The only crate that names a YAML parser.
//!
//! ```text
//! text ─[documents]─▶ Document ─[value]─▶ serde_json::Value ─[write]─▶ text that every parser reads alike
//! ```
//!
//! It knows nothing of what the values mean.

mod read;
mod write;

pub use read::{Document, INVALID, Invalid, all, documents, one, walk};
pub use write::write;
