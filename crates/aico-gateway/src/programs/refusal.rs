//! Errors as other programs expect them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::Dialect;
use crate::problem::{Code, Problem};

/// What is refused, before it is told in a dialect's shape: one of our own problems, or something
/// that only these doors know.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Ours(Problem),
    Theirs(Told),
}

/// A refusal as a dialect tells it. The message is for people, the code for programs; neither
/// holds what was sent.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The member of the request that it is about.
    param: Option<&'static str>,
    retry_after: Option<u64>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Ours(problem)
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::Ours(code.into())
    }
}

/// An error as OpenAI tells it.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: OpenAiFault,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiFault {
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The member of the request that it is about.
    #[schema(required = true)]
    param: Option<&'static str>,
    /// OpenAI's code, or AICO's where OpenAI has none.
    code: &'static str,
}

/// An error as Ollama tells it.
#[derive(Serialize, ToSchema)]
pub(crate) struct OllamaError {
    error: String,
    /// Not Ollama's: for programs that want to know.
    code: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::about(None, status, code, message)
    }

    fn about(
        param: Option<&'static str>,
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::Theirs(Told {
            status,
            code,
            message: message.into(),
            param,
            retry_after: None,
        })
    }

    /// A member of the request that is not what it may be.
    pub(crate) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::about(Some(param), status, "invalid_value", message)
    }

    /// A member of the request that the imitated server knows and AICO can't do.
    pub(crate) fn unsupported(param: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::about(Some(param), status, "unsupported_parameter", message)
    }

    /// A name that nothing has.
    pub(crate) fn no_such_model(dialect: Dialect, name: &str) -> Self {
        let message = match dialect {
            Dialect::OpenAi => {
                "There is no such model. `/v1/models` lists what can be asked.".to_owned()
            }
            Dialect::Ollama => format!("model '{}' not found", short(name)),
        };
        Self::about(
            Some("model"),
            StatusCode::NOT_FOUND,
            "model_not_found",
            message,
        )
    }

    /// A model that is for something else.
    pub(crate) fn does_not(dialect: Dialect, name: &str, what: &str) -> Self {
        let message = match dialect {
            Dialect::OpenAi => format!(
                "This model has nothing for {what}. `/v1/models` lists others, `/api/show` tells \
                 what each can do."
            ),
            Dialect::Ollama => format!("\"{}\" does not support {what}", short(name)),
        };
        Self::unsupported("model", message)
    }

    /// A model that images can't be sent to: with the code that other modules have for it too.
    pub(crate) fn sees_nothing(name: &str) -> Self {
        let detail = format!("`{}` has nothing for images.", short(name));
        Self::Ours(Problem::from(Code::ModelNotCapable).with_detail(detail))
    }

    /// What a program that runs models says of a question with images. That it can't read one is
    /// likelier than that it is too old, and asking again is of no use.
    pub(crate) fn of_images(problem: &Problem) -> Self {
        let message = format!(
            "{} Or send other images: one of these may be damaged, or they are too many for the \
             model.",
            problem.sentences()
        );
        Self::new(StatusCode::BAD_REQUEST, problem.code().as_str(), message)
    }

    /// The companion's model is not one program's to unload.
    pub(crate) fn stays() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "conflict",
            "`aico` is the companion: the model that answers for it may be needed by others, and \
             leaves the memory by itself. Name the model itself to unload it; `/api/ps` lists what \
             is loaded.",
        )
    }

    /// What the model or the companion told in the course of an answer.
    pub(crate) fn of_answer(problem: Problem) -> Self {
        if problem.code() == Code::TooLong {
            return Self::new(
                StatusCode::BAD_REQUEST,
                "context_length_exceeded",
                problem.sentences(),
            );
        }
        Self::Ours(problem)
    }

    fn told(self, dialect: Dialect) -> Told {
        match self {
            Self::Ours(problem) => Told::of(dialect, &problem),
            Self::Theirs(told) => told,
        }
    }

    /// As it is told in the middle of a stream.
    pub(crate) fn json(self, dialect: Dialect) -> String {
        self.told(dialect).json(dialect)
    }

    pub(super) fn response(self, dialect: Dialect) -> Response {
        self.told(dialect).response(dialect)
    }
}

