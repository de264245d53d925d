//! A scripted Kubernetes API server, and programs of the control plane that need one.

pub mod api;
pub mod destination;
pub mod objects;
pub mod webhook;
