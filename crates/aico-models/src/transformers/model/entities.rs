//! What texts name.

use std::collections::BTreeMap;

use aico_contracts::v1::{EntitiesOfText, Entity, FindEntities, FoundEntities};

use super::super::graph::{GraphError, Ids};
use super::super::words::{Word, words};
use super::batches::{Row, batches, each};
use super::classify::sigmoid;
use super::{Loaded, ModelError, count};

impl Loaded {
    /// What of the labels is named in texts.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn entities(&self, asked: &FindEntities) -> Result<FoundEntities, ModelError> {
        let about = &self.about;
        let (Some(entity), Some(separator)) = (&about.entity_token, &about.separator_token) else {
            return Err(ModelError::Task);
        };
        let (max_words, width) = match (about.max_words, about.max_width) {
            (Some(max_words), Some(width)) => (max_words as usize, width as usize),
            _ => return Err(ModelError::Task),
        };
        let threshold = match asked.threshold {
            some if some > 0.0 => some,
            _ => 0.5,
        };
        let mut prompt: Vec<&str> = Vec::new();
        for label in &asked.labels {
            prompt.extend([entity.as_str(), label]);
        }
        prompt.push(separator);
        // A text of which no word fits would get nothing: that is told, not done.
        let mut probe = prompt.clone();
        probe.push("a");
        if self.tokeniser.words(&probe)?.truncated {
            return Err(ModelError::Labels);
        }
        let mut items = vec![EntitiesOfText::default(); asked.texts.len()];
        let mut rows = Vec::new();
        let mut split = Vec::new();
        for (index, text) in asked.texts.iter().enumerate() {
            let mut found = words(text);
            let longer = found.len() > max_words;
            found.truncate(max_words);
            if found.is_empty() {
                split.push(found);
                continue;
            }
            let mut all = prompt.clone();
            all.extend(found.iter().map(|word| word.text));
            let mut tokens = self.tokeniser.words(&all)?;
            tokens.truncated |= longer;
            split.push(found);
            rows.push(Row { index, tokens });
        }
        // The graph's recurrent layer goes backwards over the words, and does not know in this
        // library where the shorter ones of a batch end: texts of as many words go together.
        let mut alike: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let words = split[row.index].len();
            alike.entry(words).or_default().push(row);
        }
        let lanes = self.graph.lanes();
        let batches: Vec<Vec<Row>> = alike
            .into_values()
            .flat_map(|rows| batches(rows, lanes))
            .collect();
        each(&*self.graph, &batches, &mut items, |batch, lane| {
            let texts: Vec<&[Word<'_>]> = batch.iter().map(|row| &split[row.index][..]).collect();
            let inputs = self.spans(batch, &texts, prompt.len(), width);
            let out = self.graph.run(inputs, lane)?;
            let longest = texts.iter().map(|words| words.len()).max().unwrap_or(0);
            if out.shape != [batch.len(), longest, width, asked.labels.len()] {
                return Err(GraphError::Output.into());
            }
            let per_row = longest * width * asked.labels.len();
            let rows = batch.iter().zip(&texts);
            let item = |((row, words), logits): ((&Row, &&[Word<'_>]), &[f32])| EntitiesOfText {
                entities: chosen(logits, words, width, &asked.labels, threshold),
                tokens: count(row.tokens.ids.len()),
                truncated: row.tokens.truncated,
            };
            let logits = out.data.chunks_exact(per_row.max(1));
            Ok(rows.zip(logits).map(item).collect())
        })?;
        Ok(FoundEntities {
            model: about.name.clone(),
            items,
        })
    }

    /// All inputs of texts whose words are asked for.
    fn spans(&self, batch: &[Row], texts: &[&[Word<'_>]], prompt: usize, width: usize) -> Vec<Ids> {
        let (mut inputs, length) = self.inputs(batch);
        let longest = texts.iter().map(|words| words.len()).max().unwrap_or(0);
        let mut first_tokens = Vec::with_capacity(batch.len() * length);
        for row in batch {
            let mut last = None;
            let marks = row.tokens.words.iter().map(|word| {
                let first = *word != last;
                last = *word;
                match word {
                    Some(word) if first && *word as usize >= prompt => {
                        i32::try_from(*word as usize - prompt + 1).unwrap_or_default()
                    }
                    _ => 0,
                }
            });
            first_tokens.extend(marks);
            first_tokens.resize(first_tokens.len() + length - row.tokens.words.len(), 0);
        }
        let mut spans = Vec::with_capacity(batch.len() * longest * width * 2);
        let mut valid = Vec::with_capacity(batch.len() * longest * width);
        for words in texts {
            for (start, step) in (0..longest).flat_map(|at| (0..width).map(move |step| (at, step)))
            {
                let inside = start + step < words.len();
                let end = |at: usize| i32::try_from(at).unwrap_or_default();
                // Those that reach beyond their text are masked out; their places still exist.
                spans.extend(match start < words.len() {
                    true => [end(start), end(start + step)],
                    false => [0, 0],
                });
                valid.push(i32::from(inside));
            }
        }
        let lengths = texts
            .iter()
            .map(|words| i32::try_from(words.len()).unwrap_or_default());
        let rows = batch.len();
        inputs.push(Ids {
            name: "words_mask",
            shape: vec![rows, length],
            data: first_tokens,
        });
        inputs.push(Ids {
            name: "text_lengths",
            shape: vec![rows, 1],
            data: lengths.collect(),
        });
        inputs.push(Ids {
            name: "span_idx",
            shape: vec![rows, longest * width, 2],
            data: spans,
        });
        inputs.push(Ids {
            name: "span_mask",
            shape: vec![rows, longest * width],
            data: valid,
        });
        inputs
    }
}

/// The likeliest spans that do not overlap, in the order of the text.
fn chosen(
    logits: &[f32],
    words: &[Word<'_>],
    width: usize,
    labels: &[String],
    threshold: f32,
) -> Vec<Entity> {
    struct Span {
        start: usize,
        end: usize,
        label: usize,
        score: f32,
    }
    let mut spans = Vec::new();
    for start in 0..words.len() {
        for step in 0..width.min(words.len() - start) {
            for label in 0..labels.len() {
                let score = sigmoid(logits[(start * width + step) * labels.len() + label]);
                if score > threshold {
                    let end = start + step;
                    spans.push(Span {
                        start,
                        end,
                        label,
                        score,
                    });
                }
            }
        }
    }
    // A stable order: of equals the first in the text.
    spans.sort_by(|one, other| other.score.total_cmp(&one.score));
    let mut taken: Vec<Span> = Vec::new();
    for span in spans {
        let apart = |other: &Span| span.start > other.end || other.start > span.end;
        if taken.iter().all(apart) {
            taken.push(span);
        }
    }
    taken.sort_by_key(|span| span.start);
    let entity = |span: Span| Entity {
        start: count(words[span.start].start),
        end: count(words[span.end].end),
        label: labels[span.label].clone(),
        score: span.score,
    };
    taken.into_iter().map(entity).collect()
}
