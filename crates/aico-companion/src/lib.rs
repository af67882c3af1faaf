//! aico-companion
