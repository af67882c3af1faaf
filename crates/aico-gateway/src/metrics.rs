//! Metrics in the text format of Prometheus, version 0.0.4.
//!
//! Written here and not by a library. The official one (`prometheus-client`) writes `OpenMetrics`,
//! and both it and `prometheus` want to hold the figures themselves; these are held where questions
//! end, behind the bus, and come as one message. What is left for a library is to escape labels and
//! to add buckets up.
//!
//! Labels name a model, what runs it and its id, which keeps two models of one name apart. No label
//! names a person or anything that one said.

use std::collections::HashSet;
use std::fmt::{Arguments, Display, Write as _};

use aico_contracts::metrics::{FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{AskedTotals, ModelActivity, ModelsActivity};

use crate::config::ProcessStatus;

#[cfg(test)]
mod tests;

/// What an answer of this format is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What runs the models that AICO runs itself.
const OWN: &str = "aico";

type Labels<'a> = &'a [(&'a str, &'a str)];

/// All figures.
pub(crate) fn text(process: &ProcessStatus, activity: &ModelsActivity) -> String {
    let mut out = Exposition::default();
    out.family("aico_build_info", "gauge", "The version of AICO; always 1.");
    out.sample("", &[("version", env!("CARGO_PKG_VERSION"))], &1);
    out.family(
        "process_start_time_seconds",
        "gauge",
        "When the daemon started, in seconds since the Unix epoch.",
    );
    out.sample("", &[], &seconds_of_ms(process.started_at.as_millisecond()));
    out.family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of the daemon without its model processes.",
    );
    out.sample("", &[], &process.resident_bytes);
    for (name, help, bytes) in [
        (
            "aico_memory_bytes",
            "Memory of the machine.",
            activity.memory_bytes,
        ),
        (
            "aico_memory_available_bytes",
            "Memory of the machine that can be had.",
            activity.available_bytes,
        ),
    ] {
        // 0: the machine does not tell.
        if bytes > 0 {
            out.family(name, "gauge", help);
            out.sample("", &[], &bytes);
        }
    }
    models(&mut out, &activity.models);
    out.0
}

/// A figure of one model, where there is one.
type Figure = fn(&ModelActivity, &AskedTotals) -> Option<u64>;

/// Numbers of each model: name, kind, help and where it comes from.
const FIGURES: &[(&str, &str, &str, Figure)] = &[
    (
        "aico_model_loaded",
        "gauge",
        "1 while the model is in memory, as far as the program that runs it tells.",
        |model, _| Some(u64::from(is_loaded(model))),
    ),
    (
        "aico_model_memory_bytes",
        "gauge",
        "Resident memory of the model's process, or what the program that runs it says; absent \
         where that is not known.",
        |model, _| (model.memory_bytes > 0).then_some(model.memory_bytes),
    ),
    (
        "aico_model_places",
        "gauge",
        "Questions that can be answered at once.",
        |model, _| Some(model.places.into()),
    ),
    (
        "aico_model_questions_running",
        "gauge",
        "Questions that are being answered.",
        |model, _| Some(model.running.into()),
    ),
    (
        "aico_model_questions_waiting",
        "gauge",
        "Questions that wait for a place, for room in memory, or for the model to be loaded.",
        |model, _| Some(model.waiting.into()),
    ),
    (
        "aico_model_prompt_tokens_total",
        "counter",
        "Tokens of the questions that were read.",
        |_, totals| Some(totals.prompt_tokens),
    ),
    (
        "aico_model_cached_tokens_total",
        "counter",
        "Tokens of questions that had been read before and were kept.",
        |_, totals| Some(totals.cached_tokens),
    ),
    (
        "aico_model_answer_tokens_total",
        "counter",
        "Tokens that were written, of answers that were given up too.",
        |_, totals| Some(totals.answer_tokens),
    ),
    (
        "aico_model_loads_total",
        "counter",
        "Times that a process of AICO had loaded the model; absent where there was none.",
        |model, _| (model.loads > 0).then_some(model.loads),
    ),
];

