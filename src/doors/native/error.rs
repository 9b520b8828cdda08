//! What went wrong in a use case, in this door's words.

use std::{error::Error, sync::Arc};

use axum::http::{
    HeaderValue, StatusCode,
    header::{ETAG, RETRY_AFTER},
};

use crate::{
    app::AppError,
    domain::{Refusal, Violation},
    doors::kit::{Problem, entity_tag},
};

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let code = match error {
            AppError::Refused(refusal) => return refusal.into(),
            AppError::Internal(cause) => return Self::internal(Some(Arc::from(cause))),
            AppError::KeyReused => {
                return Self::new(StatusCode::CONFLICT, "idempotency_key_reused", error.to_string());
            }
            AppError::Forbidden { .. } | AppError::MoreThanOwn => {
                return Self::forbidden(error.to_string());
            }
            AppError::ScriptsOff { check } => {
                let violation = Violation::new(format!("checks[{check}].kind"), &error);
                return Self::invalid(vec![violation]);
            }
            AppError::Unavailable => "store_unavailable",
            AppError::OutcomeUnknown => "outcome_unknown",
            AppError::Overloaded => "overloaded",
            AppError::TooManyConflicts => "too_many_conflicts",
            AppError::RowBusy => "row_busy",
            AppError::NotReady => "not_ready",
            AppError::RevisionNotReached => "revision_not_reached",
        };
        unavailable(code, error.to_string())
    }
}

/// Something that will pass: the client may try again.
pub fn unavailable(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NoSuchInstance => Self::new(StatusCode::NOT_FOUND, "no_such_instance", detail),
            Refusal::Overtaken => Self::new(StatusCode::CONFLICT, "conflict", detail),
            Refusal::NoSuchCheck => Self::new(StatusCode::NOT_FOUND, "no_such_check", detail),
            Refusal::NoSuchConfig => Self::new(StatusCode::NOT_FOUND, "no_such_config", detail),
            Refusal::NoSuchToken => Self::new(StatusCode::NOT_FOUND, "no_such_token", detail),
            Refusal::PreconditionFailed { current } => {
                let problem = Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
                    .with_member("current_version", current);
                match current {
                    Some(version) => problem.with_header(ETAG, entity_tag(version)),
                    None => problem,
                }
            }
            Refusal::IdentityChanged { field } => Self::new(StatusCode::CONFLICT, "identity_changed", detail)
                .with_violations(vec![Violation::new(field, "cannot be changed")]),
        }
    }
}

/// A fault of rollcall's own, with what caused it for the log.
pub fn internal(cause: impl Error + Send + Sync + 'static) -> Problem {
    Problem::internal(Some(Arc::new(cause)))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use serde_json::{Value, json};

    use super::*;

    fn told(problem: &Problem) -> Value {
        serde_json::to_value(problem.body("r", "/p")).unwrap()
    }

    #[test]
    fn every_end_of_a_use_case_has_its_status_and_code() {
        let internal = AppError::Internal(Box::new(std::io::Error::other("secret")));
        for (error, status, code) in [
            (AppError::Refused(Refusal::NoSuchInstance), 404, "no_such_instance"),
            (AppError::Refused(Refusal::NoSuchCheck), 404, "no_such_check"),
            (AppError::Refused(Refusal::NoSuchConfig), 404, "no_such_config"),
            (AppError::Refused(Refusal::PreconditionFailed { current: None }), 412, "precondition_failed"),
            (AppError::Refused(Refusal::IdentityChanged { field: "host" }), 409, "identity_changed"),
            (AppError::ScriptsOff { check: 2 }, 400, "invalid_request"),
            (AppError::Unavailable, 503, "store_unavailable"),
            (AppError::OutcomeUnknown, 503, "outcome_unknown"),
            (AppError::Overloaded, 503, "overloaded"),
            (AppError::TooManyConflicts, 503, "too_many_conflicts"),
            (AppError::RowBusy, 503, "row_busy"),
            (AppError::NotReady, 503, "not_ready"),
            (AppError::RevisionNotReached, 503, "revision_not_reached"),
            (internal, 500, "internal_error"),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.clone().into_response().status().as_u16(), status);
            let told = told(&problem);
            assert_eq!((&told["status"], &told["code"]), (&json!(status), &json!(code)));
            assert!(!told.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_failed_precondition_names_the_current_version() {
        let told_of = |current| told(&Refusal::PreconditionFailed { current }.into());
        assert_eq!(told_of(Some(7))["current_version"], json!(7));
        assert_eq!(told_of(None).get("current_version"), Some(&Value::Null));
        assert_eq!(told(&Refusal::IdentityChanged { field: "port" }.into())["errors"][0]["field"], "port");
    }
}
