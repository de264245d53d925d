//! The wire: generated protobuf to model and back; the only crate that names it.
