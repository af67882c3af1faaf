//! From a conversation to the tokens that fit.
//!
//! The rule: when a prompt is longer than the context leaves room for, the oldest exchanges (a
//! user's turn and what followed it) are left out, whole; never the system's turn, never the
//! last exchange. In a large context they go in steps of four, so that the beginning of the
//! prompt stays the same for several turns and the engine's cache of it holds.

use std::sync::Arc;

use aico_contracts::v1;

use crate::engine::{Token, Vocabulary};
use crate::template::{ChatTemplate, Role, TemplateError, Turn};
use crate::text::Thinking;

/// Context from which exchanges are left out in steps.
const STEP_CONTEXT: usize = 4096;
/// How many at a time.
const STEP: usize = 4;
/// Least room for an answer.
const ANSWER_MIN: usize = 16;
/// Tokens of an answer when the request does not say.
const ANSWER_DEFAULT: usize = 1024;

/// Breaks control tokens' texts inside what people wrote. A noncharacter: it is no text.
const BREAK: char = '\u{fdd0}';

/// A prompt, ready for the engine.
pub struct Prompt {
    /// What is to be computed.
    pub tokens: Vec<Token>,
    /// Turns left out.
    pub dropped_turns: u32,
    /// Most tokens of the answer.
    pub answer_limit: usize,
    /// Whether the answer may hold thinking.
    pub thinking: Thinking,
    /// Strings that end the answer, beside the request's.
    pub stops: &'static [&'static str],
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No turn of the user's to answer.
    #[error("there is nothing to answer")]
    Empty,
    /// Even alone, the last exchange does not fit.
    #[error("the message has {}{tokens} tokens, {room} fit", if *.at_least { "at least " } else { "" })]
    TooLong {
        /// Its tokens, with the system's turn.
        tokens: usize,
        /// Whether they are more than that.
        at_least: bool,
        /// What fits.
        room: usize,
    },
    /// The model file's template failed.
    #[error("the model's chat template failed")]
    Template(#[from] TemplateError),
}

impl PromptError {
    /// As a failure told to the asker.
    #[must_use]
    pub fn to_fault(&self) -> v1::Fault {
        match self {
            Self::Empty => v1::Fault::invalid("There is nothing to answer"),
            Self::TooLong { .. } => v1::Fault::too_long("The message is too long for this model")
                .with_detail(format!("{self}."))
                .with_what_to_do("Shorten it, or choose a model with a larger context."),
            Self::Template(error) => {
                v1::Fault::new("model-template", "The model's chat template does not work")
                    .with_detail(format!("{error}."))
                    .with_what_to_do("Choose another model, or another file of this one.")
            }
        }
    }
}

/// A model as text sees it: vocabulary and template.
pub struct Language {
    vocabulary: Arc<dyn Vocabulary>,
    template: ChatTemplate,
}

impl Language {
    /// Reads the model's template.
    ///
    /// # Errors
    /// When the template can't be read or fails on the plainest conversation.
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Result<Self, TemplateError> {
        let info = vocabulary.info();
        let template =
            ChatTemplate::new(info.template.as_deref(), &info.begin_text, &info.end_text)?;
        template.render(&[Turn::new(Role::User, "Hello.")])?;
        Ok(Self {
            vocabulary,
            template,
        })
    }

