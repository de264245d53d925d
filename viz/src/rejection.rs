//! Rejections of requests.

use axum::{
    Json,
    extract::rejection::QueryRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use viz_api::Problem;

/// Rejection of a request: a status and a sentence.
pub(crate) struct Rejection(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

impl From<viz_query::Error> for Rejection {
    fn from(error: viz_query::Error) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<QueryRejection> for Rejection {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}
