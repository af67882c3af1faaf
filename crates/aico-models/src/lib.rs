//! aico-models
