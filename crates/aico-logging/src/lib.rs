//! aico-logging
