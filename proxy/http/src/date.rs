//! `Date` header value, formatted once a second.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

thread_local! {
    static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// Returns the current value of `date`.
pub(crate) fn now() -> HeaderValue {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let second = since.unwrap_or(Duration::ZERO).as_secs();
    LAST.with_borrow_mut(|last| match last {
        Some((of, value)) if *of == second => value.clone(),
        last => {
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            let value = HeaderValue::try_from(text).expect("a date is visible ASCII");
            last.insert((second, value)).1.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_the_current_time() {
        let text = now();
        let time = httpdate::parse_http_date(text.to_str().expect("text")).expect("a date");
        let age = SystemTime::now().duration_since(time).expect("not in the future");
        assert!(age < Duration::from_secs(3), "{age:?}");
    }
}
