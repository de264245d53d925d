//! What every server program does: log, signals, drain, owned tasks, admin server.
