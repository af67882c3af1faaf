//! What is asked, checked against the limits, and taken apart into pieces.

use aico_bus::{Request, Responder};
use aico_contracts::v1::{
    Classified, Classify, Embed, Embedded, Fault, FindEntities, FoundEntities,
};
use prost::Message as _;

use crate::router::Ticket;
use crate::transformers::package::Task;
use crate::transformers::wire::Kind;

/// Texts in one question.
pub(super) const MOST_TEXTS: usize = 2048;
/// Bytes of one text: far more than any of these models reads.
const LONGEST_TEXT: usize = 256 << 10;
/// Bytes of all texts of a question.
const MOST_BYTES: usize = 4 << 20;
/// Labels in one question.
const MOST_LABELS: usize = 64;
/// Characters of a label.
const LONGEST_LABEL: usize = 100;
/// Texts that a process is handed at once.
const PIECE: usize = 32;
/// And their bytes; one text may have more.
const PIECE_BYTES: usize = 512 << 10;

/// One of the three questions.
pub(super) enum Ask {
    Embed(Embed),
    Entities(FindEntities),
    Classify(Classify),
}

/// A question, and who can answer it.
pub(super) struct Question {
    pub(super) ask: Ask,
    /// A package's name; empty: the first that fits.
    pub(super) model: String,
    pub(super) tasks: Vec<Task>,
}

impl Question {
    pub(super) fn embed(request: &Request) -> Result<Self, Fault> {
        let asked: Embed = request.decode()?;
        check(&asked.texts)?;
        Ok(Self {
            model: asked.model.clone(),
            ask: Ask::Embed(asked),
            tasks: vec![Task::Embedding],
        })
    }

    pub(super) fn entities(request: &Request) -> Result<Self, Fault> {
        let mut asked: FindEntities = request.decode()?;
        check(&asked.texts)?;
        for label in &mut asked.labels {
            *label = label.trim().to_owned();
            if label.is_empty() || label.chars().count() > LONGEST_LABEL {
                return Err(Fault::invalid(format!(
                    "A label has 1 to {LONGEST_LABEL} letters"
                )));
            }
        }
        let mut sorted = asked.labels.clone();
        sorted.sort();
        sorted.dedup();
        if sorted.len() != asked.labels.len() {
            return Err(Fault::invalid("A label is there twice"));
        }
        if !(1..=MOST_LABELS).contains(&asked.labels.len()) {
            return Err(Fault::invalid(format!(
                "1 to {MOST_LABELS} labels are looked for at once"
            )));
        }
        if !(0.0..1.0).contains(&asked.threshold) {
            return Err(Fault::invalid("The threshold is between 0 and 1"));
        }
        Ok(Self {
            model: asked.model.clone(),
            ask: Ask::Entities(asked),
            tasks: vec![Task::Entities],
        })
    }

    pub(super) fn classify(request: &Request) -> Result<Self, Fault> {
        let asked: Classify = request.decode()?;
        check(&asked.texts)?;
        let tasks = match asked.task.as_str() {
            "sentiment" => vec![Task::Sentiment],
            "emotion" => vec![Task::Emotion],
            "" if !asked.model.is_empty() => vec![Task::Sentiment, Task::Emotion],
            _ => {
                return Err(Fault::invalid("The task is `sentiment` or `emotion`"));
            }
        };
        Ok(Self {
            model: asked.model.clone(),
            ask: Ask::Classify(asked),
            tasks,
        })
    }
}

fn check(texts: &[String]) -> Result<(), Fault> {
    if texts.len() > MOST_TEXTS {
        return Err(Fault::too_long(format!(
            "At most {MOST_TEXTS} texts are taken at once"
        )));
    }
    let all: usize = texts.iter().map(String::len).sum();
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    if longest > LONGEST_TEXT || all > MOST_BYTES {
        return Err(Fault::too_long(format!(
            "A text has at most {} KiB, and all of a question {} MiB",
            LONGEST_TEXT >> 10,
            MOST_BYTES >> 20
        )));
    }
    Ok(())
}

impl Ask {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::Embed(asked) => &asked.texts,
            Self::Entities(asked) => &asked.texts,
            Self::Classify(asked) => &asked.texts,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts().is_empty()
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Embed(_) => Kind::Embed,
            Self::Entities(_) => Kind::Entities,
            Self::Classify(_) => Kind::Classify,
        }
    }

    /// The same of these texts alone, as it is handed to the process.
    fn of(&self, indexes: &[usize]) -> Vec<u8> {
        let texts = indexes
            .iter()
            .map(|index| self.texts()[*index].clone())
            .collect();
        match self {
            Self::Embed(asked) => Embed {
                model: String::new(),
                texts,
                dimensions: asked.dimensions,
            }
            .encode_to_vec(),
            Self::Entities(asked) => FindEntities {
                model: String::new(),
                texts,
                labels: asked.labels.clone(),
                threshold: asked.threshold,
            }
            .encode_to_vec(),
            Self::Classify(_) => Classify {
                texts,
                ..Classify::default()
            }
            .encode_to_vec(),
        }
    }
}

/// Who waits for the answer, and the figures of the question.
pub(super) struct Asker {
    to: Responder,
    ticket: Ticket,
}

impl Asker {
    pub(super) fn new(request: Request, mut ticket: Ticket) -> Self {
        ticket.queued();
        Self {
            to: request.stream(),
            ticket,
        }
    }

