//! A package that is loaded, and what it makes of texts: one file for each question, and
//! [`batches`], which they share.

mod batches;
mod classify;
mod embed;
mod entities;

use std::path::Path;

use aico_contracts::v1::{Classify, Embed, Fault, FindEntities};

use super::graph::{Graph, GraphError, Ids, Rten};
use super::package::{GRAPH, Package, TOKENIZER};
use super::tokens::{Tokeniser, TokensError};
use batches::Row;

/// Why a model can't answer. Holds nothing of a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The tokeniser.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The tokeniser does not have the marks that the description names.
    #[error("the tokeniser and the description do not fit together")]
    Marks,
    /// The labels alone fill what the model reads.
    #[error("the labels are longer than the model reads")]
    Labels,
    /// More numbers than a vector has.
    #[error("the vectors have {0} dimensions")]
    Dimensions(u32),
    /// It is a model of another kind.
    #[error("the model is for something else")]
    Task,
}

impl ModelError {
    /// For the asker.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        match self {
            Self::Labels => Fault::too_long("The labels are longer than the model reads")
                .with_what_to_do("Ask for fewer labels, or for shorter ones."),
            Self::Dimensions(most) => {
                Fault::invalid(format!("The model's vectors have {most} dimensions"))
                    .with_what_to_do(format!("Ask for 1 to {most}, or for none."))
            }
            Self::Task => Fault::invalid("This model is for something else"),
            Self::Graph(_) | Self::Tokens(_) | Self::Marks => {
                Fault::model_failed("The model could not make anything of this text")
                    .with_detail(format!("Because {self}."))
                    .with_what_to_do("Try another model.")
            }
        }
    }
}

/// A package that is loaded.
pub struct Loaded {
    about: Package,
    graph: Box<dyn Graph>,
    tokeniser: Tokeniser,
}

impl Loaded {
    /// Loads the package in `folder`, whose files were checked. `threads` compute.
    ///
    /// # Errors
    /// When its files are not what they should be.
    pub fn load(folder: &Path, about: Package, threads: usize) -> Result<Self, ModelError> {
        let tokeniser = Tokeniser::load(&folder.join(TOKENIZER), about.max_tokens)?;
        let marks = [&about.entity_token, &about.separator_token];
        if !marks
            .into_iter()
            .flatten()
            .all(|mark| tokeniser.knows(mark))
        {
            return Err(ModelError::Marks);
        }
        let loaded = Self {
            graph: Box::new(Rten::load(&folder.join(GRAPH), threads)?),
            tokeniser,
            about,
        };
        loaded.try_out()?;
        Ok(loaded)
    }

    /// A model that can't do its work says so now and not at the first question.
    fn try_out(&self) -> Result<(), ModelError> {
        use super::package::Task;
        let texts = vec!["a".to_owned(), "a b".to_owned()];
        match self.about.task {
            Task::Embedding => self
                .embed(&Embed {
                    texts,
                    ..Embed::default()
                })
                .map(drop),
            Task::Entities => {
                let labels = vec!["a".to_owned()];
                let asked = FindEntities {
                    texts,
                    labels,
                    ..FindEntities::default()
                };
                self.entities(&asked).map(drop)
            }
            Task::Sentiment | Task::Emotion => self
                .classify(&Classify {
                    texts,
                    ..Classify::default()
                })
                .map(drop),
        }
    }

    fn rows(&self, texts: &[String]) -> Result<Vec<Row>, TokensError> {
        let row = |(index, text): (usize, &String)| {
            let tokens = self.tokeniser.text(text)?;
            Ok(Row { index, tokens })
        };
        texts.iter().enumerate().map(row).collect()
    }

    /// The inputs that all graphs share: tokens, which of them count, and their (one) kind.
    fn inputs(&self, batch: &[Row]) -> (Vec<Ids>, usize) {
        let length = batch
            .iter()
            .map(|row| row.tokens.ids.len())
            .max()
            .unwrap_or(0);
        let filled = |fill: i32, value: &dyn Fn(&Row, usize) -> i32| {
            let mut data = Vec::with_capacity(batch.len() * length);
            for row in batch {
                let own = row.tokens.ids.len();
                data.extend((0..length).map(|at| if at < own { value(row, at) } else { fill }));
            }
            data
        };
        let shape = vec![batch.len(), length];
        let ids = |name, data| Ids {
            name,
            shape: shape.clone(),
            data,
        };
        let inputs = vec![
            ids(
                "input_ids",
                filled(self.tokeniser.padding, &|row, at| row.tokens.ids[at]),
            ),
            ids("attention_mask", filled(0, &|_, _| 1)),
            ids("token_type_ids", filled(0, &|_, _| 0)),
        ];
        (inputs, length)
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
