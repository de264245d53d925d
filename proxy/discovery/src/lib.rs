//! What the control plane says, kept current: discovery streams, their cache, their age.
