//! aico-gateway
