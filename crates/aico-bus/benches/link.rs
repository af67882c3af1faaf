//! `cargo bench … --bench link` (docs/benchmarks.md): what the link adds to one token of a stream and to a
//! request, beside the same inside the process. Both ends run in this process, on their own
//! runtimes, over the Unix socket (TCP elsewhere) with CURVE.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::link::{Listener, connect, endpoint_in};
use aico_bus::{AllowAll, Bus, Client, Identity, Meta};
use aico_contracts::v1::{AnswerDelta, Empty};

const TOKENS: usize = 2000;
const REQUESTS: usize = 2000;

/// Streams tokens, 1 each millisecond, each carrying the time it was sent; answers requests.
async fn serve(client: Client, start: Instant) {
    let mut requests = client.serve("bench.*", 4).unwrap();
    while let Some(request) = requests.recv().await {
        if request.envelope.topic == "bench.ping" {
            request.reply(Empty {});
            continue;
        }
        let mut responder = request.stream();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..TOKENS {
            tick.tick().await;
            let index = start.elapsed().as_nanos() as u64;
            let token = AnswerDelta {
                index,
                text: " word".into(),
                ..AnswerDelta::default()
            };
            responder.send(token).await.unwrap();
        }
        responder.finish();
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    format!(
        "p50 {} µs, p99 {} µs, p99.9 {} µs",
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

async fn measure(name: &str, client: &Client, start: Instant) {
    while client
        .request::<_, Empty>("bench.ping", &Empty {}, Meta::new())
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut round_trips = Vec::new();
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        client
            .request::<_, Empty>("bench.ping", &Empty {}, Meta::new())
            .await
            .unwrap();
        round_trips.push(asked.elapsed());
    }
    println!("{name}: request and answer {}", percentiles(round_trips));
    let mut words = client
        .open_stream::<_, AnswerDelta>("bench.words", &Empty {}, Meta::new())
        .await
        .unwrap();
    let mut one_way = Vec::new();
    while let Some(word) = words.next().await {
        one_way.push(start.elapsed() - Duration::from_nanos(word.unwrap().index));
    }
    println!("{name}: one token on its way  {}", percentiles(one_way));
}

fn main() {
    let start = Instant::now();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (here, there) = (runtime(), runtime());
    let folder = tempfile::tempdir().unwrap();
    here.block_on(async {
        let bus = Bus::new(Arc::new(AllowAll));
        let client = bus.join(Identity::new("companion"));
        there.spawn(serve(bus.join(Identity::new("inside")), start));
        here.spawn(async {}).await.unwrap();
        measure("inside  ", &client, start).await;

        let bus = Bus::new(Arc::new(AllowAll));
        let client = bus.join(Identity::new("companion"));
        let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
        let listener = Listener::bind(&bus, &endpoint).await.unwrap();
        let credentials = listener.issue(Identity::new("model-process"));
        there.spawn(async move { serve(connect(credentials).await.unwrap(), start).await });
        measure("over link", &client, start).await;
    });
}
