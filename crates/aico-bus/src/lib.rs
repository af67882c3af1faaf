//! aico-bus
