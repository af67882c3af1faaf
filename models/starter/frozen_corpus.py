"""Plain training conversations, for the first stage of the training.

They come from `frozen_phrases` and `frozen_facts`, of which the held-out cases are made too; their
held phrasings are never drawn here. A network learns to copy and to talk from plain sentences many
times faster than from the richer ones of `corpus`, which come in the second stage.
"""

import re
from dataclasses import dataclass, field
from random import Random

import frozen_facts as facts
import frozen_phrases as phrases
import values
from frozen_facts import Fact
from frozen_phrases import draw

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
_CONTRACTIONS = [
    (r"\bI am\b", "I'm"), (r"\bWhat is\b", "What's"), (r"\bwhat is\b", "what's"), (r"\bdo not\b", "don't"),
    (r"\bI have\b(?! to)", "I've"), (r"\bit is\b", "it's"), (r"\bI will\b", "I'll"), (r"\byou are\b", "you're"),
]  # fmt: skip
_OPENERS = [
    "Aico, ", "hey, ", "well, ", "so, ", "oh, ", "hey Aico, ", "ok, ", "hmm, ", "by the way, ", "and ", "you know, ",
    "listen, ", "one thing: ", "to be honest, ", "I think ", "I wonder, ", "now, ", "honestly, ", "but ",
    "I forgot: ", "quick question: ", "say, ", "let me test you: ", "come on, ", "could you say, ", "one more thing: ",
    "help me out, ", "my dear, ", "for the record, ", "repeat it: ", "I am curious, ", "once more: ", "please say, ",
]  # fmt: skip
_ENDINGS = [", please", " then", ", Aico", " again", " you know", " by the way", ", my friend", " for me", " in the end",
            ", do you know", ", tell me", ", do you recall", " as I said", " if you can", " at all", " these days"]  # fmt: skip
_FILLERS = "really just maybe well actually then um like always kind-of now also simply exactly still even".split()
_GREETINGS = {"hello", "hi", "hey", "good", "morning", "oh", "no", "yes", "please", "so", "sorry", "thanks", "actually"}


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


