"""Makes heldout.jsonl: conversations that the score asks the model to finish.

All names, pets, places and other values are from the halves of the pools that training never
draws from. Cases marked "new" in their id also use a phrasing that training never sees.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import corpus
import facts as training_facts
import frozen_corpus
import frozen_facts as facts
import frozen_phrases as phrases
import near
import phrases as training_phrases
import values
from frozen_corpus import (
    Message,
    _capitalised,
    fill,
    is_question,
    punctuated,
    to_second_person,
    value_pool,
)
from frozen_facts import Fact
from frozen_phrases import draw
from texts import Choice

SEED = 7
FAR_CHARACTERS = 1_400  # Some 440 tokens of words, and about 150 that mark the turns.
FILE = Path(__file__).parent / "heldout.jsonl"
NOT_TOLD = ["not told me"]
CHECKED_CONVERSATIONS = 5_000


class Builder:
    def __init__(self) -> None:
        self.rng = Random(SEED)
        self.cases: list[dict] = []

    # Pieces of conversations -----------------------------------------------------------------

    def value(self, kind: str) -> str:
        return self.rng.choice(values.HELDOUT[kind])

    def subject(self, fact: Fact) -> str:
        if fact.name == "thing":
            return self.value("thing")
        return self.rng.choice(fact.subjects) if fact.subjects else ""

    def typed(self, text: str) -> str:
        text = punctuated(text, self.rng, is_question(text), careless=0.2)
        return text[:1].upper() + text[1:]

    def tell(self, fact: Fact, subject: str, value: str, new: bool = False) -> str:
        template = self.rng.choice(fact.held_tells if new else fact.tells)
        return self.typed(fill(draw(template, self.rng), subject, value))

    def ask(self, fact: Fact, subject: str, new: bool = False) -> str:
        template = self.rng.choice(fact.held_asks if new else fact.asks)
        return self.typed(fill(draw(template, self.rng), subject))

    def told(self, fact: Fact, subject: str, value: str, new: bool = False) -> list[Message]:
        """The person tells the fact and AICO takes it up."""
        ack = fill(self.rng.choice(fact.acks), subject, to_second_person(value))
        return [("user", self.tell(fact, subject, value, new)), ("assistant", ack)]

    def unrelated(self, exchanges: int = 0, characters: int = 0) -> list[Message]:
        """Small talk of at least that length."""
        talk: list[Message] = []
        while len(talk) < 2 * exchanges or sum(len(text) for _, text in talk) < characters:
            intent = self.rng.choice(phrases.INTENTS)
            if intent.name == "crisis":
                continue
            text = phrases.fill_slots(draw(self.rng.choice(intent.asks), self.rng), self.rng)
            talk += [("user", self.typed(text)), ("assistant", self.rng.choice(intent.answers))]
        return talk

    def facts_round(self, number: int) -> list[Fact]:
        """That many facts, each kind as often as the others."""
        return [facts.FACTS[index % len(facts.FACTS)] for index in range(number)]

    # Cases -----------------------------------------------------------------------------------

    def add(
        self, category: str, messages: list[Message], *, expect_any: list[str] = (), expect_all: list[str] = (),
        forbid: list[str] = (), new: bool = False,
    ) -> None:  # fmt: skip
        number = sum(case["category"] == category for case in self.cases) + 1
        case = {
            "id": f"{category}-{number:03}{'-new' if new else ''}",
            "category": category,
            "messages": [{"role": role, "content": content} for role, content in messages],
        }
        for key, pieces in (("expect_any", expect_any), ("expect_all", expect_all), ("forbid", forbid)):
            if pieces:
                case[key] = list(pieces)
        self.cases.append(case)

    def intents(self) -> None:
        """Every held phrasing of every intent, alone and some after other talk."""
        for intent in phrases.INTENTS:
            for index, held in enumerate(intent.held):
                text = phrases.fill_slots(held, self.rng, heldout=True)
                before = self.unrelated(exchanges=2) if index % 2 else []
                self.add(intent.category, [*before, ("user", text)], expect_any=intent.expect, new=True)

    def slot_intents(self) -> None:
        """Known phrasings with countries, topics and numbers that training never sees."""
        for intent in phrases.INTENTS:
            templates = [ask for ask in intent.asks if "{" in ask]
            if templates:
                text = phrases.fill_slots(draw(self.rng.choice(templates), self.rng), self.rng, heldout=True)
                self.add(intent.category, [("user", self.typed(text))], expect_any=intent.expect)

    def follow_ups(self) -> None:
        """The person answers the question about a feeling."""
        for feeling, reason, expect in [
            ("sad", "Because I lost my umbrella and had a bad day", "sounds hard"),
            ("angry", "My colleague shouted at me", "sounds hard"),
            ("stressed", "There is too much to do at the office", "sounds hard"),
            ("lonely", "I don't want to talk about that now", "all right"),
            ("happy", "Because I won a prize at the weekend", "lovely"),
            ("proud", "I passed my driving exam", "lovely"),
            ("excited", "My sister came to visit us", "lovely"),
            ("nervous", "I would rather not say", "all right"),
        ]:  # fmt: skip
            intent = next(intent for intent in phrases.FEELINGS if intent.name == f"feeling-{feeling}")
            talk = [("user", f"I feel {feeling}."), ("assistant", intent.answers[0]), ("user", reason)]
            self.add("feelings", talk, expect_any=[expect], new=True)

    def take_up(self) -> None:
        for index, fact in enumerate(self.facts_round(20)):
            subject, new = self.subject(fact), index % 2 == 0
            value = self.value(value_pool(fact, subject))
            before = self.unrelated(exchanges=1) if index % 3 == 0 else []
            messages = [*before, ("user", self.tell(fact, subject, value, new))]
            self.add("take-up", messages, expect_all=[core(value)], new=new)

    def recall(self, category: str, number: int, gap: Callable[[], list[Message]]) -> None:
        """One fact, something between, and the question for it."""
        for index, fact in enumerate(self.facts_round(number)):
            subject, new = self.subject(fact), index % 2 == 1
            value = self.value(value_pool(fact, subject))
            messages = [*self.told(fact, subject, value, new=index % 4 == 3), *gap()]
            messages.append(("user", self.ask(fact, subject, new)))
            self.add(category, messages, expect_all=[core(value)], forbid=NOT_TOLD, new=new)

    def recall_two(self) -> None:
        """Two facts in one conversation, of one kind in the last cases; one is asked for."""
        pairs = list(zip(self.facts_round(20), self.rng.sample(facts.FACTS * 2, 20), strict=True))
        pairs = [(first, second) for first, second in pairs if first is not second]
        told_pairs = [((first, self.subject(first)), (second, self.subject(second))) for first, second in pairs]
        told_pairs += [
            ((facts.FACT[name], first), (facts.FACT[name], second))
            for name, first, second in [
                ("pet", "dog", "cat"), ("relative", "sister", "brother"), ("favourite", "colour", "food"),
                ("pet", "rabbit", "horse"), ("relative", "mother", "best friend"),
                ("plan", "tomorrow", "on Friday"),
            ]
        ]  # fmt: skip
        for index, pair in enumerate(told_pairs):
            told = [(fact, subject, self.value(value_pool(fact, subject))) for fact, subject in pair]
            if told[0][2] == told[1][2]:
                continue
            wanted, other = (told[0], told[1]) if index % 3 else (told[1], told[0])
            new = index % 3 == 2
            messages = [message for item in told for message in self.told(*item)]
            messages += self.unrelated(exchanges=index % 3)
            messages.append(("user", self.ask(*wanted[:2], new)))
            self.add("recall-two", messages, expect_all=[core(wanted[2])], forbid=[core(other[2]), *NOT_TOLD], new=new)

    def recall_lower(self) -> None:
        """Everything typed in lower case and without marks."""
        for fact in self.facts_round(10):
            subject = self.subject(fact)
            value = self.value(value_pool(fact, subject)).lower()
            ack = fill(fact.acks[0], subject, to_second_person(value))
            messages = [
                ("user", self.tell(fact, subject, value).lower().rstrip(".!")), ("assistant", ack),
                *self.unrelated(exchanges=1), ("user", self.ask(fact, subject).lower().rstrip("?")),
            ]  # fmt: skip
            self.add("recall-lower", messages, expect_all=[core(value)], forbid=NOT_TOLD)

    def one_message(self) -> None:
        """A greeting and two facts in one message."""
        for index in range(6):
            person, place, job = self.value("person"), self.value("place"), self.value("job")
            text, asked, wanted, other = [
                (f"My name is {person} and I live in {place}.", "What is my name?", person, place),
                (f"I am {person} and I live in {place}.", "Where do I live?", place, person),
                (f"My name is {person} and I work as {job}.", "What is my job?", job, person),
            ][index % 3]
            about = {person: f"Your name is {person}.", place: f"You live in {place}.", job: f"You work as {job}."}
            told = " ".join(about[value] for value in (person, place, job) if value in text)
            messages = [
                ("user", text), ("assistant", f"Thank you, I will remember both. {told}"),
                *self.unrelated(exchanges=index // 3), ("user", asked),
            ]  # fmt: skip
            self.add("recall-two", messages, expect_all=[core(wanted)], forbid=[core(other), *NOT_TOLD])

    def corrections(self) -> None:
        """A fact is corrected; the answer at once, or later asked for, holds the new value alone."""
        for index, fact in enumerate(self.facts_round(24)):
            subject = self.subject(fact)
            pool = values.HELDOUT[value_pool(fact, subject)]
            old, right = self.rng.sample(pool, 2)
            messages = self.told(fact, subject, old)
            templates = fact.corrections if index % 3 else facts.SHORT_CORRECTIONS
            correction = self.typed(fill(draw(self.rng.choice(templates), self.rng), subject, right))
            messages.append(("user", correction))
            if index % 2:
                recall = fill(fact.recall, subject, to_second_person(right))
                messages.append(("assistant", f"Sorry, now I have it right. {recall}"))
                messages += self.unrelated(exchanges=index % 4)
                messages.append(("user", self.ask(fact, subject)))
            self.add("corrections", messages, expect_all=[core(right)], forbid=[core(old)])

    def never_told(self) -> None:
        """A question for a fact that was never told, after talk or other facts."""
        for index, fact in enumerate(self.facts_round(24)):
            subject, new = self.subject(fact), index % 2 == 1
            others = [other for other in facts.FACTS if other.name not in (fact.name, "relative", "pet")]
            messages, told = [], []
            for other in self.rng.sample(others, index % 3):
                other_subject = self.subject(other)
                told.append(self.value(value_pool(other, other_subject)))
                messages += self.told(other, other_subject, told[-1])
            messages += self.unrelated(exchanges=index % 2)
            messages.append(("user", self.ask(fact, subject, new)))
            self.add("never-told", messages, expect_any=NOT_TOLD, forbid=[core(v) for v in told], new=new)
        for name, told_subject, asked_subject in [
            ("pet", "dog", "cat"), ("relative", "brother", "sister"), ("favourite", "food", "colour"),
            ("pet", "horse", "hamster"), ("relative", "wife", "daughter"), ("plan", "tonight", "next week"),
        ]:  # fmt: skip
            fact = facts.FACT[name]
            value = self.value(value_pool(fact, told_subject))
            messages = [*self.told(fact, told_subject, value), ("user", self.ask(fact, asked_subject))]
            self.add("never-told", messages, expect_any=NOT_TOLD, forbid=[core(value)])

    def bare_answers(self) -> None:
        """AICO asks for a fact and the person answers with the value alone."""
        for name in ("name", "home", "job", "liking", "name", "origin"):
            fact = facts.FACT[name]
            value = self.value(fact.value)
            question = [("user", self.ask(fact, "")), ("assistant", fact.unknown)]
            self.add("take-up", [*question, ("user", _capitalised(value))], expect_all=[core(value)])

    def summaries(self) -> None:
        for index, ask in enumerate([*facts.SUMMARY_HELD_ASKS, "What do you know about me?", "Describe me"]):
            person, place = self.value("person"), self.value("place")
            messages = [
                *self.told(facts.FACT["name"], "", person), *self.unrelated(exchanges=index % 2),
                *self.told(facts.FACT["home"], "", place), ("user", ask),
            ]  # fmt: skip
            self.add("recall-two", messages, expect_all=[person, place], new=index < 2)
        self.add("never-told", [("user", "What have I told you about myself?")], expect_any=NOT_TOLD)

    def unclear(self) -> None:
        texts = [
            "Blorf snigget wazz", "Gredu mip tolva kess", "Xzqwv", "Fnord plim dra", "Ostra wibbel mokk tund",
            "Jkljkl", "Trummel vask ono pree", "Zib",
        ]  # fmt: skip
        for index, text in enumerate(texts):
            before = self.unrelated(exchanges=index % 2)
            self.add("unclear", [*before, ("user", text)], expect_any=phrases.UNCLEAR.expect, new=True)


def core(value: str) -> str:
    """The part of a value that an answer must hold: without its article, said to the person."""
    return re.sub(r"^(a|an|the) ", "", to_second_person(value))


def _normalised(text: str) -> str:
    return re.sub(r"[^\w{} ]", "", text.lower()).strip()


def assert_phrasings_are_new() -> None:
    """No held phrasing can be drawn in training."""

    def check(name: str, held: list[str], templates: list[str]) -> None:
        trained = {_normalised(text) for template in templates for text in phrases.expand(template)}
        shared = trained & {_normalised(text) for text in held}
        assert not shared, f"{name}: {shared} are in training"

    every_held = [held for intent in phrases.INTENTS for held in intent.held]
    every_ask = [ask for intent in phrases.INTENTS for ask in intent.asks]
    check("small talk", every_held, every_ask)
    for fact in facts.FACTS:
        check(fact.name, fact.held_asks, fact.asks)
        check(fact.name, fact.held_tells, fact.tells)
    check("summary", facts.SUMMARY_HELD_ASKS, facts.SUMMARY_ASKS)


def assert_training_is_apart() -> None:
    """Training draws no held phrasing and none too near to one, no held value, and answers as the cases expect."""
    for intent in [*phrases.INTENTS, phrases.UNCLEAR]:
        trained = training_phrases.INTENT[intent.name]
        assert trained.expect == intent.expect, intent.name
    for fact in facts.FACTS:
        trained = training_facts.FACT[fact.name]
        assert (trained.recall, trained.unknown) == (fact.recall, fact.unknown), fact.name
    for name, (_, held) in phrases.SLOTS.items():
        shared = set(held) & set(training_phrases.SLOTS[name])
        assert not shared, f"values in both halves: {shared}"
    rng = Random(SEED)
    Choice.wide = True
    for conversation in [frozen_corpus.conversation, corpus.conversation, corpus.drill, corpus.twins]:
        for _ in range(CHECKED_CONVERSATIONS):
            for role, text in conversation(rng, exchanges=12):
                assert role != "user" or text.lower() not in near.LAST_MESSAGES, text


def build() -> list[dict]:
    values.assert_disjoint()
    assert_phrasings_are_new()
    assert_training_is_apart()
    builder = Builder()
    builder.intents()
    builder.slot_intents()
    builder.follow_ups()
    builder.unclear()
    builder.take_up()
    builder.bare_answers()
    builder.recall("recall-near", 28, lambda: builder.unrelated(exchanges=1))
    builder.recall("recall-turns", 42, lambda: builder.unrelated(exchanges=builder.rng.randint(4, 9)))
    builder.recall("recall-far", 14, lambda: builder.unrelated(characters=FAR_CHARACTERS))
    builder.recall_two()
    builder.one_message()
    builder.recall_lower()
    builder.corrections()
    builder.never_told()
    builder.summaries()
    return builder.cases


def main() -> None:
    cases = build()
    FILE.write_text("".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases))
    new = sum(case["id"].endswith("-new") for case in cases)
    print(f"{FILE.name}: {len(cases)} cases, {new} of them in phrasings that training never sees")


if __name__ == "__main__":
    main()
