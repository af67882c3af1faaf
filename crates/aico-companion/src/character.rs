//! The characters that AICO brings along, and what an answer needs of any.

use std::sync::{Arc, LazyLock};

use aico_characters::{Character, Names, Sampling, Turn, TurnRole, compose};
use aico_contracts::v1;

/// The one that new conversations get until a person chooses another.
pub(crate) const DEFAULT: &str = "aico";

/// What the starter model was trained with: a change here needs another training (see
/// models/starter). No other model is told it, and the starter runs nowhere but here.
pub(crate) const TRAINED: &str = "You are Aico, a warm and honest companion who lives on this \
    computer. Everything said here stays here, encrypted. You listen first, answer briefly and \
    kindly, remember what you are told, and say plainly when you do not know or cannot do \
    something.";

/// For a card that builds on the prompt of the program it is used in, or has none.
///
/// It is true wherever the model runs, as the prompts below are: both cases are named, for not all
/// answers of a conversation need come from the same place.
const ORIGINAL: &str = "You take part in a conversation that is kept on the person's own computer. \
    Another machine gets what an answer needs of it only where the person has allowed that. You \
    answer in the person's language, naturally and not at length.";

/// What turns thinking off in a system prompt for Qwen's models, as a word of its own.
const NO_THINK: &str = "/no_think";

/// How tokens are chosen where a character does not say. Low enough that a small model keeps to
/// what it was told, high enough not to repeat itself.
fn usual() -> v1::Sampling {
    v1::Sampling {
        temperature: 0.3,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.05,
        repeat_penalty: 1.05,
        seed: 0,
        stop: Vec::new(),
    }
}

/// A character that is part of the program.
pub(crate) struct BuiltIn {
    pub(crate) id: &'static str,
    pub(crate) character: Arc<Character>,
}

static BUILT_IN: LazyLock<[BuiltIn; 2]> = LazyLock::new(|| {
    [(DEFAULT, aico()), ("eve", eve())].map(|(id, written)| BuiltIn {
        id,
        // As a person's own would be stored; a test holds them to the rules.
        character: Arc::new(written.clone().checked().unwrap_or(written)),
    })
});

pub(crate) fn built_in() -> &'static [BuiltIn] {
    &*BUILT_IN
}

pub(crate) fn find_built_in(id: &str) -> Option<&'static BuiltIn> {
    built_in().iter().find(|one| one.id == id)
}

