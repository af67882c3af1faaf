//! The seam to the library that computes: [`Graph`], and `rten` behind it.
//!
//! Nothing else here knows which library that is.

use std::path::Path;
use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;

/// Whole numbers in two or three dimensions, as all inputs are.
pub struct Ids {
    /// The input's name.
    pub name: &'static str,
    /// Their number in each dimension.
    pub shape: Vec<usize>,
    /// In the order of rows.
    pub data: Vec<i32>,
}

/// What comes out.
pub struct Numbers {
    /// Their number in each dimension.
    pub shape: Vec<usize>,
    /// In the order of rows.
    pub data: Vec<f32>,
}

/// Why a graph can't be used. Holds nothing of a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It is no ONNX, has parts that are not known, or is inconsistent.
    #[error("the graph can't be read")]
    Unreadable,
    /// It wants something that is no text.
    #[error("the graph has an input that is not known")]
    Input,
    /// Computing failed.
    #[error("the graph can't be computed")]
    Computing,
    /// What came out is not of the shape that it has to be.
    #[error("the graph gives something else than it should")]
    Output,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// All threads together.
    All,
    /// One of them, by its number. Each may compute something else at the same time.
    One(usize),
}

/// A graph that is loaded.
pub trait Graph: Send + Sync {
    /// How many threads compute, at least 1.
    fn lanes(&self) -> usize;

    /// Computes its first output.
    ///
    /// # Errors
    /// [`GraphError`].
    fn run(&self, inputs: Vec<Ids>, lane: Lane) -> Result<Numbers, GraphError>;
}

/// A graph in `rten`.
pub struct Rten {
    model: Model,
    inputs: Vec<(String, NodeId)>,
    output: NodeId,
    /// The library's own has a thread too few where it can't look at the machine.
    all: Arc<ThreadPool>,
    /// One thread each.
    lanes: Vec<Arc<ThreadPool>>,
}

/// Most threads that compute: each has its memory for the stack.
const MOST_THREADS: usize = 64;
/// The variables that a process finds in which a graph is computed. They have to be there before it
/// begins.
#[must_use]
pub fn variables(threads: usize) -> Vec<(&'static str, String)> {
    vec![
        // Of the threads that the library makes by itself, for laying out the weights.
        ("RTEN_NUM_THREADS", threads.to_string()),
        // Of glibc's allocator; others don't know it. Weights side by side in large pages: a text
        // alone goes through all of them, and finding each small page took a tenth of its time.
        // What a batch took is kept for the next one.
        (
            "GLIBC_TUNABLES",
            "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:\
             glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=134217728"
                .to_owned(),
        ),
    ]
}

impl Rten {
    /// Reads an ONNX file. `threads` compute, at least one.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn load(path: &Path, threads: usize) -> Result<Self, GraphError> {
        if !super::framing::is_whole(path) {
            return Err(GraphError::Unreadable);
        }
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        let model = options
            .load_file(path)
            .map_err(|_| GraphError::Unreadable)?;
        let mut inputs = Vec::new();
        for &id in model.input_ids() {
            let name = model
                .node_info(id)
                .and_then(|info| info.name().map(str::to_owned));
            inputs.push((name.ok_or(GraphError::Input)?, id));
        }
        let output = *model.output_ids().first().ok_or(GraphError::Output)?;
        let pool = |threads| Arc::new(ThreadPool::with_num_threads(threads));
        let threads = threads.clamp(1, MOST_THREADS);
        Ok(Self {
            model,
            inputs,
            output,
            all: pool(threads),
            lanes: match threads {
                1 => Vec::new(),
                some => (0..some).map(|_| pool(1)).collect(),
            },
        })
    }
}

impl Graph for Rten {
    fn lanes(&self) -> usize {
        self.lanes.len().max(1)
    }

    fn run(&self, inputs: Vec<Ids>, lane: Lane) -> Result<Numbers, GraphError> {
        let mut given = Vec::with_capacity(inputs.len());
        for ids in inputs {
            let Some((_, id)) = self.inputs.iter().find(|(name, _)| name == ids.name) else {
                continue;
            };
            let value = Value::from_shape(ids.shape.as_slice(), ids.data)
                .map_err(|_| GraphError::Computing)?;
            given.push((*id, value.into()));
        }
        if given.len() != self.inputs.len() {
            return Err(GraphError::Input);
        }
        let pool = match lane {
            Lane::All => &self.all,
            Lane::One(number) => self.lanes.get(number).unwrap_or(&self.all),
        };
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let outputs = self
            .model
            .run(given, &[self.output], Some(options))
            .map_err(|_| GraphError::Computing)?;
        match outputs.into_iter().next() {
            Some(Value::FloatTensor(tensor)) => Ok(Numbers {
                shape: tensor.shape().to_vec(),
                data: tensor.into_data(),
            }),
            _ => Err(GraphError::Output),
        }
    }
}
