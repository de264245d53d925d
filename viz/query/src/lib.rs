//! Request to rows, pure, over a window of samples.
