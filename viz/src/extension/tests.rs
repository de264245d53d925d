//! The aggregated API as an API server sees it.
