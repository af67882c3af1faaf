//! A model that computes nothing: it says the time, at the pace that the question names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::{Client, Request};
use aico_contracts::ids::ModelId;
use aico_contracts::topics::{MODELS_PREPARE, slot, slot_verb};
use aico_contracts::v1::{
    Generate, Generated, GeneratedEnd, ModelState, PreparedModel, generated, model_state,
};
use aico_models::router::table::{Flight, View};
use aico_models::router::{Activity, Backends, Guard, Router};
use aico_models::supervisor::SystemMemory;

/// Says that it is ready, in place of the manager, and passes questions on as the real router does.
pub(crate) async fn ready(client: Client) {
    let memory = Arc::new(SystemMemory);
    let router = Router::new(
        client.clone(),
        Backends::default(),
        memory,
        1,
        Guard::default(),
        Activity::default(),
    );
    let model = ModelId::new();
    router.table.set_active(Some(model));
    router.table.put(View {
        number: 0,
        model,
        name: "clock".into(),
        status: model_state::Status::Ready,
        process_id: 0,
        pinned: false,
        idle_until: None,
        places: 4,
        restarts: 0,
        loading_percent: None,
        device: None,
        fallback: None,
        flight: Flight::default(),
    });
    let topics = router.serve().unwrap();
    tokio::spawn(router.run(topics));
    let mut requests = client.serve(MODELS_PREPARE, 16).unwrap();
    while let Some(request) = requests.recv().await {
        let state = ModelState {
            status: model_state::Status::Ready.into(),
            model: model.to_vec(),
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
    let mut requests = client.serve(&slot(0, slot_verb::GENERATE), 4).unwrap();
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
