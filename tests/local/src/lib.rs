//! Tests that run the programs in network namespaces.
