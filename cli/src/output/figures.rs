//! Figures in Linkerd's formats. A missing value is `-`.

/// Formats a share as `99.50%`.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(nothing, |share| format!("{:.2}%", share * 100.0))
}

/// Formats a rate as `12.3rps`.
pub(crate) fn requests_per_second(rate: Option<f64>) -> String {
    rate.map_or_else(nothing, |rate| format!("{rate:.1}rps"))
}

/// Formats a latency as `15ms`.
pub(crate) fn milliseconds(time: Option<u64>) -> String {
    time.map_or_else(nothing, |time| format!("{time}ms"))
}

/// Formats a throughput as `1024.0B/s`.
pub(crate) fn bytes_per_second(rate: Option<f64>) -> String {
    rate.map_or_else(nothing, |rate| format!("{rate:.1}B/s"))
}

fn nothing() -> String {
    "-".to_owned()
}
