//! aico-access
