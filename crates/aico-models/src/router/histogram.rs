//! How many values lie between which bounds.

/// Counts of values by the first bound that they do not exceed. They only grow.
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds: of what exceeds them all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// With these bounds, the lowest first.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Counts a value. One that is no number is none.
    pub(super) fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
            self.sum += value;
        }
    }

    pub(super) fn counts(&self) -> Vec<u64> {
        self.counts.clone()
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_the_first_bound_that_it_does_not_exceed() {
        let mut histogram = Histogram::new(&[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 2.5, 3.0, f64::INFINITY, f64::NAN] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 1]);
        assert!((histogram.sum() - 9.0).abs() < 1e-9);
    }
}
