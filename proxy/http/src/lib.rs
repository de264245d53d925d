//! HTTP/1 and HTTP/2 servers, client connections and pool, orig-proto, upgrades, tap registry.
