//! A model that computes nothing: it says the time, at the pace that the question names.

use std::time::{Duration, Instant};

use aico_bus::{Client, Request};
use aico_contracts::topics::{MODELS_GENERATE, MODELS_PREPARE};
use aico_contracts::v1::{
    Generate, Generated, GeneratedEnd, ModelState, PreparedModel, generated, model_state,
};

/// Says that it is ready, in place of the manager.
pub(crate) async fn ready(client: Client) {
    let mut requests = client.serve(MODELS_PREPARE, 16).unwrap();
    while let Some(request) = requests.recv().await {
        let state = ModelState {
            status: model_state::Status::Ready.into(),
            name: "clock".into(),
            ..ModelState::default()
        };
        request.reply(PreparedModel {
            state: Some(state),
            ..PreparedModel::default()
        });
    }
}

/// Answers questions.
pub(crate) async fn serve(client: Client, clock: Instant) {
    let mut requests = client.serve(MODELS_GENERATE, 4).unwrap();
    while let Some(request) = requests.recv().await {
        answer(request, clock).await;
    }
}

fn now(clock: Instant) -> u128 {
    clock.elapsed().as_nanos()
}

/// The question is `MICROSECONDS COUNT`: so many tokens, so far apart. Each is the time at which it
/// is said; the first one also says when the question came.
async fn answer(request: Request, clock: Instant) {
    let came = now(clock);
    let question: Generate = request.decode().unwrap();
    let text = &question.turns.last().unwrap().text;
    let (pause, count) = text.split_once(' ').unwrap();
    let pause = Duration::from_micros(pause.parse().unwrap());
    let count: u32 = count.parse().unwrap();
    let mut responder = request.stream();
    let begun = tokio::time::Instant::now();
    for index in 0..count {
        tokio::time::sleep_until(begun + pause * index).await;
        let text = match index {
            0 => format!("{came} {} ", now(clock)),
            _ => format!("{} ", now(clock)),
        };
        let item = Some(generated::Item::Text(text));
        responder.send(Generated { item }).await.unwrap();
    }
    let end = GeneratedEnd {
        reason: aico_contracts::v1::generated_end::Reason::Stop.into(),
        answer_tokens: count,
        ..GeneratedEnd::default()
    };
    responder.end(Generated {
        item: Some(generated::Item::End(end)),
    });
}
