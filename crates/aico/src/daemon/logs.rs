//! The log, as the gateway reads it for `aico logs`.

use aico_gateway::{LogError, LogLevel, LogQuery, LogSource};
use aico_logging::{Logging, Query};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

/// The sealed log files, read while the vault is open.
pub(super) struct Logs(pub(super) Logging);

impl LogSource for Logs {
    fn read(&self, query: LogQuery) -> BoxStream<'static, Result<String, LogError>> {
        let wanted = Query {
            level: query.level.map(level),
            module: query.module,
            since: query.since,
            trace: query.trace.map(|trace| trace.to_string()),
            last: None,
        };
        let records = self
            .0
            .reader()
            .and_then(|reader| reader.stream(wanted, query.follow));
        match records {
            Ok(records) => records
                .map(|record| {
                    serde_json::to_string(&record).map_err(|error| LogError(Box::new(error)))
                })
                .boxed(),
            Err(error) => stream::once(async move { Err(LogError(Box::new(error))) }).boxed(),
        }
    }
}

fn level(level: LogLevel) -> aico_config::Level {
    match level {
        LogLevel::Error => aico_config::Level::Error,
        LogLevel::Warn => aico_config::Level::Warn,
        LogLevel::Info => aico_config::Level::Info,
        LogLevel::Debug => aico_config::Level::Debug,
        LogLevel::Trace => aico_config::Level::Trace,
    }
}
