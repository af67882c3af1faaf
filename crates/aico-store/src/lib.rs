//! aico-store