    /// Nobody waits any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.to.is_cancelled()
    }

    /// Its turn has come.
    pub(super) fn has_turn(&mut self) {
        self.ticket.started();
    }

    /// So many tokens more were read, and others have their turn.
    pub(super) fn yielded(&mut self, tokens: u32) {
        self.ticket.read(tokens);
        self.ticket.yielded();
    }

    pub(super) fn fault(self, fault: Fault) {
        self.ticket.faulted(&fault.code);
        self.to.fault(fault);
    }
}

/// What has been answered of a question.
enum Answer {
    Embed(Embedded),
    Entities(FoundEntities),
    Classify(Classified),
}

/// A question in pieces: long texts with long ones, so that little is computed for filling.
pub(super) struct Pieces {
    ask: Ask,
    answer: Answer,
    /// Those that are not answered yet, the next ones last.
    left: Vec<usize>,
    /// Those that are being answered.
    now: Vec<usize>,
    /// Tokens of those that were answered last.
    tokens: u32,
}

impl Pieces {
    pub(super) fn new(ask: Ask, model: &str) -> Self {
        let count = ask.texts().len();
        let model = model.to_owned();
        let answer = match &ask {
            Ask::Embed(_) => Answer::Embed(Embedded {
                model,
                items: vec![Default::default(); count],
            }),
            Ask::Entities(_) => Answer::Entities(FoundEntities {
                model,
                items: vec![Default::default(); count],
            }),
            Ask::Classify(_) => Answer::Classify(Classified {
                model,
                items: vec![Default::default(); count],
            }),
        };
        let mut left: Vec<usize> = (0..count).collect();
        left.sort_by_key(|index| ask.texts()[*index].len());
        Self {
            ask,
            answer,
            left,
            now: Vec::new(),
            tokens: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.ask.kind()
    }

    /// The next piece; `None`: all is answered.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = 0;
        self.now.clear();
        while let Some(index) = self.left.last() {
            bytes += self.ask.texts()[*index].len();
            if self.now.len() >= PIECE || (bytes > PIECE_BYTES && !self.now.is_empty()) {
                break;
            }
            self.now.extend(self.left.pop());
        }
        (!self.now.is_empty()).then(|| self.ask.of(&self.now))
    }

    /// Takes the answer to the piece. False: it is none, or of another number of texts.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        fn put<T>(
            all: &mut [T],
            indexes: &[usize],
            items: Vec<T>,
            tokens: impl Fn(&T) -> u32,
        ) -> Option<u32> {
            let right = items.len() == indexes.len();
            let read = items.iter().map(tokens).fold(0, u32::saturating_add);
            for (index, item) in indexes.iter().zip(items) {
                all[*index] = item;
            }
            right.then_some(read)
        }
        let now = &self.now;
        let read = match &mut self.answer {
            Answer::Embed(all) => Embedded::decode(bytes)
                .ok()
                .and_then(|piece| put(&mut all.items, now, piece.items, |item| item.tokens)),
            Answer::Entities(all) => FoundEntities::decode(bytes)
                .ok()
                .and_then(|piece| put(&mut all.items, now, piece.items, |item| item.tokens)),
            Answer::Classify(all) => Classified::decode(bytes)
                .ok()
                .and_then(|piece| put(&mut all.items, now, piece.items, |item| item.tokens)),
        };
        self.tokens = read.unwrap_or(0);
        read.is_some()
    }

    /// Tokens that were read for the piece that was taken last.
    pub(super) fn tokens(&self) -> u32 {
        self.tokens
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Hands the whole answer over.
    pub(super) fn reply(self, asker: Asker) {
        let Asker { to, mut ticket } = asker;
        ticket.read(self.tokens);
        ticket.done();
        match self.answer {
            Answer::Embed(all) => to.end(all),
            Answer::Entities(all) => to.end(all),
            Answer::Classify(all) => to.end(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use aico_contracts::v1::EmbeddedText;

    use super::*;

    #[test]
    fn pieces_come_together_in_the_order_of_the_texts() {
        let texts: Vec<String> = (0..70).map(|n| "x".repeat((n * 37) % 70)).collect();
        let ask = Ask::Embed(Embed {
            texts: texts.clone(),
            ..Embed::default()
        });
        let mut pieces = Pieces::new(ask, "m");
        let mut seen = 0;
        while let Some(piece) = pieces.next() {
            let piece = Embed::decode(&piece[..]).unwrap();
            seen += 1;
            assert!(piece.texts.len() <= PIECE);
            assert!(!pieces.take(b"nonsense"));
            assert!(!pieces.take(&Embedded::default().encode_to_vec()));
            let count = piece.texts.len() as u32;
            let items = piece.texts.iter().map(|text| EmbeddedText {
                vector: vec![text.len() as f32],
                tokens: 2,
                ..EmbeddedText::default()
            });
            let answer = Embedded {
                model: String::new(),
                items: items.collect(),
            };
            assert!(pieces.take(&answer.encode_to_vec()));
            assert_eq!(pieces.tokens(), 2 * count);
        }
        assert_eq!(seen, 3);
        let Answer::Embed(all) = pieces.answer else {
            unreachable!()
        };
        for (item, text) in all.items.iter().zip(&texts) {
            assert_eq!(item.vector, [text.len() as f32]);
        }
    }

    #[test]
    fn limits_are_told() {
        assert!(check(&vec![String::new(); MOST_TEXTS]).is_ok());
        assert!(check(&vec![String::new(); MOST_TEXTS + 1]).is_err());
        assert!(check(&["x".repeat(LONGEST_TEXT + 1)]).is_err());
        assert!(check(&vec!["x".repeat(LONGEST_TEXT); 17]).is_err());
    }
}
