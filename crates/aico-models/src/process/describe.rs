//! The process that reads the head of a file: `aico modelservice` with a launch of this kind. A model
//! file is hostile input also where no library sees it, so the daemon reads none itself: this process
//! confines itself, reads with the bounded reader of [`gguf`](crate::gguf), answers in one line and
//! ends. It has no link to the bus, no network and nothing that it may write to.
//!
//! The daemon takes the answer as coming from a stranger ([`parse`]): who made the file may have taken
//! the process over.

use std::io::{self, BufRead, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::confine::{self, Places};
use super::launch::Report;
use super::watch;
use crate::gguf::lora::{self, LoraError};
use crate::gguf::{Description, GgufError, is_hidden, presentable};

/// Of this protocol.
const VERSION: u32 = 1;
/// Longest answer in bytes.
pub(crate) const ANSWER_LIMIT: usize = 16 << 10;
/// Most characters of a reason.
const REASON_LIMIT: usize = 400;
/// Most bytes of memory: several times what the heads of the largest model and adapter take that the
/// reader lets pass.
const MEMORY: u64 = 256 << 20;

/// All that the process needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Launch {
    /// [`VERSION`].
    describe: u32,
    /// The model file.
    pub(crate) model: PathBuf,
    /// Whether this is an adapter for it is asked, and not what the model is.
    pub(crate) adapter: Option<PathBuf>,
}

impl Launch {
    pub(crate) fn new(model: &Path, adapter: Option<&Path>) -> Self {
        Self {
            describe: VERSION,
            model: model.to_owned(),
            adapter: adapter.map(Path::to_owned),
        }
    }
}

/// What the process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What the model's file says of itself.
    Model(Described),
    /// The adapter is one for the model.
    Fits,
    /// The file is none that can be used.
    Refused(Refusal),
    /// The file was not looked at: the launch is of another version, or the confinement could not be
    /// set up.
    NotSetUp,
}

/// A [`Description`] but for the size of the file, which the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    architecture: String,
    name: String,
    license: String,
    parameters: u64,
    quantization: String,
    context_length: u32,
    chat_template: bool,
    tools: bool,
    thinking: bool,
    pooling: bool,
    bytes_per_token: u64,
}

impl Described {
    fn new(about: Description) -> Self {
        Self {
            architecture: about.architecture,
            name: about.name,
            license: about.license,
            parameters: about.parameters,
            quantization: about.quantization,
            context_length: about.context_length,
            chat_template: about.chat_template,
            tools: about.tools,
            thinking: about.thinking,
            pooling: about.pooling,
            bytes_per_token: about.bytes_per_token,
        }
    }

    /// Of a file of so many bytes.
    pub(crate) fn of_size(self, size: u64) -> Description {
        Description {
            architecture: self.architecture,
            name: self.name,
            license: self.license,
            parameters: self.parameters,
            quantization: self.quantization,
            context_length: self.context_length,
            chat_template: self.chat_template,
            tools: self.tools,
            thinking: self.thinking,
            pooling: self.pooling,
            size,
            bytes_per_token: self.bytes_per_token,
        }
    }

    /// Whether its texts are as the reader leaves them.
    fn is_sound(&self) -> bool {
        let texts = [
            &self.architecture,
            &self.name,
            &self.license,
            &self.quantization,
        ];
        !self.architecture.is_empty() && texts.iter().all(|text| presentable(text) == **text)
    }
}

/// Why the reader takes a file for none that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// It can't be read: the system's number for why, where it has one.
    #[error("the file can't be read")]
    Unreadable(Option<i32>),
    /// It is one of so many files of a model.
    #[error("the model is split into {0} files")]
    Split(u64),
    /// It ends before what it announces; in words.
    #[error("{0}")]
    Cut(String),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Whether its words are on one line as they stand there, and bounded.
    fn is_sound(&self) -> bool {
        match self {
            Self::Unreadable(_) | Self::Split(_) => true,
            Self::Cut(words) | Self::Other(words) => {
                !words.is_empty()
                    && words.chars().count() <= REASON_LIMIT
                    && !words.contains(is_hidden)
            }
        }
    }
}

