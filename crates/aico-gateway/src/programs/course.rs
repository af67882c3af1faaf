//! One question of a program, from what was asked to the last byte of the answer: alike for all
//! shapes. How it is told is a [`Shape`]'s.

use std::convert::Infallible;
use std::sync::Arc;

use aico_contracts::v1;
use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use serde_json::Value;

use super::Dialect;
use super::answer::{Answer, Figures, Item, Piece, Whole};
use super::companion;
use super::memory;
use super::models::{self, Askable};
use super::pass::Pass;
use super::question::Question;
use super::refusal::Refusal;
use crate::app::App;
use crate::problem::{Code, Problem};

/// What was asked, checked.
pub(crate) struct Asked {
    pub(crate) model: String,
    /// Nothing: the model is only to be loaded, or to leave.
    pub(crate) question: Option<Question>,
    pub(crate) stream: bool,
    /// The model is not needed any longer once it has answered.
    pub(crate) leave: bool,
}

/// What is told where nothing was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Loaded,
    Unloaded,
}

/// How an answer is told in a dialect.
pub(crate) trait Shape: Send + 'static {
    const DIALECT: Dialect;
    /// The type of what is streamed.
    const STREAM: &'static str;
    /// How the imitated server chooses where nothing is said.
    const DEFAULT: v1::Sampling;

    /// Before the first piece.
    fn opening(&mut self) -> Option<Bytes> {
        None
    }

    /// A piece as it comes; `None`: this program wants nothing of it.
    fn piece(&mut self, piece: Piece) -> Option<Bytes>;

    /// The end of a stream.
    fn end(&mut self, figures: &Figures) -> Bytes;

    /// The end of a stream that broke, by its error.
    fn broken(&mut self, error: &str) -> Bytes;

    /// An answer that is not streamed.
    fn whole(self, whole: Whole) -> Value;

    /// That a model was loaded or unloaded, and nothing asked.
    fn moved(self, moved: Moved) -> Value;
}

/// Answers.
pub(crate) async fn answer<S: Shape>(
    app: &Arc<App>,
    pass: Pass,
    asked: Asked,
    shape: impl FnOnce(&Askable) -> S,
) -> Result<Response, Refusal> {
    let whom = models::whom(app, pass.person, S::DIALECT, &asked.model).await?;
    if let Askable::Model(known) = &whom
        && !known.chats()
    {
        return Err(Refusal::does_not(S::DIALECT, &asked.model, "chat"));
    }
    if let Askable::Model(known) = &whom
        && asked.question.as_ref().is_some_and(Question::has_images)
        && !known.sees()
    {
        // Before it is loaded for that.
        return Err(Refusal::sees_nothing(&asked.model));
    }
    let shape = shape(&whom);
    let Some(question) = asked.question else {
        let moved = moved(app, pass, &whom, asked.leave).await?;
        return Ok(Json(shape.moved(moved)).into_response());
    };
    if matches!(whom, Askable::Companion) {
        question.for_companion()?;
    }
    let answer = Answer::begin(app, pass, &whom, &question, &S::DEFAULT, asked.leave)
        .await
        .map_err(|problem| match problem.code() {
            Code::EngineRefused if question.has_images() => Refusal::of_images(&problem),
            _ => refused::<S>(problem, &asked.model),
        })?;
    if asked.stream {
        return Ok(streamed(answer, shape));
    }
    let whole = answer.whole().await.map_err(Refusal::of_answer)?;
    Ok(Json(shape.whole(whole)).into_response())
}

fn refused<S: Shape>(problem: Problem, model: &str) -> Refusal {
    match problem.code() {
        // It went between being found and being asked.
        Code::NotFound => Refusal::no_such_model(S::DIALECT, model),
        _ => Refusal::of_answer(problem),
    }
}

/// Loads a model for what comes, or lets it go.
async fn moved(app: &Arc<App>, pass: Pass, whom: &Askable, leave: bool) -> Result<Moved, Refusal> {
    pass.opened(app).await?;
    let (person, program) = (pass.person, pass.name.clone());
    let work = async {
        match (whom, leave) {
            (Askable::Model(known), true) => memory::unload(app, person, &known.model.id).await?,
            (Askable::Model(known), false) => memory::ready(app, person, &known.id()).await?,
            (Askable::Companion, true) => return Err(Refusal::stays()),
            (Askable::Companion, false) => companion::load(app, person, &program).await?,
        }
        Ok(match leave {
            true => Moved::Unloaded,
            false => Moved::Loaded,
        })
    };
    pass.while_here(work).await
}

fn streamed<S: Shape>(answer: Answer, mut shape: S) -> Response {
    let opening = shape.opening();
    let rest = stream::unfold(Some((answer, shape)), |state| async move {
        let (mut answer, mut shape) = state?;
        loop {
            let told = match answer.next().await? {
                Ok(Item::Piece(piece)) => match shape.piece(piece) {
                    Some(told) => return Some((told, Some((answer, shape)))),
                    None => continue,
                },
                Ok(Item::End(figures)) => shape.end(&figures),
                Err(problem) => shape.broken(&Refusal::of_answer(problem).json(S::DIALECT)),
            };
            return Some((told, None));
        }
    });
    let all = stream::iter(opening).chain(rest).map(Ok::<_, Infallible>);
    let kind = HeaderValue::from_static(S::STREAM);
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(all)).into_response()
}
