//! How texts judge and what they feel.

use aico_contracts::v1::{Classified, ClassifiedText, Classify, Label};

use super::super::graph::GraphError;
use super::batches::{Row, batches, each};
use super::{Loaded, ModelError, count};

impl Loaded {
    /// Labels of texts.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn classify(&self, asked: &Classify) -> Result<Classified, ModelError> {
        let labels = &self.about.labels;
        let Some(many) = self.about.multi_label else {
            return Err(ModelError::Task);
        };
        let mut items = vec![ClassifiedText::default(); asked.texts.len()];
        let batches = batches(self.rows(&asked.texts)?, self.graph.lanes());
        each(&*self.graph, &batches, &mut items, |batch, lane| {
            let (inputs, _) = self.inputs(batch);
            let out = self.graph.run(inputs, lane)?;
            if out.shape != [batch.len(), labels.len()] {
                return Err(GraphError::Output.into());
            }
            let item = |(row, logits): (&Row, &[f32])| {
                let scores = match many {
                    true => logits.iter().map(|value| sigmoid(*value)).collect(),
                    false => softmax(logits),
                };
                if !scores.iter().all(|score| score.is_finite()) {
                    return Err(GraphError::Output.into());
                }
                let label = |(label, score): (&String, f32)| Label {
                    label: label.clone(),
                    score,
                };
                let mut found: Vec<Label> = labels.iter().zip(scores).map(label).collect();
                found.sort_by(|one, other| other.score.total_cmp(&one.score));
                Ok(ClassifiedText {
                    labels: found,
                    tokens: count(row.tokens.ids.len()),
                    truncated: row.tokens.truncated,
                })
            };
            let logits = out.data.chunks_exact(labels.len());
            batch.iter().zip(logits).map(item).collect()
        })?;
        Ok(Classified {
            model: self.about.name.clone(),
            items,
        })
    }
}

pub(super) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

fn softmax(values: &[f32]) -> Vec<f32> {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let all: Vec<f32> = values.iter().map(|value| (value - most).exp()).collect();
    let sum: f32 = all.iter().sum();
    all.into_iter().map(|value| value / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_one_label_make_one_and_do_not_overflow() {
        let all = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(all, [0.5, 0.5, 0.0]);
        assert!((sigmoid(-1000.0), sigmoid(1000.0)) == (0.0, 1.0));
    }
}