fn models(out: &mut Exposition, all: &[ModelActivity]) {
    let mut seen = HashSet::new();
    // One series is told once, whatever comes.
    let all: Vec<_> = all
        .iter()
        .filter(|model| seen.insert(&model.model))
        .map(|model| {
            let engine = match model.engine.as_str() {
                "" => OWN,
                engine => engine,
            };
            let id = uuid::Uuid::from_slice(&model.model).unwrap_or_default();
            (model, engine, id.to_string())
        })
        .collect();
    // A family stands together.
    let each = |tell: &mut dyn FnMut(&ModelActivity, &AskedTotals, Labels<'_>)| {
        for (model, engine, id) in &all {
            let labels = [
                ("model", model.name.as_str()),
                ("engine", *engine),
                ("id", id.as_str()),
            ];
            tell(model, &model.totals.unwrap_or_default(), &labels);
        }
    };
    for (name, kind, help, figure) in FIGURES {
        out.family(name, kind, help);
        each(&mut |model, totals, labels| {
            if let Some(value) = figure(model, totals) {
                out.sample("", labels, &value);
            }
        });
    }
    out.family(
        "aico_model_cpu_seconds_total",
        "counter",
        "Processor time of the model's processes; absent where AICO runs none.",
    );
    each(&mut |model, _, labels| {
        if model.processor_us > 0 {
            out.sample("", labels, &seconds_of_us(model.processor_us));
        }
    });
    out.family(
        "aico_model_questions_total",
        "counter",
        "Questions that have ended, by how.",
    );
    each(&mut |_, totals, labels| {
        for (outcome, count) in [
            ("completed", totals.completed),
            ("cancelled", totals.cancelled),
            ("refused", totals.refused),
            ("failed", totals.failed),
        ] {
            out.sample("", &with(labels, ("outcome", outcome)), &count);
        }
    });
    out.family(
        "aico_model_time_to_first_token_seconds",
        "histogram",
        "From the coming of a question to the first token of its answer, its wait for a place \
         included.",
    );
    each(&mut |model, _, labels| {
        let (counts, sum) = (&model.first_tokens, model.first_tokens_sum);
        out.histogram(labels, &FIRST_TOKEN_SECONDS, counts, sum);
    });
    out.family(
        "aico_model_tokens_per_second",
        "histogram",
        "Tokens a second of each whole answer while it was written.",
    );
    each(&mut |model, _, labels| {
        let (counts, sum) = (&model.speeds, model.speeds_sum);
        out.histogram(labels, &TOKENS_PER_SECOND, counts, sum);
    });
}

/// In memory, as far as that is known: another program tells it by the bytes.
fn is_loaded(model: &ModelActivity) -> bool {
    match model.process_id {
        0 => model.memory_bytes > 0,
        _ => model.status() == Status::Ready,
    }
}

fn with<'a>(labels: Labels<'a>, one: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    labels.iter().copied().chain([one]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "times of centuries are exact")]
fn seconds_of_ms(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "times of centuries are exact")]
fn seconds_of_us(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The text, and the name of the family that is being written.
#[derive(Default)]
struct Exposition(String, &'static str);

impl Exposition {
    /// What follows is of this family. The help is ours and holds nothing to escape.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: Arguments<'_>) {
        // A string takes everything.
        let _infallible = writeln!(self.0, "{line}");
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: &dyn Display) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, text)| format!("{name}=\"{}\"", escaped(text)))
            .collect();
        let name = self.1;
        match labels.is_empty() {
            true => self.line(format_args!("{name}{suffix} {value}")),
            false => self.line(format_args!(
                "{name}{suffix}{{{}}} {value}",
                labels.join(",")
            )),
        }
    }

    /// `counts` by the bound that they do not exceed; one more is of what exceeds them all.
    fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let count_at = |at: usize| counts.get(at).copied().unwrap_or(0);
        let mut so_far: u64 = 0;
        for (at, bound) in bounds.iter().enumerate() {
            so_far += count_at(at);
            let bound = bound.to_string();
            self.sample("_bucket", &with(labels, ("le", &bound)), &so_far);
        }
        so_far += count_at(bounds.len());
        self.sample("_bucket", &with(labels, ("le", "+Inf")), &so_far);
        self.sample("_sum", labels, &sum);
        self.sample("_count", labels, &so_far);
    }
}

/// The value of a label, as it stands between quotation marks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out
}
