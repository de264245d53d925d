//! Metric and label names, per-worker recorders, text format.
