//! What callers' statements may not do on a connection that is shared: end the transaction, open
//! other files, change the settings that the security of the store rests on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

use crate::error::StoreError;

/// The savepoint around each write.
pub(crate) const SAVEPOINT: &str = "aico_write";

/// Pragmas that tell something, or end with the transaction.
const HARMLESS: &[&str] = &[
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "page_count",
    "page_size",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Says whether callers' code runs on the connection at the moment.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<AtomicBool>);

impl Guard {
    /// Puts a guard on the connection.
    pub(crate) fn install(connection: &mut Connection) -> Result<Self, StoreError> {
        let guard = Self::default();
        let active = guard.0.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            if active.load(Ordering::Relaxed) && is_forbidden(context.action) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }))?;
        Ok(guard)
    }

    /// Runs callers' code.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.store(true, Ordering::Relaxed);
        let result = work();
        self.0.store(false, Ordering::Relaxed);
        result
    }
}

fn is_forbidden(action: AuthAction<'_>) -> bool {
    match action {
        AuthAction::Transaction { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            true
        }
        AuthAction::Savepoint { savepoint_name, .. } => savepoint_name == SAVEPOINT,
        AuthAction::Pragma { pragma_name, .. } => !HARMLESS
            .iter()
            .any(|name| pragma_name.eq_ignore_ascii_case(name)),
        _ => false,
    }
}
