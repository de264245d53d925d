//! The verbs of the proxy, pure: what to do with a connection or request, given what is known of it.
//!
//! No I/O, no clock, no global randomness: time (`Instant`) and the generator are arguments, so that every decision can be
//! tested by hand. What runs for each request (select, authorize, distribute, balance) allocates nothing.
//!
//! ```text
//! detect -> select -> authorize -> ratelimit            (inbound)
//! detect -> select -> distribute -> balance -> breaker  (outbound), then classify, budget, backoff
//! ```

pub mod authorize;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod classify;
pub mod detect;
pub mod distribute;
pub mod ratelimit;
pub mod select;
