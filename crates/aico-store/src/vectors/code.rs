//! Codes of one bit for each dimension, and what they tell of a distance.
//!
//! A vector is taken relative to the collection's centre, and of each value only the sign is kept,
//! with two numbers: the square of the length, and the factor by which the signs give back the
//! inner product with another vector on the average. The query keeps four bits of each value, so
//! that an estimate is a few counts of bits (after RaBitQ, Gao and Long 2024, without its random
//! rotation, which did not help with sentence vectors). Estimates choose candidates; what is
//! answered is computed from the vectors themselves.

/// Bits of each value of the query.
const PLANES: usize = 4;
/// Length and factor, 16 bits each.
const EXTRA: usize = 4;

fn words(dimension: usize) -> usize {
    dimension.div_ceil(64)
}

/// Bytes of one code.
pub(super) fn code_bytes(dimension: usize) -> usize {
    8 * words(dimension) + EXTRA
}

/// Writes the code of a vector.
pub(super) fn encode(vector: &[f32], centre: &[f32], code: &mut [u8]) {
    code.fill(0);
    let (mut square, mut sum) = (0.0_f32, 0.0_f32);
    for (index, (value, centre)) in vector.iter().zip(centre).enumerate() {
        let value = value - centre;
        square += value * value;
        sum += value.abs();
        if value > 0.0 {
            code[index / 8] |= 1 << (index % 8);
        }
    }
    let factor = if sum > 0.0 { square / sum } else { 0.0 };
    let signs = code.len() - EXTRA;
    code[signs..signs + 2].copy_from_slice(&shorten(square).to_le_bytes());
    code[signs + 2..].copy_from_slice(&shorten(factor).to_le_bytes());
}

/// The upper half of a float, rounded: the range of the whole one, three digits.
fn shorten(value: f32) -> u16 {
    let bits = value.to_bits();
    // A finite value of ours is far from the largest: the carry does not reach the sign.
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

fn lengthen(low: u8, high: u8) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes([low, high])) << 16)
}

/// A query, made ready to be compared with codes.
pub(super) struct Probe {
    /// Of each 64 values, the bits of each weight.
    planes: Vec<[u64; PLANES]>,
    low: f32,
    step: f32,
    total: f32,
}

impl Probe {
    pub(super) fn new(query: &[f32], centre: &[f32]) -> Self {
        let relative: Vec<f32> = query.iter().zip(centre).map(|(q, c)| q - c).collect();
        let low = relative.iter().copied().fold(f32::INFINITY, f32::min);
        let high = relative.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let most = ((1 << PLANES) - 1) as f32;
        let step = (high - low) / most;
        let mut planes = vec![[0; PLANES]; words(query.len())];
        for (index, value) in relative.iter().enumerate() {
            let level = if step > 0.0 {
                ((value - low) / step).round().clamp(0.0, most) as u64
            } else {
                0
            };
            for (weight, plane) in planes[index / 64].iter_mut().enumerate() {
                *plane |= (level >> weight & 1) << (index % 64);
            }
        }
        Self {
            planes,
            low,
            step,
            total: relative.iter().sum(),
        }
    }

    /// The square of the distance, as far as the code tells, less what is the same for all.
    pub(super) fn estimate(&self, code: &[u8]) -> f32 {
        let (signs, extra) = code.split_at(code.len() - EXTRA);
        let mut counts = [0_u32; PLANES];
        let mut set = 0;
        for (planes, signs) in self.planes.iter().zip(signs.as_chunks::<8>().0) {
            let signs = u64::from_le_bytes(*signs);
            set += signs.count_ones();
            for (count, plane) in counts.iter_mut().zip(planes) {
                *count += (signs & plane).count_ones();
            }
        }
        let levels: u32 = counts
            .iter()
            .enumerate()
            .map(|(weight, count)| count << weight)
            .sum();
        let above = self.low * set as f32 + self.step * levels as f32;
        let product = 2.0 * above - self.total;
        let square = lengthen(extra[0], extra[1]);
        let factor = lengthen(extra[2], extra[3]);
        square - 2.0 * factor * product
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in `docs/formats/vectors.md`.
    #[test]
    fn a_code_is_what_the_format_says() {
        let mut code = vec![0xaa; code_bytes(9)];
        let vector = [0.5, -0.5, 0.25, 0.0, 1.0, -1.0, 0.75, 0.5, 0.5];
        let centre = [0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0];
        encode(&vector, &centre, &mut code);
        assert_eq!(code, [0xd5, 0, 0, 0, 0, 0, 0, 0, 0x38, 0x40, 0x24, 0x3f]);
        assert_eq!(lengthen(0x38, 0x40), 2.875);
        assert_eq!(lengthen(0x24, 0x3f), 0.640_625);
    }

    #[test]
    fn estimates_are_near_the_distances_they_stand_for() {
        let dimension = 384;
        let mut state = 1_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut vector = || (0..dimension).map(|_| random()).collect::<Vec<f32>>();
        let (query, centre) = (vector(), vec![0.1; dimension]);
        let probe = Probe::new(&query, &centre);
        let own: f32 = query.iter().map(|q| (q - 0.1) * (q - 0.1)).sum();
        let mut code = vec![0; code_bytes(dimension)];
        for _ in 0..200 {
            let other = vector();
            encode(&other, &centre, &mut code);
            let real: f32 = query.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum();
            let told = probe.estimate(&code) + own;
            assert!((told - real).abs() < 0.15 * real, "{told} for {real}");
        }
        // The query's own code is the nearest of all.
        encode(&query, &centre, &mut code);
        assert!(probe.estimate(&code) + own < 0.2 * own);
    }

    #[test]
    fn a_vector_at_the_centre_and_a_flat_query_are_no_trouble() {
        let mut code = vec![0; code_bytes(3)];
        encode(&[1.0; 3], &[1.0; 3], &mut code);
        let probe = Probe::new(&[2.0; 3], &[1.0; 3]);
        assert_eq!(probe.estimate(&code), 0.0);
    }
}
