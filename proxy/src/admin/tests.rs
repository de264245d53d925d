//! What the admin server's own parts do.
