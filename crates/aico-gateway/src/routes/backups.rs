//! Backups, and everything about oneself in open formats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::Action;
use aico_access::backup::{BackupRequest, Keep};
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::home::{given_password, guarded};
use super::steps;
use crate::api::backup::{BackupMade, CreateBackup, OwnProof};
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::{Code, Problem};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(100);

/// Makes a backup: one JSON object on each line, `{"type":"progress","done":…,"total":…}` with
/// bytes, and on the last line `{"type":"done","backup":…}` or `{"type":"problem","problem":…}`.
/// It ends when the reader goes.
#[utoipa::path(post, path = "/api/v1/backups", tag = "system", operation_id = "create_backup",
    request_body = CreateBackup,
    responses((status = 200, description = "How far it is, and what came of it.",
        body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Problem> {
    caller.may(Action::CreateBackup)?;
    let form: CreateBackup = input.json().await?;
    // A page names no folders of this machine.
    if form.to.is_some() && !caller.is_local() {
        return Err(Problem::from(Code::Forbidden)
            .with_detail("A folder is named on the command line only: aico backup create --to."));
    }
    let request = BackupRequest {
        folder: form.to.map(Into::into),
        person: form.person.map(Into::into),
        keep: Keep {
            daily: form.keep_daily,
            weekly: form.keep_weekly,
        },
    };
    let home = app.home.clone();
    steps::answer(&app, &caller, |lines| async move {
        let mut told = Instant::now();
        let made = home.create_backup(request, move |step| {
            let line = json!({ "type": "progress", "done": step.done, "total": step.total });
            if told.elapsed() < TELL {
                return true;
            }
            told = Instant::now();
            lines.mention(line)
        });
        let made: BackupMade = made.await?.into();
        Ok(json!({ "type": "done", "backup": made }))
    })
    .await
}

/// Everything about oneself: one JSON object on each line, `{"type":"piece","file":…,"text":…}`
/// with what comes next in a file, and on the last line `{"type":"done","lines":…}` with the lines
/// of each file as they were counted in the store, or `{"type":"problem","problem":…}`. Over the
/// local socket only; anywhere else there is no such thing.
#[utoipa::path(post, path = "/api/v1/me/export", tag = "persons", operation_id = "export",
    request_body = OwnProof,
    responses((status = 200, description = "The files, piece by piece.",
        body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Problem> {
    let me = caller.may_own(Action::ExportSelf)?;
    if !caller.is_local() {
        return Err(Code::NotFound.into());
    }
    let form: OwnProof = input.json().await?;
    let (home, source) = (app.home.clone(), caller.source());
    guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        steps::answer(&app, &caller, |lines| async move {
            let exported = home.export_person(me, &password, source, move |piece| {
                lines.tell(json!({ "type": "piece", "file": piece.file, "text": piece.text }))
            });
            let exported = exported.await?;
            Ok(json!({
                "type": "done", "lines": exported.lines, "files": exported.files.len(),
            }))
        })
        .await
    })
    .await
}
