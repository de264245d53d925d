//! Row types that viz and the CLI share.
