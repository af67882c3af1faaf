//! The OpenAPI document: the routes' own annotations, and for each operation who may call it
//! and which problems it can answer with, from the [table](crate::operations).

use std::collections::BTreeMap;

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, ContentBuilder, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{OpenApi as _, ToSchema as _};

use crate::operations::{Needs, OPERATIONS};
use crate::problem::{Code, ProblemDocument};
use crate::programs::refusal::{self, OllamaError, OpenAiError};
use crate::programs::{self, Dialect};
use crate::routes;
use crate::ws::protocol::{ClientFrame, ServerFrame};

const BEARER: &str = "bearer";
const PROGRAM: &str = "program";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "AICO",
        description = "The API of a private AI companion that lives on one's own computer. \
            Errors are `application/problem+json` with a stable `code`. Events and streamed \
            answers come over the WebSocket `/ws`; its frames are the schemas `ClientFrame` and \
            `ServerFrame`, its story is in docs/websocket.md. Ids are UUIDs (version 7), times \
            RFC 3339 in UTC.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "health", description = "Is it alive, can it be used."),
        (name = "home", description = "Setting up, unlocking, locking."),
        (name = "vault", description = "What opens the vault: keychains, recovery phrase."),
        (name = "sessions", description = "Signing in and out."),
        (name = "persons", description = "Oneself, and the persons of the household."),
        (name = "characters", description = "Whom one talks to."),
        (name = "conversations", description = "One's own conversations."),
        (name = "messages", description = "Saying something."),
        (name = "models", description = "Which model answers."),
        (name = "engines", description = "Other programs that run models, and what of one's words left this machine."),
        (name = "tokens", description = "Named tokens, by which one's other programs act for one."),
        (name = "programs", description = "Doors for other programs, in the shapes of OpenAI and \
            of Ollama; docs/programs.md tells what of these is taken. Errors have their shapes."),
        (name = "system", description = "What the owner sees of the daemon."),
        (name = "events", description = "What happens, while it happens."),
    ),
    components(schemas(
        ProblemDocument,
        OpenAiError,
        OllamaError,
        ClientFrame,
        ServerFrame
    )),
)]
struct Document;

/// The whole document.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, mut document) = routes::all().split_for_parts();
    let mut whole = Document::openapi();
    whole.merge(document.clone());
    document = whole;
    let components = document.components.get_or_insert_default();
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    bearer.description = Some(
        "The token of `POST /api/v1/sessions`. Over the local socket it may be left out: the \
         operating system tells who is there, and the owner is acted for."
            .to_owned(),
    );
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let mut program = Http::new(HttpAuthScheme::Bearer);
    program.description = Some(
        "A named token (`POST /api/v1/tokens`). Over the local socket too: these addresses know \
         no other credential, but for `/metrics`, which is for the owner and for named tokens of \
         theirs."
            .to_owned(),
    );
    components.add_security_scheme(PROGRAM, SecurityScheme::Http(program));
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            complete(path, operation);
        }
    }
    document
}

/// All operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .filter_map(Option::as_mut)
}

fn complete(path: &str, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let Some(known) = OPERATIONS.iter().find(|known| known.id == id) else {
        return;
    };
    operation.security = Some(match known.needs {
        Needs::Nothing => vec![],
        Needs::Person | Needs::Owner => {
            vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]
        }
        Needs::Program => vec![SecurityRequirement::new(PROGRAM, Vec::<String>::new())],
        // The one or the other.
        Needs::OwnerOrProgram => [BEARER, PROGRAM]
            .map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new()))
            .to_vec(),
    });
    let dialect = programs::dialect(path);
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    let body = operation.request_body.is_some();
    for code in known.problems(body, path.contains('{')) {
        let status = match dialect {
            Some(dialect) => refusal::status(dialect, code),
            None => code.status(),
        };
        by_status.entry(status.as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let status = status.to_string();
        if let Some(dialect) = dialect {
            let told = refused(dialect, &codes);
            operation.responses.responses.insert(status, RefOr::T(told));
            continue;
        }
        // A route's own answer with that status (readiness, 503) stays, and is not a problem.
        if let Some(RefOr::T(own)) = operation.responses.responses.get_mut(&status) {
            own.content
                .insert(PROBLEM_JSON.to_owned(), RefOr::T(problem_content()));
            own.description = format!("{} Or {}", own.description, listed(&codes));
            continue;
        }
        operation
            .responses
            .responses
            .insert(status, RefOr::T(problem_response(&codes)));
    }
}

const PROBLEM_JSON: &str = "application/problem+json";

fn problem_content() -> Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ProblemDocument::name())))
        .build()
}

fn problem_response(codes: &[Code]) -> Response {
    let mut content = problem_content();
    if let Some(first) = codes.first() {
        let example = crate::problem::Problem::from(*first).document();
        // In one order, whatever order members are declared in: the document is kept in the sources.
        content.example = serde_json::to_value(example).ok().map(|mut example| {
            example.sort_all_objects();
            example
        });
    }
    ResponseBuilder::new()
        .description(listed(codes))
        .content(PROBLEM_JSON, content)
        .build()
}

/// An error of an address that has another's shape.
fn refused(dialect: Dialect, codes: &[Code]) -> Response {
    let schema = match dialect {
        Dialect::OpenAi => OpenAiError::name(),
        Dialect::Ollama => OllamaError::name(),
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .build();
    ResponseBuilder::new()
        .description(listed(codes))
        .content("application/json", content)
        .build()
}

fn listed(codes: &[Code]) -> String {
    let all: Vec<_> = codes
        .iter()
        .map(|code| format!("`{}`: {}.", code.as_str(), code.title()))
        .collect();
    all.join(" ")
}

/// Used by the schema's own test: it must be nameable.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_the_table_and_the_other_way_round() {
        let mut document = openapi();
        let mut found = Vec::new();
        for (path, item) in &mut document.paths.paths {
            for operation in operations(item) {
                let id = operation.operation_id.clone().unwrap();
                assert!(
                    OPERATIONS.iter().any(|known| known.id == id),
                    "{path}: {id} is missing in operations.rs"
                );
                assert!(operation.security.is_some(), "{id}");
                let failures = operation
                    .responses
                    .responses
                    .keys()
                    .filter(|status| status.starts_with(['4', '5']))
                    .count();
                assert!(failures >= 4, "{id} has no documented problems");
                found.push(id);
            }
        }
        let unique: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!(unique.len(), found.len(), "an operation id twice");
        for known in OPERATIONS {
            assert!(
                found.iter().any(|id| id == known.id),
                "{} has no route",
                known.id
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut open = vec![&document];
        let mut count = 0;
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Object(map) => {
                    if let Some(serde_json::Value::String(target)) = map.get("$ref") {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                        count += 1;
                    }
                    open.extend(map.values());
                }
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(count > 50);
    }
}
