//! aico-contracts
