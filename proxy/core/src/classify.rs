//! Classification of responses as success or failure, for metrics, breakers and retries.

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use proxy_model::profile::{ResponseClass, ResponseMatch};

/// Class of a response.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `classification="success"`.
    Success,
    /// `classification="failure"`.
    Failure,
}

impl Class {
    /// Returns true for a failure.
    pub fn is_failure(self) -> bool {
        self == Self::Failure
    }

    fn failure_if(failed: bool) -> Self {
        if failed { Self::Failure } else { Self::Success }
    }
}

/// Returns true if a message has a content type of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Classifies by HTTP status: 5xx fails.
fn http(status: StatusCode) -> Class {
    Class::failure_if(status.is_server_error())
}

/// Classifies by gRPC status: 2, 4, 7, 13, 14 and 15 fail. A response without one is a success, as in upstream.
fn grpc(code: Option<u32>) -> Class {
    Class::failure_if(matches!(code, Some(2 | 4 | 7 | 13 | 14 | 15)))
}

/// Classifies by the classes of a profile's route: the first whose condition matches decides.
fn profile(classes: &[ResponseClass], status: StatusCode) -> Option<Class> {
    let holds = |class: &&ResponseClass| class.condition.as_ref().is_some_and(|c| matches(c, status.as_u16()));
    classes
        .iter()
        .find(holds)
        .map(|class| Class::failure_if(class.is_failure))
}

/// Classifies a response that has ended: by the profile's classes, else by gRPC status, else by HTTP status.
pub fn response(classes: &[ResponseClass], status: StatusCode, is_grpc: bool, grpc_status: Option<u32>) -> Class {
    if let Some(class) = profile(classes, status) {
        return class;
    }
    if (is_grpc || grpc_status.is_some()) && status == StatusCode::OK {
        grpc(grpc_status)
    } else {
        http(status)
    }
}

/// Returns true for overload (429, RESOURCE_EXHAUSTED), which a unified breaker counts against the success rate.
pub fn is_rate_limited(status: StatusCode, grpc_status: Option<u32>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || grpc_status == Some(8)
}

fn matches(condition: &ResponseMatch, status: u16) -> bool {
    match condition {
        ResponseMatch::All(all) => all.iter().all(|c| matches(c, status)),
        ResponseMatch::Any(any) => any.iter().any(|c| matches(c, status)),
        ResponseMatch::Not(not) => !matches(not, status),
        ResponseMatch::Status { min, max } => status >= *min && (*max == 0 || status <= *max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_statuses_and_codes() {
        assert!(http(StatusCode::BAD_GATEWAY).is_failure() && !http(StatusCode::NOT_FOUND).is_failure());
        for code in 0..17 {
            assert_eq!(
                grpc(Some(code)).is_failure(),
                [2, 4, 7, 13, 14, 15].contains(&code),
                "{code}"
            );
        }
        assert_eq!(response(&[], StatusCode::OK, true, None), Class::Success);
        assert_eq!(response(&[], StatusCode::OK, true, Some(14)), Class::Failure);
        assert_eq!(response(&[], StatusCode::BAD_GATEWAY, true, None), Class::Failure);
    }

    #[test]
    fn the_first_matching_class_decides() {
        let range = |min, max| Some(ResponseMatch::Status { min, max });
        let classes = [
            ResponseClass {
                condition: None,
                is_failure: true,
            },
            ResponseClass {
                condition: range(500, 500),
                is_failure: false,
            },
            ResponseClass {
                condition: range(404, 0),
                is_failure: true,
            },
        ];
        assert_eq!(
            profile(&classes, StatusCode::INTERNAL_SERVER_ERROR),
            Some(Class::Success)
        );
        assert_eq!(profile(&classes, StatusCode::BAD_GATEWAY), Some(Class::Failure));
        assert_eq!(profile(&classes, StatusCode::OK), None);
        assert_eq!(response(&classes, StatusCode::NOT_FOUND, false, None), Class::Failure);
    }
}