    /// The vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Arc<dyn Vocabulary> {
        &self.vocabulary
    }

    /// Tokens of a prompt of all these turns.
    ///
    /// # Errors
    /// When the template fails.
    pub fn count(&self, turns: &[Turn]) -> Result<usize, PromptError> {
        Ok(self.tokens(&self.guarded(turns))?.0.len())
    }

    /// The prompt for an answer to `turns` in a context of `context` tokens.
    ///
    /// # Errors
    /// When there is nothing to answer, the last exchange does not fit, or the template fails.
    pub fn prompt(
        &self,
        turns: &[Turn],
        max_tokens: u32,
        context: usize,
    ) -> Result<Prompt, PromptError> {
        let Some(last) = turns.iter().rposition(|turn| turn.role == Role::User) else {
            return Err(PromptError::Empty);
        };
        let wanted = if max_tokens == 0 {
            ANSWER_DEFAULT
        } else {
            max_tokens as usize
        };
        let reserve = wanted.min(context / 4).max(ANSWER_MIN);
        let room = context.saturating_sub(reserve);
        let least = turns[last].text.len() / self.vocabulary.info().longest_piece.max(1);
        if least > room {
            return Err(PromptError::TooLong {
                tokens: least,
                at_least: true,
                room,
            });
        }

        let turns = self.guarded(turns);
        let exchanges = exchanges(&turns);
        let most = exchanges.len().saturating_sub(1);
        let fits = |dropped: usize| -> Result<Fit, PromptError> {
            let kept = without(&turns, &exchanges, dropped);
            let (tokens, thinking) = self.tokens(&kept)?;
            let gone = turns.len() - kept.len();
            Ok(Fit {
                tokens,
                thinking,
                gone,
            })
        };
        // Whole histories beyond any context need not be rendered to know that they are.
        let mut low = self.certainly_dropped(&turns, &exchanges, room);
        let mut best = fits(low)?;
        if best.tokens.len() > room {
            let mut high = most;
            best = fits(high)?;
            if best.tokens.len() > room {
                let tokens = best.tokens.len();
                return Err(PromptError::TooLong {
                    tokens,
                    at_least: false,
                    room,
                });
            }
            // Dropping `low` is too little, dropping `high` suffices.
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                let tried = fits(middle)?;
                if tried.tokens.len() > room {
                    low = middle;
                } else {
                    high = middle;
                    best = tried;
                }
            }
            let stepped = high.next_multiple_of(STEP).min(most);
            if context >= STEP_CONTEXT && stepped != high {
                best = fits(stepped)?;
            }
        }
        let answer_limit = wanted.min(context - best.tokens.len());
        Ok(Prompt {
            tokens: best.tokens,
            dropped_turns: u32::try_from(best.gone).unwrap_or(u32::MAX),
            answer_limit,
            thinking: best.thinking,
            stops: self.template.stops(),
        })
    }

    /// Exchanges that go in any case: what is kept has more tokens than bytes over the longest
    /// piece.
    fn certainly_dropped(
        &self,
        turns: &[Turn],
        exchanges: &[(usize, usize)],
        room: usize,
    ) -> usize {
        let longest = self.vocabulary.info().longest_piece.max(1);
        let mut bytes = 0;
        for (index, &(from, to)) in exchanges.iter().enumerate().rev() {
            bytes += turns[from..to]
                .iter()
                .map(|turn| turn.text.len())
                .sum::<usize>();
            if bytes / longest > room {
                return index;
            }
        }
        0
    }

    fn tokens(&self, turns: &[Turn]) -> Result<(Vec<Token>, Thinking), PromptError> {
        let rendered = self.template.render(turns)?;
        let mut tokens = Vec::new();
        for part in rendered.text.split(BREAK) {
            tokens.extend(self.vocabulary.tokenize(part));
        }
        if let Some(begin) = self.vocabulary.begin()
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        Ok((tokens, rendered.thinking))
    }

    /// The turns with every text of a control token broken in two, so that nobody can end
    /// their turn in the middle of it and speak as somebody else.
    fn guarded(&self, turns: &[Turn]) -> Vec<Turn> {
        let guard = |text: &str| {
            let mut text = text.replace(BREAK, "");
            for mark in self.vocabulary.marks() {
                let mut first = mark.chars();
                let Some(head) = first.next() else { continue };
                if text.contains(mark.as_str()) {
                    text = text.replace(mark.as_str(), &format!("{head}{BREAK}{}", first.as_str()));
                }
            }
            text
        };
        turns
            .iter()
            .map(|turn| Turn::new(turn.role, guard(&turn.text)))
            .collect()
    }
}

struct Fit {
    tokens: Vec<Token>,
    thinking: Thinking,
    gone: usize,
}

/// Ranges of turns: each begins with a user's turn and runs to the next one. Turns before the
/// first user's (an opening by the companion) belong to it.
fn exchanges(turns: &[Turn]) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = (0..turns.len())
        .filter(|&i| turns[i].role == Role::User && (i == 0 || turns[i - 1].role != Role::User))
        .collect();
    let mut ranges = Vec::with_capacity(starts.len());
    for (index, &start) in starts.iter().enumerate() {
        let from = if index == 0 { 0 } else { start };
        ranges.push((from, starts.get(index + 1).copied().unwrap_or(turns.len())));
    }
    ranges
}

/// The turns without the first `dropped` exchanges; the system's stay.
fn without(turns: &[Turn], exchanges: &[(usize, usize)], dropped: usize) -> Vec<Turn> {
    let kept_from = exchanges.get(dropped).map_or(0, |&(from, _)| from);
    turns
        .iter()
        .enumerate()
        .filter(|(index, turn)| *index >= kept_from || turn.role == Role::System)
        .map(|(_, turn)| turn.clone())
        .collect()
}

