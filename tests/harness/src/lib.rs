//! What tests share: scripted control plane, certificates, servers, clients.
