//! Arithmetic on vectors, straight on the bytes that lie in the database: 32-bit floats,
//! little-endian. Sixteen sums at once, which the compiler makes one instruction of.

const LANES: usize = 16;

/// How the vector lies in the database.
pub(super) fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The vector that lies there; `None` when it is not of this dimension.
pub(super) fn from_bytes(bytes: &[u8], dimension: usize) -> Option<Vec<f32>> {
    (bytes.len() == 4 * dimension).then(|| floats(bytes).collect())
}

/// The values that lie there, one after the other.
pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|it| f32::from_le_bytes(*it))
}

/// The inner product.
pub(super) fn dot(a: &[f32], b: &[u8]) -> f32 {
    sum_of(a, b, |a, b| a * b)
}

/// The square of the distance.
pub(super) fn squared_distance(a: &[f32], b: &[u8]) -> f32 {
    sum_of(a, b, |a, b| (a - b) * (a - b))
}

fn sum_of(a: &[f32], b: &[u8], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (whole, rest) = a.as_chunks::<LANES>();
    let (bytes, rest_bytes) = b.as_chunks::<{ 4 * LANES }>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in whole.iter().zip(bytes) {
        let (b, _) = b.as_chunks::<4>();
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += term(*a, f32::from_le_bytes(*b));
        }
    }
    for (a, b) in rest.iter().zip(floats(rest_bytes)) {
        sums[0] += term(*a, b);
    }
    sums.iter().sum()
}

/// The square of the length, in the precision that tells an overflow.
pub(super) fn squared_length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_plain_loops_in_every_dimension() {
        for dimension in 1..70 {
            let a: Vec<f32> = (0..dimension).map(|i| (i as f32).sin()).collect();
            let b: Vec<f32> = (0..dimension).map(|i| (i as f32 * 0.7).cos()).collect();
            let bytes = to_bytes(&b);
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert!((dot(&a, &bytes) - plain).abs() < 1e-4, "{dimension}");
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            assert!(
                (squared_distance(&a, &bytes) - plain).abs() < 1e-4,
                "{dimension}"
            );
            assert_eq!(from_bytes(&bytes, dimension).unwrap(), b);
            assert!(from_bytes(&bytes, dimension + 1).is_none());
        }
    }
}
