//! Texts become vectors.

use aico_contracts::v1::{Embed, Embedded, EmbeddedText};

use super::super::graph::GraphError;
use super::super::package::Pooling;
use super::batches::{Row, batches, each};
use super::{Loaded, ModelError, count};

impl Loaded {
    /// Vectors of texts.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn embed(&self, asked: &Embed) -> Result<Embedded, ModelError> {
        let (Some(pooling), Some(whole)) = (self.about.pooling, self.about.dimensions) else {
            return Err(ModelError::Task);
        };
        let wanted = match asked.dimensions {
            0 => whole,
            some if some <= whole => some,
            _ => return Err(ModelError::Dimensions(whole)),
        } as usize;
        let mut items = vec![EmbeddedText::default(); asked.texts.len()];
        let batches = batches(self.rows(&asked.texts)?, self.graph.lanes());
        each(&*self.graph, &batches, &mut items, |batch, lane| {
            let (inputs, length) = self.inputs(batch);
            let out = self.graph.run(inputs, lane)?;
            // Of each token, or of each text when the graph does the rest by itself.
            let pooled = match out.shape[..] {
                [rows, tokens, numbers]
                    if (rows, tokens, numbers) == (batch.len(), length, whole as usize) =>
                {
                    false
                }
                [rows, numbers] if (rows, numbers) == (batch.len(), whole as usize) => true,
                _ => return Err(GraphError::Output.into()),
            };
            let per_row = out.data.len() / batch.len().max(1);
            let item = |(row, values): (&Row, &[f32])| {
                let own = row.tokens.ids.len();
                let mut vector = match pooled {
                    true => values.to_vec(),
                    false => pool(values, whole as usize, own, pooling),
                };
                vector.truncate(wanted);
                if self.about.normalize == Some(true) {
                    normalize(&mut vector);
                }
                if !vector.iter().all(|value| value.is_finite()) {
                    return Err(GraphError::Output.into());
                }
                Ok(EmbeddedText {
                    vector,
                    tokens: count(own),
                    truncated: row.tokens.truncated,
                })
            };
            let values = out.data.chunks_exact(per_row.max(1));
            batch.iter().zip(values).map(item).collect()
        })?;
        Ok(Embedded {
            model: self.about.name.clone(),
            items,
        })
    }
}

/// One vector of those of `own` tokens; what fills the row does not count.
fn pool(values: &[f32], numbers: usize, own: usize, pooling: Pooling) -> Vec<f32> {
    let mut tokens = values.chunks_exact(numbers).take(own);
    match pooling {
        Pooling::Cls => tokens.next().map(<[f32]>::to_vec).unwrap_or_default(),
        Pooling::Max => {
            let mut all = vec![f32::NEG_INFINITY; numbers];
            for token in tokens {
                for (most, value) in all.iter_mut().zip(token) {
                    *most = most.max(*value);
                }
            }
            all
        }
        Pooling::Mean => {
            let mut all = vec![0.0_f32; numbers];
            for token in tokens {
                for (sum, value) in all.iter_mut().zip(token) {
                    *sum += value;
                }
            }
            let share = 1.0 / own.max(1) as f32;
            all.iter_mut().for_each(|sum| *sum *= share);
            all
        }
    }
}

fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let share = 1.0 / length.max(1e-12);
    vector.iter_mut().for_each(|value| *value *= share);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_leaves_out_what_fills_the_row() {
        let values = [1.0, -2.0, 3.0, 4.0, 100.0, 100.0];
        assert_eq!(pool(&values, 2, 2, Pooling::Mean), [2.0, 1.0]);
        assert_eq!(pool(&values, 2, 2, Pooling::Max), [3.0, 4.0]);
        assert_eq!(pool(&values, 2, 2, Pooling::Cls), [1.0, -2.0]);
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 3];
        normalize(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