def spoken(text: str, rng: Random) -> str:
    """The text as one of many people would type it: contracted, introduced, with or without marks.

    Places for a value may still stand open in it, so that no word gets into a value.
    """
    if rng.random() < 0.35:
        for pattern, short in _CONTRACTIONS:
            text = re.sub(pattern, short, text)
    if rng.random() < 0.1:
        words = text.split(" ")
        words.insert(rng.randint(1, len(words)), rng.choice(_FILLERS).replace("-", " "))
        text = " ".join(words)
    if rng.random() < 0.08 and text[-1].isalpha():
        text += rng.choice(_ENDINGS)
    question = is_question(text)
    first = re.split(r"\W", text, maxsplit=1)[0].lower()
    if rng.random() < 0.14 and first not in _GREETINGS:
        text = rng.choice(_OPENERS) + (text if text[:1] == "I" else text[:1].lower() + text[1:])
    return punctuated(text, rng, question)


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
            self.say(self._typed(gibberish(rng))[0], rng.choice(intent.answers))
            return
        ask = phrases.fill_slots(draw(rng.choice(intent.asks), rng), rng)
        self.say(self._typed(ask)[0], rng.choice(intent.answers))
        if intent.replies and rng.random() < 0.5:
            asks, answers = rng.choice(intent.replies)
            self.say(self._typed(draw(rng.choice(asks), rng))[0], rng.choice(answers))

    def tell(self) -> None:
        """A fact that is new, or told anew."""
        key, value = self._new_fact()
        fact = facts.FACT[key[0]]
        template = draw(self.rng.choice(fact.tells), self.rng)
        self._take_up(key, template, value, self.rng.choice(fact.acks))

    def tell_two(self) -> None:
        """Two facts in one message."""
        (first, first_value), (second, second_value) = self._new_fact(), self._new_fact()
        if first == second:
            return
        told = [
            fill(
                spoken(draw(self.rng.choice(facts.FACT[name].tells), self.rng), self.rng).rstrip(".!?"), subject, value
            )
            for (name, subject), value in ((first, first_value), (second, second_value))
        ]
        text, lowered = self._cased(" and ".join(told))
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
            told = self.rng.choice(["{v}", "{v}", "it is {v}", "it's {v}"])
            if fact.name in ("home", "origin"):
                told = self.rng.choice(["{v}", "in {v}", "it is {v}"])
            self._take_up(key, told, value, self.rng.choice(fact.acks))

    def correct(self) -> None:
        if not self.known:
            return
        if self.last and self.rng.random() < 0.5:
            key, templates = self.last, facts.SHORT_CORRECTIONS
        else:
            key = self.rng.choice(list(self.known))
            templates = facts.FACT[key[0]].corrections
        fact = facts.FACT[key[0]]
        value = values.training_value(value_pool(fact, key[1]), self.rng)
        template = draw(self.rng.choice(templates), self.rng)
        self._take_up(key, template, value, "Sorry, now I have it right. " + fact.recall)
        self.asked.discard(key)

    def summarise(self) -> None:
        """All that is known, the first three facts of it."""
        text, _ = self._typed(draw(self.rng.choice(facts.SUMMARY_ASKS), self.rng))
        recalls = [self.recall(key) for key in list(self.known)[:3]]
        self.say(text, " ".join(recalls) or facts.SUMMARY_UNKNOWN)

    # -----------------------------------------------------------------------------------------

    def _typed(self, template: str, subject: str = "", value: str | None = None) -> tuple[str, bool]:
        """The template as typed, and whether all of it is in lower case."""
        return self._cased(fill(spoken(template, self.rng), subject, value))

    def _cased(self, text: str) -> tuple[str, bool]:
        lowered = self.rng.random() < 0.25
        return (text.lower() if lowered else _capitalised(text)), lowered

    def _new_fact(self) -> tuple[FactKey, str]:
        fact = self.rng.choices(facts.FACTS, _FACT_WEIGHTS)[0]
        subject = self.rng.choice(fact.subjects) if fact.subjects else ""
        if fact.name == "thing":
            subject = values.training_value("thing", self.rng)
        return (fact.name, subject), values.training_value(value_pool(fact, subject), self.rng)

    def _take_up(self, key: FactKey, template: str, value: str, answer: str) -> None:
        text, lowered = self._typed(template, key[1], value)
        self.known[key] = value.lower() if lowered else value
        self.last = key
        self.say(text, fill(answer, key[1], to_second_person(self.known[key])))

    def _ask(self, key: FactKey, answer: str) -> None:
        fact = facts.FACT[key[0]]
        text, _ = self._typed(draw(self.rng.choice(fact.asks), self.rng), key[1])
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
_FACT_WEIGHTS = [fact.weight for fact in facts.FACTS]
_STEPS = [
    (Conversation.small_talk, 42), (Conversation.tell, 17), (Conversation.ask_known, 22),
    (Conversation.ask_unknown, 8), (Conversation.correct, 6), (Conversation.tell_two, 3),
    (Conversation.summarise, 2),
]  # fmt: skip


def conversation(rng: Random, exchanges: int) -> list[Message]:
    """A conversation of at least that many exchanges, mostly with a system prompt before it."""
    talk = Conversation(rng)
    dice = rng.random()
    if dice < 0.75:
        talk.messages.append(("system", SYSTEM_PROMPT))
    elif dice < 0.88:
        talk.messages.append(("system", rng.choice(OTHER_SYSTEM_PROMPTS)))
    steps, weights = zip(*_STEPS, strict=True)
    while len(talk.messages) < 2 * exchanges:
        rng.choices(steps, weights)[0](talk)
    return talk.messages


if __name__ == "__main__":
    for role, content in conversation(Random(1), 24):
        print(f"{role:>9}: {content}")
