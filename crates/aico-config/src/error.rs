//! What can go wrong with a configuration, said so that the person can mend it.

use std::fmt;
use std::path::PathBuf;

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config`, or one of the usual ones, can't be read.
    #[error("the configuration file {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any configuration can be.
    #[error("the configuration file {} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The file is not YAML.
    #[error("the configuration file {}{} is not valid YAML: {reason}", path.display(), at_line(*line))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1, when known.
        line: Option<u64>,
        /// The parser's words; they quote nothing from the file.
        reason: String,
    },
    /// Keys or values that can't be: all of them, not only the first.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

fn at_line(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line},"))
}

/// One or more [`Problem`]s; Display gives one to a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Something wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was set.
    pub source: Source,
    /// The key in dotted form, as it was written.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.source, self.key, self.what)
    }
}

/// The layer that a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1; 0 when unknown.
        line: u64,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}
