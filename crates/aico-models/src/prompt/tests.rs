use super::*;
use crate::engine::ModelInfo;

/// One token a byte; `<end>` is a control token. With `joins`, a colon is one with the line break or
/// the space behind it.
struct Bytes {
    info: ModelInfo,
    marks: Vec<String>,
    joins: bool,
}

impl Vocabulary for Bytes {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn tokenize(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (index, part) in text.split("<end>").enumerate() {
            if index > 0 {
                tokens.push(Token(256));
            }
            for byte in part.bytes() {
                let colon = Token(i32::from(b':'));
                match byte {
                    b'\n' | b' ' if self.joins && tokens.last() == Some(&colon) => {
                        tokens.pop();
                        tokens.push(Token(300 + i32::from(byte)));
                    }
                    _ => tokens.push(Token(i32::from(byte))),
                }
            }
        }
        tokens
    }
    fn piece(&self, token: Token, out: &mut Vec<u8>) {
        out.extend(u8::try_from(token.0));
    }
    fn size(&self) -> usize {
        257
    }
    fn is_control(&self, token: Token) -> bool {
        token.0 == 256
    }
    fn opens_thinking(&self) -> Option<Token> {
        None
    }
    fn call_mark(&self, _token: Token) -> Option<&'static str> {
        None
    }
    fn ends(&self, token: Token) -> bool {
        token.0 == 256
    }
    fn begin(&self) -> Option<Token> {
        Some(Token(257))
    }
    fn marks(&self) -> &[String] {
        &self.marks
    }
}

fn language() -> Language {
    language_that(false)
}

fn language_that(joins: bool) -> Language {
    let info = ModelInfo {
        template: Some(
            "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<end>{% endfor %}a:".into(),
        ),
        begin_text: String::new(),
        end_text: String::new(),
        trained_context: 0,
        longest_piece: 1,
    };
    let marks = vec!["<end>".into()];
    Language::new(Arc::new(Bytes { info, marks, joins })).unwrap()
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

#[test]
fn what_is_a_characters_own_ends_before_the_persons_first_letter() {
    let language = language();
    let own = |turns: &[Turn], own_turns, context| {
        let asked = Asked {
            own_turns,
            ..Asked::default()
        };
        let prompt = language.prompt_for(turns, &asked, 16, context).unwrap();
        text(&prompt)[..prompt.own].to_owned()
    };
    let told = |said: &str| {
        let mut turns = conversation(1);
        turns[3].text = said.to_owned();
        turns
    };
    // With what is asked, and with one letter of what it is compared with.
    for said in ["last", "a", "1", "a1", "", "\n\n", " "] {
        assert_eq!(own(&told(said), 1, 200), "|s:S|u:", "{said}");
        assert_eq!(own(&told(said), 3, 200), "|s:S|u:q000|a:r000|u:", "{said}");
        assert_eq!(own(&told(said), 0, 200), "");
    }
    // Where the examples had to go, nothing is: what is shared tells of no conversation's length.
    assert_eq!(own(&told("q000"), 3, 14 + 16 + 3), "");
    // There has to be something else.
    assert_eq!(own(&told("last"), 4, 200), "");
    assert_eq!(own(&told("last"), 5, 200), "");
}

#[test]
fn how_much_is_a_characters_own_tells_nothing_of_what_is_said() {
    let language = language_that(true);
    let own = |said: &str| {
        let mut turns = conversation(1);
        turns[3].text = said.to_owned();
        let asked = Asked {
            own_turns: 3,
            ..Asked::default()
        };
        let prompt = language.prompt_for(&turns, &asked, 16, 200).unwrap();
        prompt.own
    };
    let all = ["last", "", "\n", "\nlast", " last"].map(own);
    assert_eq!(all, ["|s:S|u:q000|a:r000|u".len(); 5]);
}
