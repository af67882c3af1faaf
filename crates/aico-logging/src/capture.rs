//! Makes a [`Record`] of each event and hands it to the console and the file.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::Attached;
use crate::console::Console;
use crate::levels::level_of;
use crate::record::Record;
use crate::redact;
use crate::writer::Writer;

thread_local! {
    /// Set while a thread writes the file: what that logs itself goes to the console only, or a
    /// failing disk would feed the log with its own failures, and a record wait for itself.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the one that has the files.
pub(crate) fn mark_writer_thread() {
    WRITES.set(true);
}

/// Does something during which nothing that this thread logs goes to the file.
fn while_writing(work: impl FnOnce()) {
    struct Writing;
    impl Drop for Writing {
        fn drop(&mut self) {
            WRITES.set(false);
        }
    }
    WRITES.set(true);
    let _writing = Writing;
    work();
}

/// The layer.
pub(crate) struct Capture {
    console: Console,
    attached: Attached,
}

impl Capture {
    pub(crate) fn new(console: Console, attached: Attached) -> Self {
        Self { console, attached }
    }
}

/// The trace id that a span carries.
struct Trace(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::new(attributes.metadata().target());
        attributes.record(&mut fields);
        if let (Some(trace), Some(span)) = (fields.trace, context.span(id)) {
            span.extensions_mut().replace(Trace(trace));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::new(span.metadata().target());
        values.record(&mut fields);
        if let Some(trace) = fields.trace {
            span.extensions_mut().replace(Trace(trace));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::new(metadata.target());
        event.record(&mut fields);
        let trace = fields.trace.or_else(|| {
            let scope = context.event_scope(event)?;
            scope
                .into_iter()
                .find_map(|s| s.extensions().get::<Trace>().map(|t| t.0.clone()))
        });
        let record = Record {
            time: Timestamp::now(),
            level: level_of(*metadata.level()),
            module: metadata.target().to_owned(),
            message: fields.message,
            fields: fields.fields,
            trace,
        };
        self.console.write(&record);
        if WRITES.get() {
            return;
        }
        while_writing(|| write(&self.attached, record));
    }
}

/// Nobody who attaches or detaches waits for the writing.
fn write(attached: &Attached, record: Record) {
    let mut left = Some(record);
    while let Some(record) = left {
        let attached = attached
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(shared) = attached.as_ref().map(Writer::shared) else {
            return;
        };
        drop(attached);
        // Back when it was stopped meanwhile: it has been taken away, and another is there or none.
        left = shared.write(record);
    }
}

/// Collects the fields of an event under the rules of [`redact`].
struct Fields {
    ours: bool,
    message: String,
    trace: Option<String>,
    fields: BTreeMap<String, Value>,
}

impl Fields {
    fn new(target: &str) -> Self {
        Self {
            ours: redact::is_ours(target),
            message: String::new(),
            trace: None,
            fields: BTreeMap::new(),
        }
    }

    fn put(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let name = field.name();
        if !self.ours && name != "message" {
            return;
        }
        if !redact::field_is_allowed(name) {
            self.fields.insert(name.to_owned(), redact::WITHHELD.into());
            return;
        }
        let limit = if self.ours {
            redact::MAX_TEXT
        } else {
            redact::MAX_FOREIGN_TEXT
        };
        let value = match value() {
            Value::String(text) => Value::String(redact::cut(text, limit)),
            other => other,
        };
        match (name, value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            ("trace", Value::String(text)) => self.trace = Some(text),
            (_, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, || value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, || value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, || value.into());
    }

    /// An error with everything that caused it.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, || {
            let mut text = value.to_string();
            let mut cause = value.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text.into()
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, || format!("{value:?}").into());
    }
}
