//! X.509 for the mesh: anchors, issuer, CSR, leaf, validity. Bytes in, bytes out; no files, no network.
//!
//! ```text
//! [Anchor] --signs--> [Issuer] --signs--> [Leaf]        what `mesh local` makes and mesh-identity uses
//! [Csr]    --checked against an identity, then signed--^
//! [Anchors] accept an [Issuer] whose leaves verify up to one of them
//! ```
//!
//! Everything is ECDSA P-256 with SHA-256, which is what Linkerd's proxies make and accept. An [`Error`] displays as
//! one sentence, and [`Error::blame`] names the party at fault.

mod anchors;
mod authority;
mod csr;
mod error;
mod validity;

pub use anchors::Anchors;
pub use authority::{Anchor, Issuer, Leaf, LeafTimes};
pub use csr::{Csr, KeyAndCsr, make_key_and_csr};
pub use error::{Blame, Error};
pub use validity::Validity;

/// Largest CSR that is parsed; one of ours is 350 bytes, and a DER parser should not be fed without limit.
pub const CSR_BYTES_MAX: usize = 16 * 1024;
/// Most certificates parsed from one PEM text; trust bundles hold a few, and each is tried in a verification.
pub const CERTIFICATES_MAX: usize = 64;

#[cfg(test)]
mod tests;