impl Told {
    /// One of our own problems, with the status and the code that the dialect has for it.
    fn of(dialect: Dialect, problem: &Problem) -> Self {
        let code = problem.code();
        let message = match code {
            Code::SignInNeeded => NEEDS_TOKEN.to_owned(),
            Code::TokenInvalid => TOKEN_VOID.to_owned(),
            _ => problem.sentences(),
        };
        Self {
            status: status(dialect, code),
            code: name(dialect, code),
            message,
            param: None,
            retry_after: problem.wait(),
        }
    }

    fn json(&self, dialect: Dialect) -> String {
        let told = match dialect {
            Dialect::OpenAi => serde_json::to_string(&OpenAiError {
                error: OpenAiFault {
                    message: self.message.clone(),
                    kind: match self.status.as_u16() {
                        429 => "rate_limit_error",
                        500.. => "server_error",
                        _ => "invalid_request_error",
                    },
                    param: self.param,
                    code: self.code,
                },
            }),
            Dialect::Ollama => serde_json::to_string(&OllamaError {
                error: self.message.clone(),
                code: self.code,
            }),
        };
        told.unwrap_or_default()
    }

    fn response(&self, dialect: Dialect) -> Response {
        let mut response = Response::new(Body::from(self.json(dialect)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Refusal {
    /// Told in the address's shape once the answer leaves ([`super::retell`]).
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = match &self {
            Self::Ours(problem) => problem.code().status(),
            Self::Theirs(told) => told.status,
        };
        response.extensions_mut().insert(self);
        response
    }
}

/// A name that is told again, bounded.
pub(crate) fn short(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(120)
        .collect()
}

const NEEDS_TOKEN: &str = "This needs a named token of AICO as the bearer token or API key. Make one in Settings, \
     Programs, or with `aico token create`.";
const TOKEN_VOID: &str = "This is no named token of AICO, or it has expired or was revoked. Make one in Settings, \
     Programs, or with `aico token create`.";

/// The status that the imitated server would tell it with.
pub(crate) fn status(dialect: Dialect, code: Code) -> StatusCode {
    let number = match code {
        Code::Invalid
        | Code::Malformed
        | Code::ModelNotCapable
        | Code::FormatUnusable
        | Code::FormatTooComplex => 400,
        // No fault of the request: the model that was chosen can't be used.
        Code::NoModel
        | Code::NotAModel
        | Code::ModelMissing
        | Code::ModelDamaged
        | Code::ModelRefused
        | Code::ModelTemplate
        | Code::ModelTooLarge
        | Code::ModelFailed => match dialect {
            Dialect::OpenAi => 503,
            Dialect::Ollama => 500,
        },
        _ => return code.status(),
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn name(dialect: Dialect, code: Code) -> &'static str {
    match (dialect, code) {
        (Dialect::OpenAi, Code::SignInNeeded | Code::TokenInvalid) => "invalid_api_key",
        (Dialect::OpenAi, Code::TooManyRequests) => "rate_limit_exceeded",
        _ => code.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_an_error_in_each_shape() {
        for code in Code::ALL {
            for dialect in [Dialect::OpenAi, Dialect::Ollama] {
                let refusal = Told::of(dialect, &Problem::from(*code));
                let status = refusal.status;
                assert!(status.is_client_error() || status.is_server_error());
                let told: serde_json::Value = serde_json::from_str(&refusal.json(dialect)).unwrap();
                let words = match dialect {
                    Dialect::OpenAi => &told["error"]["message"],
                    Dialect::Ollama => &told["error"],
                };
                assert!(!words.as_str().unwrap().is_empty(), "{code:?}");
            }
        }
    }
}
