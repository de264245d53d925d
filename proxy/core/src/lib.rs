//! Pure decisions of the proxy about a connection or request.
//!
//! No I/O, no clock, no global randomness: time (`Instant`) and the generator are arguments, so that every decision can
//! be unit tested. Code that runs for each request (select, authorize, distribute, balance) does not allocate.
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
pub mod log_quota;
pub mod path;
pub mod ratelimit;
pub mod retry_after;
pub mod select;