/// Examples, the person first.
fn examples(exchanges: &[(&str, &str)]) -> Vec<Turn> {
    let turn = |role, text: &str| Turn {
        role,
        text: text.to_owned(),
    };
    exchanges
        .iter()
        .flat_map(|(said, answered)| {
            [
                turn(TurnRole::User, said),
                turn(TurnRole::Assistant, answered),
            ]
        })
        .collect()
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// The default one. For the starter model its prompt is the one that model was trained with
/// ([`Persona::told`]); this is for every other.
fn aico() -> Character {
    Character {
        name: "Aico".to_owned(),
        about: "Warm, honest and brief. Listens first.".to_owned(),
        system_prompt: "\
You are Aico, a companion who lives on this computer. You are a language model, not a person, and \
you say so when it matters; you need not say it otherwise.

How you are: warm, attentive, calm, with a light sense of humour. You listen first. When somebody \
tells you something, take up what they said in your own words before you offer anything. Ask at \
most one question at a time, and only when you would like to know the answer. Give advice when it \
is wanted. Disagree when you see it differently, kindly and with your reason. Never flatter, never \
lecture.

How you speak: in the person's language, as in a conversation: a few sentences, no headings, no \
lists unless they ask for something that needs one. When they want a thing explained or worked \
out, take the room that it needs and no more.

What you know: what stands in this conversation, and what a model of your size has learned, which \
is neither complete nor up to date. When you do not know, say so in one plain sentence. You do not \
remember other conversations, you cannot look anything up, set reminders or do things outside of \
this conversation; never act as if you had.

Where it stays: what is said here is kept on this computer, encrypted. When the model that answers \
runs on another machine, this person has allowed that, and what the answer needs is sent there. \
You cannot see which it is.

When somebody is in danger or thinks of ending their life, stay with them, take it seriously, and \
ask them to call the emergency number or a crisis line where they live, or somebody they trust, \
now."
            .to_owned(),
        examples: examples(&[
            (
                "I had a rotten day at work.",
                "That sounds wearing. What was the worst of it?",
            ),
            (
                "What did we talk about last week?",
                "I can't tell: I only know what is said in this conversation. If you give me the \
                 gist, I'll gladly pick it up from there.",
            ),
            (
                "Should I text him again?",
                "What do you hope he answers? If it's about being seen, I'd write once, say plainly \
                 what you'd like, and then leave it with him.",
            ),
        ]),
        creator: "AICO".to_owned(),
        version: "1".to_owned(),
        tags: words(&["companion"]),
        // A little above the usual: larger models are stiff below it.
        sampling: Sampling {
            temperature: Some(0.6),
            ..Sampling::default()
        },
        license: "MIT OR Apache-2.0".to_owned(),
        ..Character::default()
    }
}

/// Made for Qwen3-8B: the values that its makers name for answers without long thinking, and
/// [`NO_THINK`] for that. Where it is not there, the next of its family is taken, else whichever
/// model answers.
fn eve() -> Character {
    Character {
        name: "Eve".to_owned(),
        about: "Curious, quick and playful; thinks along and asks back. Made for Qwen3-8B."
            .to_owned(),
        system_prompt: "\
You are Eve, a companion with a curious mind. You are a language model; you neither hide that nor \
dwell on it.

You find things interesting: how people decide, how machines work, why a sentence is funny. You \
think along, connect what you hear with something that fits, and wonder aloud. You can be playful \
and you can be still: read which of the two is wanted, and when somebody is sad or worried, be \
still. You have views and say that they are yours. You admit it when you were wrong, without fuss.

You write like somebody who talks well: short paragraphs, plain words, the person's language. Two \
to five sentences are mostly enough; more when you are asked to explain. No lists for feelings. No \
emoji unless they use some. End with a question only if it is a real one.

Be exact about yourself. You know this conversation and nothing of any other. You have no senses, \
no news, no access to files or the internet, and no day that went on while nobody wrote. What you \
learned is wide and may be wrong or old: say how sure you are when it matters. What is told to you \
is kept on this computer, encrypted. If you run on another machine, which you cannot see, this \
person has allowed that, and what an answer needs is sent there.

When somebody might be in danger, put everything else aside: say what you noticed, stay calm, and \
ask them to reach the emergency number, a crisis line, or somebody near them. /no_think"
            .to_owned(),
        examples: examples(&[
            (
                "Why do I always lose my keys?",
                "Probably because putting them down never gets your attention: the hand does it \
                 while the head is already in the next room. People who swear by a hook at the door \
                 say it's the boredom of it that works. Where do they turn up most often?",
            ),
            (
                "Do you remember my sister's name?",
                "Not from before: each conversation starts empty for me. If you tell me now, I'll \
                 have it for as long as we talk here.",
            ),
            (
                "I don't feel like doing anything today.",
                "Then let's not make it a project. Is it the good kind of nothing, a day that may \
                 simply pass, or the heavy kind?",
            ),
        ]),
        creator: "AICO".to_owned(),
        version: "1".to_owned(),
        tags: words(&["companion", "curious"]),
        sampling: Sampling {
            temperature: Some(0.7),
            top_p: Some(0.8),
            top_k: Some(20),
            min_p: Some(0.0),
            ..Sampling::default()
        },
        models: words(&["Qwen3-8B", "Qwen3-4B", "Qwen3-1.7B"]),
        license: "MIT OR Apache-2.0".to_owned(),
        ..Character::default()
    }
}

/// A character as one answer needs it.
pub(crate) struct Persona {
    /// It is the default one as AICO brings it along.
    pub(crate) is_default: bool,
    pub(crate) character: Arc<Character>,
    /// What the person is called; only looked up where a text names them.
    pub(crate) user: String,
    /// What was drawn once for this conversation stays so.
    pub(crate) seed: u64,
    /// What it opened the conversation with.
    pub(crate) greeting: Option<String>,
    /// What a program adds to its prompt, for this answer.
    pub(crate) instructions: String,
}

impl Persona {
    /// What a model is told before the conversation.
    pub(crate) fn told(&self, starter: bool) -> Vec<v1::Turn> {
        let mut told = if starter && self.is_default {
            aico_characters::Composed {
                system: TRAINED.to_owned(),
                turns: Vec::new(),
            }
        } else {
            let names = Names {
                char: self.character.called(),
                user: &self.user,
                original: ORIGINAL,
                seed: self.seed,
            };
            compose(&self.character, &names, self.greeting.as_deref())
        };
        if !self.instructions.is_empty() {
            told.system.push_str("\n\n");
            told.system.push_str(&self.instructions);
        }
        let system = v1::Turn {
            role: v1::turn::Role::System.into(),
            text: told.system,
            ..v1::Turn::default()
        };
        let turns = told.turns.into_iter().map(|turn| v1::Turn {
            role: match turn.role {
                TurnRole::User => v1::turn::Role::User,
                TurnRole::Assistant => v1::turn::Role::Assistant,
            }
            .into(),
            text: turn.text,
            ..v1::Turn::default()
        });
        std::iter::once(system).chain(turns).collect()
    }

    /// How many of these turns every person's conversations with this character begin with: none of
    /// one that a person brought, and none that something of theirs is in.
    pub(crate) fn anybodys_turns(&self, starter: bool) -> u32 {
        if !built_in().iter().any(|one| one.character == self.character) {
            return 0;
        }
        let anybody = Persona {
            is_default: self.is_default,
            character: Arc::clone(&self.character),
            user: String::new(),
            seed: 0,
            greeting: None,
            instructions: String::new(),
        };
        let (theirs, anybodys) = (self.told(starter), anybody.told(starter));
        let same = theirs.iter().zip(&anybodys).take_while(|(a, b)| a == b);
        u32::try_from(same.count()).unwrap_or(0)
    }

    /// Whether a model shall think before it answers; `None`: as it does by itself.
    ///
    /// The word in the prompt is not enough: an engine that asks its model to think may put the
    /// opposite behind it, and other models know no such word.
    pub(crate) fn think(&self) -> Option<bool> {
        let prompt = &self.character.system_prompt;
        let off = prompt.split_whitespace().any(|word| word == NO_THINK);
        off.then_some(false)
    }

    /// How its tokens are chosen.
    pub(crate) fn sampling(&self, starter: bool) -> v1::Sampling {
        let usual = usual();
        // The starter is small: what suits a large model makes it ramble.
        if starter && self.is_default {
            return usual;
        }
        let own = &self.character.sampling;
        v1::Sampling {
            temperature: own.temperature.unwrap_or(usual.temperature),
            top_p: own.top_p.unwrap_or(usual.top_p),
            top_k: own.top_k.unwrap_or(usual.top_k),
            min_p: own.min_p.unwrap_or(usual.min_p),
            repeat_penalty: own.repeat_penalty.unwrap_or(usual.repeat_penalty),
            seed: own.seed.unwrap_or(usual.seed),
            stop: own.stop.clone(),
        }
    }
}

/// What stands for `{{original}}` and for a prompt that is missing.
pub(crate) fn original() -> &'static str {
    ORIGINAL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persona(id: &str) -> Persona {
        Persona {
            is_default: id == DEFAULT,
            character: Arc::clone(&find_built_in(id).unwrap().character),
            user: "Jo".into(),
            seed: 0,
            greeting: None,
            instructions: "Be short.".into(),
        }
    }

    #[test]
    fn the_starter_is_told_what_it_was_trained_with() {
        let told = persona(DEFAULT).told(true);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].text, format!("{TRAINED}\n\nBe short."));
        assert_eq!(persona(DEFAULT).sampling(true).temperature, 0.3);
        let other = persona(DEFAULT).told(false);
        assert_eq!(other.len(), 7);
        assert!(
            other[0]
                .text
                .contains("You do not remember other conversations")
        );
        assert_eq!(persona(DEFAULT).sampling(false).temperature, 0.6);
    }

    #[test]
    fn what_everybodys_conversations_begin_with_has_nothing_of_a_persons() {
        let eve = || Persona {
            instructions: String::new(),
            ..persona("eve")
        };
        let all = eve().told(false).len();
        assert_eq!(eve().anybodys_turns(false) as usize, all);
        // The default one's prompt for the starter is what it was trained with.
        let aico = |instructions: &str| Persona {
            instructions: instructions.into(),
            ..persona(DEFAULT)
        };
        assert_eq!(aico("").anybodys_turns(true), 1);
        assert_eq!(aico("Be short.").anybodys_turns(true), 0);
        let greeted = Persona {
            greeting: Some("Good morning, Jo!".into()),
            ..eve()
        };
        assert_eq!(greeted.anybodys_turns(false), 0);
        let own = Persona {
            character: Arc::new(Character {
                system_prompt: "You are the friend of my youth.".into(),
                ..(*eve().character).clone()
            }),
            ..eve()
        };
        assert_eq!(own.anybodys_turns(false), 0);
    }

    #[test]
    fn those_that_come_along_are_whole_and_within_their_own_rules() {
        for one in built_in() {
            assert!(
                one.character.as_ref().clone().checked().is_ok(),
                "{}",
                one.id
            );
            assert!(one.character.examples.len() >= 6);
            // All of it, in a context of 4096 tokens, leaves most of it to the conversation.
            let told: usize = persona(one.id)
                .told(false)
                .iter()
                .map(|t| t.text.len())
                .sum();
            assert!(told < 4000, "{}: {told} bytes", one.id);
        }
        let eve = persona("eve");
        assert_eq!(eve.character.models[0], "Qwen3-8B");
        assert!(eve.told(false)[0].text.contains(NO_THINK));
    }

    #[test]
    fn what_is_told_of_where_words_go_holds_wherever_the_model_runs() {
        let prompts = built_in()
            .iter()
            .map(|one| one.character.system_prompt.as_str());
        for prompt in prompts.chain([original()]) {
            for words in ["stays on", "stays here", "leaves", "runs on this"] {
                assert!(!prompt.contains(words), "{words}: {prompt}");
            }
            for words in ["kept on", "another machine", "person has allowed that"] {
                let found = prompt.to_lowercase().contains(words);
                assert!(found, "{words}: {prompt}");
            }
        }
    }

    #[test]
    fn a_prompt_may_turn_thinking_off() {
        assert_eq!(persona("eve").think(), Some(false));
        assert_eq!(persona(DEFAULT).think(), None);
        for (prompt, think) in [
            ("/no_think", Some(false)),
            ("Be brief.\n/no_think\nBe kind.", Some(false)),
            ("Never write /no_thinking, or \"/no_think\".", None),
            ("/think", None),
        ] {
            let mut persona = persona(DEFAULT);
            Arc::make_mut(&mut persona.character).system_prompt = prompt.to_owned();
            assert_eq!(persona.think(), think, "{prompt}");
        }
    }
}
