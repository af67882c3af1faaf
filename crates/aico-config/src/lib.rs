//! aico-config
