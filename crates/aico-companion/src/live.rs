//! Answers that stream now.
//!
//! What an answer says so far is here before it is in the store, so that somebody who joins in
//! the middle sees all of it. Text and index change under one lock in which the delta is also
//! published: a reader who got index n misses nothing and sees nothing twice.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aico_contracts::ids::{ConversationId, MessageId, PersonId};
use aico_contracts::v1::{self, part::Content};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// One answer in the making.
pub(crate) struct LiveAnswer {
    pub(crate) person: PersonId,
    pub(crate) conversation: ConversationId,
    pub(crate) id: MessageId,
    /// The person asked to stop.
    pub(crate) cancel: CancellationToken,
    said: Mutex<Said>,
    /// How it ended, while that is not in the store yet.
    unstored: OnceLock<v1::Message>,
}

#[derive(Default, Clone)]
struct Said {
    parts: Vec<Content>,
    next_index: u64,
}

impl LiveAnswer {
    pub(crate) fn new(person: PersonId, conversation: ConversationId, id: MessageId) -> Self {
        Self {
            person,
            conversation,
            id,
            cancel: CancellationToken::new(),
            said: Mutex::default(),
            unstored: OnceLock::new(),
        }
    }

    /// It has ended, but the end could not be stored yet: until then this is what is shown.
    pub(crate) fn end_unstored(&self, message: v1::Message) {
        let _once = self.unstored.set(message);
    }

    /// The end that waits to be stored.
    pub(crate) fn unstored(&self) -> Option<&v1::Message> {
        self.unstored.get()
    }

    /// Adds a piece and publishes it as the next delta.
    pub(crate) fn add(&self, piece: Content, publish: impl FnOnce(v1::AnswerDelta)) {
        let mut said = self.said.lock();
        let thinking = matches!(piece, Content::Thinking(_));
        let text = match (&piece, said.parts.last_mut()) {
            (Content::Text(new), Some(Content::Text(all)))
            | (Content::Thinking(new), Some(Content::Thinking(all))) => {
                all.push_str(new);
                new.clone()
            }
            (Content::Text(new) | Content::Thinking(new), _) => {
                let text = new.clone();
                said.parts.push(piece);
                text
            }
        };
        let index = said.next_index;
        said.next_index += 1;
        publish(v1::AnswerDelta {
            conversation: self.conversation.to_vec(),
            message: self.id.to_vec(),
            part: u32::try_from(said.parts.len() - 1).unwrap_or(u32::MAX),
            index,
            text,
            thinking,
        });
    }

    /// What was said so far, and the index of the delta that comes next.
    pub(crate) fn so_far(&self) -> (Vec<Content>, u64) {
        let said = self.said.lock().clone();
        (said.parts, said.next_index)
    }
}

/// All answers that stream now.
#[derive(Default)]
pub(crate) struct Live {
    answers: Mutex<HashMap<MessageId, Arc<LiveAnswer>>>,
}

impl Live {
    /// Begins an answer, unless one streams in this conversation already.
    pub(crate) fn begin(&self, answer: LiveAnswer) -> Option<Arc<LiveAnswer>> {
        let mut answers = self.answers.lock();
        let busy = answers.values().any(|other| {
            other.person == answer.person
                && other.conversation == answer.conversation
                && other.unstored().is_none()
        });
        if busy {
            return None;
        }
        let answer = Arc::new(answer);
        answers.insert(answer.id, Arc::clone(&answer));
        Some(answer)
    }

    pub(crate) fn end(&self, id: MessageId) {
        self.answers.lock().remove(&id);
    }

    /// The answer, if it streams and is this person's.
    pub(crate) fn get(&self, person: PersonId, id: MessageId) -> Option<Arc<LiveAnswer>> {
        self.answers
            .lock()
            .get(&id)
            .filter(|answer| answer.person == person)
            .cloned()
    }

    pub(crate) fn in_conversation(
        &self,
        person: PersonId,
        conversation: ConversationId,
    ) -> Option<Arc<LiveAnswer>> {
        let answers = self.answers.lock();
        let mut mine = answers.values().filter(|a| a.person == person);
        mine.find(|a| a.conversation == conversation).cloned()
    }

    pub(crate) fn of_person(&self, person: PersonId) -> Vec<Arc<LiveAnswer>> {
        self.answers
            .lock()
            .values()
            .filter(|a| a.person == person)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_kind_are_one_part_and_indices_count() {
        let answer = LiveAnswer::new(PersonId::new(), ConversationId::new(), MessageId::new());
        let mut seen = Vec::new();
        for piece in [
            Content::Thinking("hm ".into()),
            Content::Thinking("so".into()),
            Content::Text("Hel".into()),
            Content::Text("lo".into()),
        ] {
            answer.add(piece, |delta| {
                seen.push((delta.part, delta.index, delta.text))
            });
        }
        let expected = [(0, 0, "hm "), (0, 1, "so"), (1, 2, "Hel"), (1, 3, "lo")];
        assert_eq!(seen, expected.map(|(p, i, t)| (p, i, t.to_owned())));
        let (parts, next) = answer.so_far();
        assert_eq!((parts.len(), next), (2, 4));
        assert!(matches!(&parts[1], Content::Text(text) if text == "Hello"));
    }

    #[test]
    fn one_answer_at_a_time_in_a_conversation() {
        let (live, person, conversation) =
            (Live::default(), PersonId::new(), ConversationId::new());
        let new = || LiveAnswer::new(person, conversation, MessageId::new());
        let first = live.begin(new()).unwrap();
        assert!(live.begin(new()).is_none());
        assert!(
            live.get(PersonId::new(), first.id).is_none(),
            "somebody else's"
        );
        live.end(first.id);
        let second = live.begin(new()).unwrap();
        second.end_unstored(v1::Message::default());
        assert!(
            live.begin(new()).is_some(),
            "one that ended is no hindrance"
        );
    }
}
