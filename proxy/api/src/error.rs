//! Errors of the API: a message that breaks its rules, or a call that was rejected.

use std::fmt;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Error of a message or a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message breaks the API's rules. The stream that it came from goes on.
    #[error("invalid message: {field}: {reason}")]
    Invalid {
        /// Path of the field, as in `protocol.http1.routes[2].rules[0].backends`.
        field: String,
        /// Rule that is broken.
        reason: String,
    },
    /// The call ended with this status.
    #[error("{kind}: {message}")]
    Status {
        /// gRPC code.
        kind: Kind,
        /// Message of the server.
        message: String,
    },
}

impl Error {
    /// A status of our own.
    pub fn status(kind: Kind, message: impl Into<String>) -> Self {
        Self::Status {
            kind,
            message: message.into(),
        }
    }

    /// Kind; a broken message counts as `InvalidArgument`.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::InvalidArgument,
            Self::Status { kind, .. } => *kind,
        }
    }

    /// Message, without the kind.
    pub fn message(&self) -> String {
        match self {
            Self::Invalid { field, reason } => format!("{field}: {reason}"),
            Self::Status { message, .. } => message.clone(),
        }
    }

    /// Returns true if the same request would fail again; upstream's proxy does not repeat it.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Status {
                kind: Kind::InvalidArgument | Kind::FailedPrecondition,
                ..
            }
        )
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn missing(field: &str) -> Self {
        Self::invalid(field, "is missing")
    }

    fn below(self, parent: &str) -> Self {
        match self {
            Self::Invalid { field, reason } if field.is_empty() => Self::Invalid {
                field: parent.to_owned(),
                reason,
            },
            Self::Invalid { field, reason } => Self::Invalid {
                field: format!("{parent}.{field}"),
                reason,
            },
            status @ Self::Status { .. } => status,
        }
    }
}

/// Kinds of errors: the codes of gRPC.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Kinds beside gRPC's codes.
const KINDS: [(Kind, tonic::Code); 16] = [
    (Kind::Cancelled, tonic::Code::Cancelled),
    (Kind::Unknown, tonic::Code::Unknown),
    (Kind::InvalidArgument, tonic::Code::InvalidArgument),
    (Kind::DeadlineExceeded, tonic::Code::DeadlineExceeded),
    (Kind::NotFound, tonic::Code::NotFound),
    (Kind::AlreadyExists, tonic::Code::AlreadyExists),
    (Kind::PermissionDenied, tonic::Code::PermissionDenied),
    (Kind::ResourceExhausted, tonic::Code::ResourceExhausted),
    (Kind::FailedPrecondition, tonic::Code::FailedPrecondition),
    (Kind::Aborted, tonic::Code::Aborted),
    (Kind::OutOfRange, tonic::Code::OutOfRange),
    (Kind::Unimplemented, tonic::Code::Unimplemented),
    (Kind::Internal, tonic::Code::Internal),
    (Kind::Unavailable, tonic::Code::Unavailable),
    (Kind::DataLoss, tonic::Code::DataLoss),
    (Kind::Unauthenticated, tonic::Code::Unauthenticated),
];

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let kind = KINDS
            .iter()
            .find(|(_, code)| *code == status.code())
            .map_or(Kind::Unknown, |(kind, _)| *kind);
        Self::status(kind, status.message())
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let code = KINDS
            .iter()
            .find(|(kind, _)| *kind == error.kind())
            .map_or(tonic::Code::Unknown, |(_, code)| *code);
        Self::new(code, error.message())
    }
}

/// Adds the place within a message to errors.
pub(crate) trait Within {
    /// Prepends the name of the enclosing field.
    fn within(self, field: &str) -> Self;
}

impl<T> Within for Result<T> {
    fn within(self, field: &str) -> Self {
        self.map_err(|error| error.below(field))
    }
}

/// Decodes each item of a repeated field; an error names the field and the index.
pub(crate) fn each<W, M>(field: &str, items: Vec<W>, decode: impl Fn(W) -> Result<M>) -> Result<Vec<M>> {
    let one = |(index, item)| decode(item).map_err(|error| error.below(&format!("{field}[{index}]")));
    items.into_iter().enumerate().map(one).collect()
}

/// Decodes a required field.
pub(crate) fn required<W, M>(field: &str, value: Option<W>, decode: impl FnOnce(W) -> Result<M>) -> Result<M> {
    decode(value.ok_or_else(|| Error::missing(field))?).within(field)
}

/// Decodes an optional field.
pub(crate) fn optional<W, M>(field: &str, value: Option<W>, decode: impl FnOnce(W) -> Result<M>) -> Result<Option<M>> {
    value.map(decode).transpose().within(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_whole_path() {
        let error = each("rules", vec![1, 2], |n| {
            if n == 1 { Ok(n) } else { Err(Error::missing("backends")) }
        });
        let error = error.map(|_| ()).within("routes").expect_err("invalid");
        assert_eq!(
            error.to_string(),
            "invalid message: routes.rules[1].backends: is missing"
        );
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(!error.is_final(), "the stream goes on");
    }

    #[test]
    fn kinds_survive_the_wire() {
        for (kind, code) in KINDS {
            let error = Error::from(tonic::Status::new(code, "why"));
            assert_eq!(error, Error::status(kind, "why"));
            assert_eq!(tonic::Status::from(error).code(), code);
        }
    }
}
