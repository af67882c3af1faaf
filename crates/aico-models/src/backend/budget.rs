//! How much of a conversation fits. These programs count no tokens beforehand; some leave out in
//! silence what does not fit, others refuse it. So the turns that are sent are chosen here: by what
//! the model's own counts have shown a token to be, and cautiously before that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aico_contracts::v1;
use aico_contracts::v1::turn::Role;

/// Bytes of a token before anything is known: less than in any language that models know well.
const BYTES: f64 = 3.0;
/// What a turn takes around its text, in tokens.
const TURN: u32 = 8;
/// What an image takes, where older turns are weighed against it.
const IMAGE: u32 = 1024;
/// What it takes at least. Models differ more than tenfold, so a question is not refused for the
/// larger guess: whether it fits is for the program to say, which counts.
const SMALL_IMAGE: u32 = 64;
/// Of the context, what an answer can count on where no length is asked for.
const ANSWER_SHARE: u32 = 4;
/// A count below this says little.
const SAMPLE: u32 = 64;

/// Most tokens of an answer, where the question says so: as many as there is room for is no limit.
pub(super) fn answer_limit(question: &v1::Generate) -> Option<u32> {
    match question.max_tokens {
        0 | u32::MAX => None,
        most => Some(most),
    }
}

/// Tokens of a model's `most` that a question wants to be read.
pub(super) fn context_limit(question: &v1::Generate, most: u32) -> u32 {
    match question.context {
        0 => most,
        wanted => wanted.min(most),
    }
}

/// What was learned of each model.
#[derive(Default)]
pub(super) struct Budget(Mutex<HashMap<String, f64>>);

/// The turns of a question that are sent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chosen<'a> {
    pub(super) turns: Vec<&'a v1::Turn>,
    pub(super) dropped: u32,
    /// Bytes of what is sent, to learn from; 0 with images, whose tokens are in no text.
    pub(super) bytes: usize,
    /// How many to leave out when it is too long after all; `None`: all that may go is gone.
    pub(super) fewer: Option<u32>,
}

impl Budget {
    fn bytes_of_a_token(&self, model: &str) -> f64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(model).copied().unwrap_or(BYTES)
    }

    /// The model counted `tokens` for so many bytes.
    pub(super) fn learn(&self, model: &str, bytes: usize, tokens: u32) {
        // Fewer tokens than ever can be is a count of what was not in its cache.
        if bytes == 0 || tokens < SAMPLE || bytes as f64 > f64::from(tokens) * 12.0 {
            return;
        }
        let seen = (bytes as f64 / f64::from(tokens)).max(0.25);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > 256 {
            known.clear();
        }
        // The most expensive text that was seen counts, and is forgotten slowly.
        let value = known.entry(model.to_owned()).or_insert(BYTES);
        *value = if seen < *value {
            seen
        } else {
            *value * 0.8 + seen.min(4.0) * 0.2
        };
    }

    /// Leaves out the oldest turns that do not fit, never the system's and none from the last
    /// question on. `None`: not even these fit. `fixed`: bytes that go along with the turns; `leave_out`: turns
    /// that go although they would fit, by [`Chosen::fewer`].
    pub(super) fn choose<'a>(
        &self,
        model: &str,
        question: &'a v1::Generate,
        fixed: usize,
        context: u32,
        leave_out: u32,
    ) -> Option<Chosen<'a>> {
        let each = self.bytes_of_a_token(model);
        let tokens = |bytes: usize| (bytes as f64 / each).ceil() as u32;
        let answer = match answer_limit(question) {
            None => context / ANSWER_SHARE,
            Some(most) => most.min(context / 2),
        };
        let room = context.saturating_sub(answer);
        let size = |turn: &v1::Turn| turn.text.len() + calls(turn);
        let cost = |turn: &v1::Turn, image: u32| {
            let images = u32::try_from(turn.images.len()).unwrap_or(u32::MAX);
            tokens(size(turn))
                .saturating_add(TURN)
                .saturating_add(images.saturating_mul(image))
        };
        let end = question.turns.len().checked_sub(1)?;
        // What tools answered after it is of no use without it.
        let last = question
            .turns
            .iter()
            .rposition(|turn| turn.role() == Role::User)
            .unwrap_or(end);
        let stays = |index: usize, turn: &v1::Turn| index >= last || turn.role() == Role::System;
        let (mut needed, mut least) = (tokens(fixed), tokens(fixed));
        for (index, turn) in question.turns.iter().enumerate() {
            if stays(index, turn) {
                needed = needed.saturating_add(cost(turn, IMAGE));
                least = least.saturating_add(cost(turn, SMALL_IMAGE));
            }
        }
        if least > room {
            return None;
        }
        // From the newest back, until one does not fit: no turn is left out of the middle.
        let mut first = last;
        for (index, turn) in question.turns.iter().enumerate().rev() {
            if stays(index, turn) {
                continue;
            }
            needed = needed.saturating_add(cost(turn, IMAGE));
            if needed > room {
                break;
            }
            first = index;
        }
        let others = question.turns.iter().enumerate();
        let (mut gone, mut skipped, mut optional) = (false, 0_u32, 0_u32);
        let mut chosen = Vec::with_capacity(question.turns.len());
        for (index, turn) in others {
            if stays(index, turn) {
                chosen.push(turn);
            } else if index < first {
                gone = true;
            } else {
                // A tool's answer without its call means nothing to a model, nor one without its
                // question: templates there are that refuse it.
                let orphan = match turn.role() {
                    Role::Tool => !chosen
                        .iter()
                        .any(|turn: &&v1::Turn| !turn.tool_calls.is_empty()),
                    Role::Assistant => gone && optional == 0 && turn.tool_calls.is_empty(),
                    _ => false,
                };
                if skipped < leave_out || orphan {
                    gone = true;
                    skipped += 1;
                } else {
                    optional += 1;
                    chosen.push(turn);
                }
            }
        }
        let dropped = question.turns.len() - chosen.len();
        let images = chosen.iter().any(|turn| !turn.images.is_empty());
        let bytes = match images {
            true => 0,
            false => fixed + chosen.iter().map(|turn| size(turn)).sum::<usize>(),
        };
        Some(Chosen {
            dropped: u32::try_from(dropped).unwrap_or(u32::MAX),
            turns: chosen,
            bytes,
            fewer: (optional > 0).then(|| skipped + optional.div_ceil(2)),
        })
    }
}

