//! Key and request.
