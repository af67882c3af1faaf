//! The bounds of the histograms in `ModelActivity`: each value is counted at the first that it does
//! not exceed.

/// Seconds to a first token, from a graphics device with a short question to a processor that has
/// thousands of tokens to read first, or a place to wait for.
pub const FIRST_TOKEN_SECONDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Tokens a second of one answer while it is written. Nobody reads as fast as the upper half.
pub const TOKENS_PER_SECOND: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0,
];