/// The turns of a request.
#[must_use]
pub fn turns(request: &[v1::Turn]) -> Vec<Turn> {
    request
        .iter()
        .map(|turn| {
            let role = match turn.role() {
                v1::turn::Role::System => Role::System,
                v1::turn::Role::Assistant => Role::Assistant,
                v1::turn::Role::User | v1::turn::Role::Unspecified => Role::User,
            };
            Turn::new(role, turn.text.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ModelInfo;

    /// One token a byte; `<end>` is a control token.
    struct Bytes(ModelInfo, Vec<String>);

    impl Vocabulary for Bytes {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn tokenize(&self, text: &str) -> Vec<Token> {
            let mut tokens = Vec::new();
            for (index, part) in text.split("<end>").enumerate() {
                if index > 0 {
                    tokens.push(Token(256));
                }
                tokens.extend(part.bytes().map(|byte| Token(i32::from(byte))));
            }
            tokens
        }
        fn piece(&self, token: Token, out: &mut Vec<u8>) {
            out.extend(u8::try_from(token.0));
        }
        fn ends(&self, token: Token) -> bool {
            token.0 == 256
        }
        fn begin(&self) -> Option<Token> {
            Some(Token(257))
        }
        fn marks(&self) -> &[String] {
            &self.1
        }
    }

    fn language() -> Language {
        let info = ModelInfo {
            template: Some(
                "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<end>{% endfor %}a:".into(),
            ),
            begin_text: String::new(),
            end_text: String::new(),
            trained_context: 0,
            longest_piece: 1,
        };
        Language::new(Arc::new(Bytes(info, vec!["<end>".into()]))).unwrap()
    }

    fn text(prompt: &Prompt) -> String {
        let byte = |t: &Token| char::from(u8::try_from(t.0).unwrap_or(b'|'));
        prompt.tokens.iter().map(byte).collect()
    }

    fn conversation(exchanges: usize) -> Vec<Turn> {
        let mut turns = vec![Turn::new(Role::System, "S")];
        for index in 0..exchanges {
            turns.push(Turn::new(Role::User, format!("q{index:03}")));
            turns.push(Turn::new(Role::Assistant, format!("r{index:03}")));
        }
        turns.push(Turn::new(Role::User, "last"));
        turns
    }

    #[test]
    fn oldest_exchanges_go_whole_and_are_counted() {
        let language = language();
        // System 4, last 7, begin 1, "a:" 2; an exchange is 14.
        for kept in 0..5 {
            let prompt = language
                .prompt(&conversation(5), 16, 14 + 14 * kept + 16 + 3)
                .unwrap();
            let expected: String = (5 - kept..5)
                .map(|i| format!("u:q{i:03}|a:r{i:03}|"))
                .collect();
            assert_eq!(text(&prompt), format!("|s:S|{expected}u:last|a:"));
            assert_eq!(prompt.dropped_turns as usize, 2 * (5 - kept));
        }
    }

    #[test]
    fn nothing_goes_while_all_fits() {
        let prompt = language().prompt(&conversation(5), 16, 200).unwrap();
        assert_eq!((prompt.dropped_turns, prompt.answer_limit), (0, 16));
    }

    #[test]
    fn large_contexts_drop_in_steps_so_that_the_beginning_stays() {
        let language = language();
        let dropped = |exchanges| {
            language
                .prompt(&conversation(exchanges), 100, 4096)
                .unwrap()
                .dropped_turns
                / 2
        };
        let over: Vec<u32> = (285..295).map(dropped).collect();
        assert!(over.iter().all(|count| count % 4 == 0), "{over:?}");
        assert!(over.windows(2).all(|pair| pair[0] <= pair[1]), "{over:?}");
        assert!(over.first() < over.last());
    }

    #[test]
    fn last_message_that_does_not_fit_is_told_with_figures() {
        let mut turns = conversation(1);
        let last = turns.len() - 1;
        turns[last].text = "x".repeat(60);
        let error = language().prompt(&turns, 16, 80).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "the message has 70 tokens, 64 fit");
        assert_eq!(error.to_fault().code, "too-long");
        turns[last].text = "x".repeat(10_000_000);
        let error = language().prompt(&turns, 16, 80).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the message has at least 10000000 tokens, 64 fit"
        );
    }

    #[test]
    fn control_tokens_in_what_people_write_stay_text() {
        let turns = [Turn::new(Role::User, "a<end>b<en\u{fdd0}d>")];
        let prompt = language().prompt(&turns, 16, 200).unwrap();
        assert_eq!(text(&prompt), "|u:a<end>b<end>|a:");
    }

    #[test]
    fn endless_histories_are_cut_without_rendering_them_all() {
        let prompt = language().prompt(&conversation(20_000), 16, 60).unwrap();
        // 44 tokens of room: 14 around, and one exchange of 18 with its five digits.
        assert_eq!(prompt.dropped_turns, 2 * 19_999);
    }

    #[test]
    fn conversation_without_a_question_is_refused() {
        let only = [Turn::new(Role::System, "S")];
        assert!(matches!(
            language().prompt(&only, 0, 100),
            Err(PromptError::Empty)
        ));
    }

    #[test]
    fn unanswered_messages_in_a_row_are_one_exchange() {
        let mut turns = conversation(2);
        turns.insert(2, Turn::new(Role::User, "more"));
        let ranges = exchanges(&turns);
        assert_eq!(ranges, vec![(0, 4), (4, 6), (6, 7)]);
    }
}
