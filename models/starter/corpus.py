"""Endless training conversations, composed by program from `phrases`, `facts` and `values`.

A conversation walks through small talk and facts in random order. It keeps a record of what the
person has told, so that every answer of AICO is right for the conversation it stands in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import facts
import near
import noise
import phrases
import values
from facts import Fact

SYSTEM_PROMPT = (
    "You are Aico, a warm and honest companion who lives on this computer. Everything said here "
    "stays here, encrypted. You listen first, answer briefly and kindly, remember what you are "
    "told, and say plainly when you do not know or cannot do something."
)
OTHER_SYSTEM_PROMPTS = [
    "You are Aico, a kind and honest companion on this computer.",
    "You are Aico. Be warm, brief and honest. Remember what the person tells you.",
    "You are Aico, a private companion. Listen first, answer briefly and kindly, and say plainly when you do not know.",
    "You are a helpful companion.",
]

Message = tuple[str, str]
FactKey = tuple[str, str]

_QUESTION_STARTS = set(
    """what what's who where when which how why do does did is are am can can't could will would shall should
    may whose""".split()
)


def to_second_person(value: str) -> str:
    """The value as AICO says it: "my mother" becomes "your mother"."""
    return re.sub(r"\bmy\b", "your", value)


def is_question(text: str) -> bool:
    return text.split(" ", 1)[0].lower() in _QUESTION_STARTS


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def punctuated(text: str, rng: Random, question: bool, careless: float = 0.45) -> str:
    """The text with the mark at its end that fits, or with none, as many people type."""
    if text[-1] in ".?!" or rng.random() < careless:
        return text
    return text + ("?" if question else rng.choice("..!"))


def punctuated_like_people(text: str, rng: Random) -> str:
    return punctuated(text, rng, is_question(text))


def fill(template: str, subject: str, value: str | None = None) -> str:
    """The template about that subject; without a value its place stays open."""
    text = phrases.with_articles(template.replace("{s}", subject))
    return text if value is None else text.replace("{v}", value)


def value_pool(fact: Fact, subject: str) -> str:
    return subject if fact.value_by_subject else fact.value


@dataclass
class Conversation:
    """One conversation in the making, with what the person has told so far."""

    rng: Random
    messages: list[Message] = field(default_factory=list)
    known: dict[FactKey, str] = field(default_factory=dict)
    asked: set[FactKey] = field(default_factory=set)
    last: FactKey | None = None
    # What it is about.
    facts: list[Fact] = field(default_factory=lambda: facts.FACTS)

    def say(self, person: str, aico: str) -> None:
        self.messages += [("user", person), ("assistant", aico)]

    def recall(self, key: FactKey) -> str:
        name, subject = key
        return fill(facts.FACT[name].recall, subject, to_second_person(self.known[key]))

    # What a person may do next -------------------------------------------------------------

    def small_talk(self) -> None:
        rng = self.rng
        intent = rng.choices(_TALK, _TALK_WEIGHTS)[0]
        if intent is phrases.UNCLEAR:
            self.say(self._cased(punctuated(gibberish(rng), rng, False))[0], rng.choice(intent.answers))
            return
        text = phrases.fill_slots(self._drawn(lambda: intent.said.draw(rng)), rng)
        self.say(self._cased(text)[0], rng.choice(intent.answers))
        if intent.replies and rng.random() < 0.5:
            said, answers = rng.choice(intent.replies)
            self.say(self._typed(lambda: said.draw(rng))[0], rng.choice(answers))

    def tell(self) -> None:
        """A fact that is new, or told anew."""
        key, value = self._new_fact()
        fact = facts.FACT[key[0]]
        ack = self.rng.choice(fact.acks)
        self._take_up(key, lambda: fact.tell(self.rng), value, ack)
        if ack.endswith("?") and "How are you" not in ack and self.rng.random() < 0.25:
            text, _ = self._typed(lambda: phrases.TELL_MORE.draw(self.rng))
            self.say(text, self.rng.choice(phrases.TELL_MORE_ANSWERS))

    def tell_two(self) -> None:
        """Two facts in one message."""
        (first, first_value), (second, second_value) = self._new_fact(), self._new_fact()
        if first == second:
            return
        told = [
            fill(self._drawn(lambda name=name: facts.FACT[name].statement(self.rng)).rstrip(".!?"), subject, value)
            for (name, subject), value in ((first, first_value), (second, second_value))
        ]
        start = self.rng.choice(["", "", "", "hello, ", "hi Aico, ", "hey, ", "good morning, "])
        text, lowered = self._cased(start + self.rng.choice([" and ", ", ", ", and ", ". ", " and also "]).join(told))
        self.known[first] = first_value.lower() if lowered else first_value
        self.known[second] = second_value.lower() if lowered else second_value
        self.last = second
        self.say(text, f"Thank you, I will remember both. {self.recall(first)} {self.recall(second)}")

    def ask_known(self) -> None:
        """Facts that were not asked yet come first: they lie the furthest back."""
        if not self.known:
            return
        fresh = [key for key in self.known if key not in self.asked]
        key = self.rng.choice(fresh if fresh and self.rng.random() < 0.7 else list(self.known))
        self._ask(key, self.recall(key))

    def ask_unknown(self) -> None:
        """A fact that was never told; the person may then tell it in one word."""
        key, value = self._new_fact()
        if key in self.known:
            return
        fact = facts.FACT[key[0]]
        self._ask(key, fill(fact.unknown, key[1]))
        if fact.unknown.endswith("?") and self.rng.random() < 0.4:
            place = "in " if fact.name in ("home", "origin") and self.rng.random() < 0.3 else ""
            answer = facts.BARE_ANSWERS if self.rng.random() < 0.8 else None
            self._take_up(
                key,
                lambda: answer.draw(self.rng).replace("{v}", place + "{v}") if answer else fact.tell(self.rng),
                value,
                self.rng.choice(fact.acks),
            )

    def correct(self) -> None:
        if not self.known:
            return
        short = self.last is not None and self.rng.random() < 0.5
        key = self.last if short else self.rng.choice(list(self.known))
        fact = facts.FACT[key[0]]
        value = values.training_value(value_pool(fact, key[1]), self.rng)
        self._take_up(
            key,
            lambda: facts.SHORT_CORRECTIONS.draw(self.rng) if short else fact.correction(self.rng),
            value,
            "Sorry, now I have it right. " + fact.recall,
        )
        self.asked.discard(key)

    def summarise(self) -> None:
        """All that is known, the first three facts of it."""
        text, _ = self._typed(lambda: facts.SUMMARY_ASKS.draw(self.rng))
        recalls = [self.recall(key) for key in list(self.known)[:3]]
        self.say(text, " ".join(recalls) or facts.SUMMARY_UNKNOWN)

    # -----------------------------------------------------------------------------------------

    def _drawn(self, draw: Callable[[], str]) -> str:
        """A sentence as typed, its places for values still open, and none that the score holds back."""
        while True:
            text = punctuated_like_people(noise.typed(draw(), self.rng), self.rng)
            if not near.HELD.too_near(text):
                return text

    def _typed(self, draw: Callable[[], str], subject: str = "", value: str | None = None) -> tuple[str, bool]:
        """The sentence as typed, and whether all of it is in lower case."""
        return self._cased(fill(self._drawn(draw), subject, value))

    def _cased(self, text: str) -> tuple[str, bool]:
        lowered = self.rng.random() < 0.25
        return (text.lower() if lowered else _capitalised(text)), lowered

    def _new_fact(self) -> tuple[FactKey, str]:
        fact = self.rng.choices(self.facts, [fact.weight for fact in self.facts])[0]
        subject = self.rng.choice(fact.subjects) if fact.subjects else ""
        if fact.name == "thing":
            subject = values.training_value("thing", self.rng)
        return (fact.name, subject), values.training_value(value_pool(fact, subject), self.rng)

    def _take_up(self, key: FactKey, draw: Callable[[], str], value: str, answer: str) -> None:
        text, lowered = self._typed(draw, key[1], value)
        self.known[key] = value.lower() if lowered else value
        self.last = key
        self.say(text, fill(answer, key[1], to_second_person(self.known[key])))

    def _ask(self, key: FactKey, answer: str) -> None:
        fact = facts.FACT[key[0]]
        text, _ = self._typed(lambda: fact.ask(self.rng), key[1])
        self.say(text, answer)
        if key in self.known:
            self.asked.add(key)
            self.last = key


def gibberish(rng: Random, word=values.invented_word) -> str:
    """What nobody can understand."""
    if rng.random() < 0.25:
        return "".join(rng.choice("asdfghjklqwertyxcvb") for _ in range(rng.randint(3, 9)))
    if rng.random() < 0.1:
        return rng.choice(["???", "...", "!!!", "?"])
    return " ".join(word(rng) for _ in range(rng.randint(2, 5)))


_TALK = [*phrases.INTENTS, phrases.UNCLEAR]
_TALK_WEIGHTS = [intent.weight for intent in _TALK]
_STEPS = [
    (Conversation.small_talk, 42), (Conversation.tell, 17), (Conversation.ask_known, 22),
    (Conversation.ask_unknown, 8), (Conversation.correct, 6), (Conversation.tell_two, 3),
    (Conversation.summarise, 2),
]  # fmt: skip
# Where facts are told close together and all of them asked for.
_DRILL_STEPS = [
    (Conversation.tell, 26), (Conversation.tell_two, 10), (Conversation.ask_known, 24), (Conversation.summarise, 16),
    (Conversation.correct, 6), (Conversation.small_talk, 18),
]  # fmt: skip
# Where much of one kind is told, and more of it asked for: the name of the sister is not the brother's.
_TWIN_STEPS = [
    (Conversation.tell, 26), (Conversation.tell_two, 6), (Conversation.ask_known, 24), (Conversation.ask_unknown, 24),
    (Conversation.correct, 6), (Conversation.small_talk, 14),
]  # fmt: skip


def conversation(rng: Random, exchanges: int) -> list[Message]:
    """A conversation of at least that many exchanges, mostly with a system prompt before it."""
    return _composed(Conversation(rng), exchanges, _STEPS)


def drill(rng: Random, exchanges: int) -> list[Message]:
    """One that is about facts for the most part."""
    return _composed(Conversation(rng), exchanges, _DRILL_STEPS)


def twins(rng: Random, exchanges: int) -> list[Message]:
    """One that is about facts of two kinds, of which there are many of each."""
    many = [fact for fact in facts.FACTS if fact.subjects]
    return _composed(Conversation(rng, facts=rng.sample(many, 2)), exchanges, _TWIN_STEPS)


def _composed(talk: Conversation, exchanges: int, of: list[tuple[Callable[[Conversation], None], int]]) -> list[Message]:
    rng = talk.rng
    dice = rng.random()
    if dice < 0.75:
        talk.messages.append(("system", SYSTEM_PROMPT))
    elif dice < 0.88:
        talk.messages.append(("system", rng.choice(OTHER_SYSTEM_PROMPTS)))
    steps, weights = zip(*of, strict=True)
    while len(talk.messages) < 2 * exchanges:
        rng.choices(steps, weights)[0](talk)
    return talk.messages


if __name__ == "__main__":
    for role, content in conversation(Random(1), 24):
        print(f"{role:>9}: {content}")
