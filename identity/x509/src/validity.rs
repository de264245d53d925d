//! Period in which a certificate is valid.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;

/// Period of validity, both ends included.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: SystemTime,
    /// Last instant.
    pub not_after: SystemTime,
}

impl Validity {
    /// Starts a minute before `now`, for clocks that are behind, and lasts for `lifetime`.
    pub fn starting(now: SystemTime, lifetime: Duration) -> Self {
        Self {
            not_before: now - Duration::from_secs(60),
            not_after: now + lifetime,
        }
    }

    /// Parses the validity of a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| Error::NotX509 {
            what: "certificate",
            reason: error.to_string(),
        })?;
        Ok(Self::from_certificate(&certificate))
    }

    pub(crate) fn from_certificate(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        }
    }

    /// Returns the time left at `now`; zero once expired.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// Returns true if `now` is within the period.
    pub fn contains(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Converts a certificate's time; X.509 times may be before 1970, when any validity has long begun.
fn moment(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

/// Converts to a certificate's time: whole seconds, rounded down.
pub(crate) fn offset(time: SystemTime) -> OffsetDateTime {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Formats for messages: RFC 3339, UTC.
pub(crate) fn text(time: &SystemTime) -> String {
    offset(*time)
        .format(&Rfc3339)
        .unwrap_or_else(|_| "an out-of-range time".to_owned())
}