impl From<GgufError> for Refusal {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::Io(source) => Self::Unreadable(source.raw_os_error()),
            GgufError::Split(files) => Self::Split(files),
            GgufError::Cut(..) => Self::Cut(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<LoraError> for Refusal {
    fn from(error: LoraError) -> Self {
        match error {
            LoraError::File(error) | LoraError::Model(error @ GgufError::Io(_)) => error.into(),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// What a process said, if it is an answer: its texts are bounded, and harmless where they are shown.
/// Whether they are true nobody knows.
pub(crate) fn parse(said: &[u8]) -> Option<Answer> {
    let line = said.strip_suffix(b"\n")?;
    // What it says where it does not even come to this launch, or is of a version that knows none.
    if let Ok(Report::Failed(_)) = serde_json::from_slice(line) {
        return Some(Answer::NotSetUp);
    }
    let answer = serde_json::from_slice(line).ok()?;
    let sound = match &answer {
        Answer::Model(about) => about.is_sound(),
        Answer::Refused(refusal) => refusal.is_sound(),
        Answer::Fits | Answer::NotSetUp => true,
    };
    sound.then_some(answer)
}

/// Whether this first line is a launch of this kind.
pub(super) fn launch(line: &[u8]) -> Option<Launch> {
    serde_json::from_slice(line).ok()
}

/// Looks at the file, and answers. Ends the process when the input ends before that. False: it could
/// not be set up.
pub(super) fn run(launch: &Launch, input: impl BufRead + Send + 'static) -> bool {
    let answer = match confine(launch, input) {
        true => read(launch),
        false => Answer::NotSetUp,
    };
    if let Ok(mut line) = serde_json::to_vec(&answer) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        // A daemon that is gone does not read.
        let _gone = out.write_all(&line).and_then(|()| out.flush());
    }
    answer != Answer::NotSetUp
}

fn confine(launch: &Launch, input: impl BufRead + Send + 'static) -> bool {
    if launch.describe != VERSION || confine::memory(MEMORY).is_err() {
        return false;
    }
    let places = Places {
        model: &launch.model,
        adapter: launch.adapter.as_deref(),
        // Nothing: this place is not there.
        scratch: Path::new(""),
        gpu: None,
    };
    if confine::files(places).is_err() {
        return false;
    }
    // Nothing is said any more: what comes is the daemon's end.
    let (controls, _nobody_hears) = mpsc::channel();
    std::thread::Builder::new()
        .name("aico-daemon".into())
        .spawn(move || watch(input, &controls))
        .is_ok()
        && confine::calls(None).is_ok()
}

fn read(launch: &Launch) -> Answer {
    let refused = |refusal: Refusal| Answer::Refused(refusal);
    match &launch.adapter {
        None => Description::of_file(&launch.model).map_or_else(
            |error| refused(error.into()),
            |about| Answer::Model(Described::new(about)),
        ),
        Some(adapter) => lora::check(adapter, &launch.model)
            .map_or_else(|error| refused(error.into()), |()| Answer::Fits),
    }
}

#[cfg(test)]
mod tests {
    use super::super::launch::Failure;
    use super::*;

    fn described() -> Described {
        Described {
            architecture: "llama".into(),
            name: "A \"name\"".into(),
            license: String::new(),
            parameters: u64::MAX,
            quantization: "Q4_0".into(),
            context_length: u32::MAX,
            chat_template: true,
            tools: false,
            thinking: true,
            pooling: false,
            bytes_per_token: 1,
        }
    }

    fn line(answer: &Answer) -> Vec<u8> {
        let mut line = serde_json::to_vec(answer).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn an_answer_is_read_back() {
        let words = "it is made for models of the architecture a, and this one is b";
        for answer in [
            Answer::Model(described()),
            Answer::Fits,
            Answer::Refused(Refusal::Unreadable(Some(5))),
            Answer::Refused(Refusal::Unreadable(None)),
            Answer::Refused(Refusal::Split(u64::MAX)),
            Answer::Refused(Refusal::Cut(words.into())),
            Answer::Refused(Refusal::Other(words.into())),
            Answer::NotSetUp,
        ] {
            let line = line(&answer);
            assert!(line.len() <= ANSWER_LIMIT);
            assert_eq!(parse(&line), Some(answer));
            // One that is cut is none.
            assert_eq!(parse(&line[..line.len() - 1]), None);
        }
        let longest = Described {
            architecture: "\u{1d11e}".repeat(128),
            name: "\"".repeat(128),
            license: "\\".repeat(128),
            ..described()
        };
        let line = line(&Answer::Model(longest));
        assert!(line.len() <= ANSWER_LIMIT && parse(&line).is_some());
    }

    #[test]
    fn what_the_reader_can_not_have_said_is_no_answer() {
        for said in [
            &b"\n"[..],
            b"",
            b"{}\n",
            b"\"fits\"",
            b"\"fits\"\n\"fits\"\n",
            b"{\"model\":{}}\n",
            b"\xff\n",
        ] {
            assert_eq!(parse(said), None, "{said:?}");
        }
        let of = |change: fn(&mut Described)| {
            let mut about = described();
            change(&mut about);
            parse(&line(&Answer::Model(about)))
        };
        assert_eq!(of(|about| about.architecture.clear()), None);
        assert_eq!(of(|about| about.architecture = "a\nb".into()), None);
        assert_eq!(of(|about| about.name = "a\u{1b}[2J".into()), None);
        assert_eq!(of(|about| about.license = "x".repeat(129)), None);
        assert_eq!(of(|about| about.quantization = " Q4_0".into()), None);
        assert_eq!(of(|about| about.name = "a\u{202e}b".into()), None);
        let long = "x".repeat(REASON_LIMIT + 1);
        for words in [String::new(), "a\rb".into(), "a\u{2066}b".into(), long] {
            for refusal in [Refusal::Cut(words.clone()), Refusal::Other(words)] {
                assert_eq!(parse(&line(&Answer::Refused(refusal))), None);
            }
        }
        // What is not known is not passed over: another version may mean it.
        let more = br#"{"model":{"architecture":"a","more":1}}"#;
        assert_eq!(parse(&[&more[..], b"\n"].concat()), None);
    }

    #[test]
    fn one_that_failed_before_it_knew_what_to_do_was_not_set_up() {
        for failure in [Failure::Launch, Failure::Confinement] {
            let mut line = serde_json::to_vec(&Report::Failed(failure)).unwrap();
            line.push(b'\n');
            assert_eq!(parse(&line), Some(Answer::NotSetUp));
        }
        assert_eq!(parse(b"{\"loading\":1}\n"), None);
    }

    #[test]
    fn a_file_is_refused_by_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let launch = Launch::new(&path, None);
        assert!(matches!(
            read(&launch),
            Answer::Refused(Refusal::Unreadable(Some(_)))
        ));
        std::fs::write(&path, "Dear diary").unwrap();
        assert!(matches!(read(&launch), Answer::Refused(Refusal::Other(_))));
        std::fs::write(&path, b"GGUF\x03\0\0\0").unwrap();
        assert!(matches!(read(&launch), Answer::Refused(Refusal::Cut(_))));
        let adapted = Launch::new(&path, Some(&path));
        assert!(matches!(read(&adapted), Answer::Refused(Refusal::Cut(_))));
        // What the system does not give out it may later, of either file.
        let unreadable = || GgufError::Io(io::Error::from_raw_os_error(5));
        for error in [
            LoraError::File(unreadable()),
            LoraError::Model(unreadable()),
        ] {
            assert_eq!(Refusal::from(error), Refusal::Unreadable(Some(5)));
        }
    }
}
