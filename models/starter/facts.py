"""Facts that people tell about themselves: how they tell them, ask for them and correct them.

The sentences are in `texts/facts.txt`; `{v}` in them is the value and `{s}` the subject, for facts
of which there are many (the name of the dog, of the sister and so on). Each fact's own sentences
pass through frames that all facts share ("do you remember …", "…, just so you know"), so that no
word is bound to one sentence.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random

import phrases
import texts
from texts import Choice


def _by_kind(file: str) -> dict[tuple[str, str], list[str]]:
    """The templates of each fact and kind."""
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, lines in texts.load(file).items():
        for line in lines:
            kind, template = line.split(" ", 1)
            kinds[name, kind].append(template)
    return kinds


def _sentences() -> dict[tuple[str, str], Choice]:
    more = _by_kind("more/facts.txt")
    return {key: Choice(lines, more[key]) for key, lines in _by_kind("facts.txt").items()}


_SENTENCES = _sentences()
_FRAMES = texts.choices("frames.txt")


@dataclass(frozen=True)
class Fact:
    name: str
    value: str
    recall: str
    unknown: str
    acks: list[str]
    subjects: list[str] = field(default_factory=list)
    # A value that depends on the subject comes from the pool of that name.
    value_by_subject: bool = False
    weight: float = 1.0

    def _draw(self, kind: str, rng: Random) -> str:
        return _SENTENCES[self.name, kind].draw(rng)

    def statement(self, rng: Random) -> str:
        """The fact alone."""
        return self._draw("tell", rng)

    def tell(self, rng: Random) -> str:
        """The fact, maybe with some words around it."""
        text = self.statement(rng)
        if rng.random() < 0.3:
            text = _FRAMES["tell"].draw(rng).replace("{t}", text)
        return text

    def ask(self, rng: Random) -> str:
        """A question for the fact."""
        dice = rng.random()
        if dice < 0.35:
            return _FRAMES["what"].draw(rng).replace("{c}", self._draw("what", rng))
        if dice < 0.5:
            return _FRAMES["of"].draw(rng).replace("{n}", self._draw("of", rng))
        text = self._draw("ask", rng)
        return text if dice < 0.78 else _FRAMES["ask"].draw(rng).replace("{q}", text)

    def correction(self, rng: Random) -> str:
        return self._draw("fix", rng)


RELATIVES = """sister brother mother father son daughter wife husband friend aunt uncle grandmother grandfather cousin
boyfriend girlfriend partner boss neighbour colleague teacher niece nephew mum dad mom grandma grandpa roommate
flatmate coach doctor stepmother stepfather fiance godmother godson twin lawyer dentist landlord""".split()
RELATIVES += ["best friend", "little sister", "big brother", "older sister", "younger brother", "twin sister",
              "old friend", "baby brother", "other sister"]  # fmt: skip
PETS = """dog cat rabbit hamster parrot horse pony bird fish turtle mouse goat duck canary puppy kitten lizard snake
hen donkey pig sheep rat ferret budgie gecko cow tortoise""".split()
PETS += ["guinea pig", "old dog", "second cat", "little bird"]
DAYS = ["tomorrow", "tonight", "next week", "at the weekend", "on Monday", "on Tuesday", "on Wednesday", "on Thursday",
        "on Friday", "on Saturday", "on Sunday", "next month", "this evening", "next summer", "this weekend", "next year",
        "after work", "tomorrow morning", "this afternoon", "later today", "in spring", "on my day off", "next Friday",
        "the day after tomorrow", "tomorrow evening", "in the holidays", "at Christmas", "next Monday", "in May",
        "this summer", "after school", "today"]  # fmt: skip
FAVOURITES = "colour food music book drink sport season animal film flower fruit game".split()
SHORT_CORRECTIONS = _FRAMES["fix"]
BARE_ANSWERS = _FRAMES["bare"]

FACTS = [
    Fact(
        "name",
        "person",
        weight=3,
        recall="Your name is {v}.",
        unknown="You have not told me your name yet. What is it?",
        acks=[
            "Nice to meet you, {v}! How are you today?",
            "Hello {v}, I am glad to know your name.",
        ],
    ),
    Fact(
        "relative",
        "person",
        subjects=RELATIVES,
        weight=2,
        recall="Your {s} is called {v}.",
        unknown="You have not told me about your {s} yet.",
        acks=[
            "It is good to know that your {s} is called {v}. What is special about {v}?",
            "I will remember your {s} {v}. How are things with {v}?",
        ],
    ),
    Fact(
        "pet",
        "pet_name",
        subjects=PETS,
        weight=2,
        recall="Your {s} is called {v}.",
        unknown="You have not told me about your {s} yet.",
        acks=[
            "{v} is a fine name for a {s}. What does {v} like?",
            "I will remember your {s} {v}. How is {v} today?",
        ],
    ),
    Fact(
        "home",
        "place",
        weight=2,
        recall="You live in {v}.",
        unknown="You have not told me where you live yet. Where is it?",
        acks=[
            "It is good to know that you live in {v}. What do you like there?",
            "I will remember that you live in {v}. Do you like it there?",
        ],
    ),
    Fact(
        "origin",
        "place",
        recall="You come from {v}.",
        unknown="You have not told me where you come from yet. Where is it?",
        acks=[
            "So you come from {v}. What do you remember of it?",
            "I will remember that you come from {v}.",
        ],
    ),
    Fact(
        "job",
        "job",
        weight=1.5,
        recall="You work as {v}.",
        unknown="You have not told me about your job yet. What is it?",
        acks=[
            "So you work as {v}. What do you like about the job?",
            "I will remember that you work as {v}. Is the job hard?",
        ],
    ),
    Fact(
        "liking",
        "liking",
        weight=2,
        recall="You like {v}.",
        unknown="You have not told me what you like yet. What is it?",
        acks=[
            "So you like {v}. What do you like most about it?",
            "I will remember that you like {v}. Since when?",
        ],
    ),
    Fact(
        "dislike",
        "dislike",
        recall="You do not like {v}.",
        unknown="You have not told me what you do not like. What is it?",
        acks=[
            "I will remember that you do not like {v}. Why is that?",
            "So you do not like {v}. I understand.",
        ],
    ),
    Fact(
        "favourite",
        "",
        subjects=FAVOURITES,
        value_by_subject=True,
        weight=2.5,
        recall="Your favourite {s} is {v}.",
        unknown="You have not told me your favourite {s} yet. What is it?",
        acks=[
            "Good choice! I will remember that your favourite {s} is {v}.",
            "So your favourite {s} is {v}. What do you like about it?",
        ],
    ),
    Fact(
        "plan",
        "plan",
        subjects=DAYS,
        weight=1.5,
        recall="You want to {v} {s}.",
        unknown="You have not told me a plan for that time.",
        acks=[
            "So you want to {v} {s}. I wish you luck with it!",
            "I will remember that you want to {v} {s}.",
        ],
    ),
    Fact(
        "age",
        "age",
        recall="You are {v} years old.",
        unknown="You have not told me how old you are.",
        acks=[
            "So you are {v} years old. A good age!",
            "I will remember that you are {v} years old.",
        ],
    ),
    Fact(
        "birthday",
        "date",
        recall="Your birthday is on {v}.",
        unknown="You have not told me your birthday yet. When is it?",
        acks=[
            "I will remember that your birthday is on {v}. How do you like to celebrate?",
            "Noted: your birthday is on {v}.",
        ],
    ),
    Fact(
        "allergy",
        "allergen",
        recall="You are allergic to {v}.",
        unknown="You have not told me about an allergy.",
        acks=[
            "That is important: you are allergic to {v}. I will remember it.",
            "I will remember that you are allergic to {v}. Take care!",
        ],
    ),
    Fact(
        "thing",
        "spot",
        subjects=["thing"],
        weight=1.5,
        recall="You put your {s} {v}.",
        unknown="You have not told me where you put your {s}.",
        acks=[
            "I will remember that you put your {s} {v}.",
            "Noted: you put your {s} {v}.",
        ],
    ),
]

FACT = {fact.name: fact for fact in FACTS}
SUMMARY_ASKS = phrases.SAID["summary"]
SUMMARY_UNKNOWN = "You have not told me anything about yourself yet. What would you like me to know?"