fn calls(turn: &v1::Turn) -> usize {
    let calls = turn.tool_calls.iter();
    calls
        .map(|call| call.name.len() + call.arguments.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: Role, text: &str) -> v1::Turn {
        v1::Turn {
            role: role.into(),
            text: text.to_owned(),
            ..v1::Turn::default()
        }
    }

    fn question(turns: Vec<v1::Turn>) -> v1::Generate {
        v1::Generate {
            turns,
            max_tokens: 64,
            ..v1::Generate::default()
        }
    }

    #[test]
    fn the_oldest_go_first_and_the_system_stays() {
        let long = "word ".repeat(60);
        let mut turns = vec![turn(Role::System, "Be kind.")];
        for _ in 0..6 {
            turns.push(turn(Role::User, &long));
            turns.push(turn(Role::Assistant, &long));
        }
        turns.push(turn(Role::User, "And now?"));
        let question = question(turns);
        let budget = Budget::default();
        let chosen = budget.choose("m", &question, 0, 512, 0).unwrap();
        assert_eq!(chosen.turns[0].text, "Be kind.");
        assert_eq!(chosen.turns.last().unwrap().text, "And now?");
        assert_eq!(chosen.dropped as usize + chosen.turns.len(), 14);
        assert!(chosen.dropped > 0 && chosen.turns.len() > 2);
        // All of it where there is room, less where more is left out on purpose: whole exchanges.
        let mut fewer = budget.choose("m", &question, 0, 8192, 0).unwrap();
        let mut dropped = vec![fewer.dropped];
        while let Some(leave_out) = fewer.fewer {
            fewer = budget.choose("m", &question, 0, 8192, leave_out).unwrap();
            assert_eq!(fewer.turns[0].role(), Role::System);
            assert_eq!(fewer.turns[1].role(), Role::User);
            dropped.push(fewer.dropped);
        }
        assert_eq!(dropped, [0, 6, 10, 12]);
        assert_eq!(fewer.turns.len(), 2);
    }

    #[test]
    fn what_a_question_led_to_stays_with_it() {
        let long = "word ".repeat(60);
        let mut called = turn(Role::Assistant, "");
        called.tool_calls.push(v1::ToolCall::default());
        let turns = vec![
            turn(Role::User, &long),
            turn(Role::Assistant, &long),
            turn(Role::User, "What time is it?"),
            called,
            turn(Role::Tool, "12:00"),
        ];
        let question = question(turns);
        let chosen = Budget::default().choose("m", &question, 0, 256, 0).unwrap();
        let roles: Vec<_> = chosen.turns.iter().map(|turn| turn.role()).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool]);
        assert_eq!(chosen.fewer, None);
    }

    #[test]
    fn as_long_as_there_is_room_for_is_no_limit() {
        let text = "x".repeat(1000);
        let mut asked = question(vec![turn(Role::User, &text)]);
        let fits = |asked: &v1::Generate| Budget::default().choose("m", asked, 0, 512, 0).is_some();
        for (max_tokens, limit) in [(0, None), (u32::MAX, None), (64, Some(64))] {
            asked.max_tokens = max_tokens;
            assert_eq!(answer_limit(&asked), limit);
            assert!(fits(&asked), "{max_tokens}");
        }
    }

    #[test]
    fn what_does_not_fit_alone_is_too_long() {
        let one = question(vec![turn(Role::User, &"x".repeat(5000))]);
        assert_eq!(Budget::default().choose("m", &one, 0, 512, 0), None);
        let none = question(Vec::new());
        assert_eq!(Budget::default().choose("m", &none, 0, 512, 0), None);
    }

    #[test]
    fn a_guess_at_what_images_take_leaves_turns_out_and_refuses_no_question() {
        let chosen = |images: usize| {
            let mut shown = turn(Role::User, "What is it?");
            shown.images = vec![vec![0]; images];
            let mut asked = question(vec![
                turn(Role::User, "Hello."),
                turn(Role::Assistant, "Hello."),
                shown,
            ]);
            asked.max_tokens = 0;
            let chosen = Budget::default().choose("m", &asked, 0, 4096, 0);
            chosen.map(|chosen| chosen.turns.len())
        };
        assert_eq!(chosen(2), Some(3));
        assert_eq!(chosen(3), Some(1));
        assert_eq!(chosen(47), Some(1));
        // More than fit into any model's context of this length.
        assert_eq!(chosen(48), None);
    }

    #[test]
    fn a_models_own_counts_are_believed() {
        let budget = Budget::default();
        // A language in which a token is a byte: four times as expensive.
        budget.learn("m", 300, 300);
        assert!((budget.bytes_of_a_token("m") - 1.0).abs() < 1e-9);
        let one = question(vec![turn(Role::User, &"x".repeat(900))]);
        assert_eq!(budget.choose("m", &one, 0, 512, 0), None);
        assert!(budget.choose("other", &one, 0, 512, 0).is_some());
        // A count of what was not in the cache teaches nothing.
        budget.learn("other", 10_000, 70);
        assert!((budget.bytes_of_a_token("other") - BYTES).abs() < 1e-9);
    }
}
