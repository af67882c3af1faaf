//! aico-vault
