"""Keeps the phrasings of the score out of the rich texts: the same ones and those too near to them.

A message of training is too near to a held phrasing if both have the same words, in any order and
fillers apart, or, from five words on, if one word more, less or other is all that tells them
apart. Whatever the grammar of `texts/` may draw, such a message is drawn again.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

import frozen_facts
import frozen_phrases

FILLERS = set("""a an the aico please so very really just again now then well oh hey hi hello and but ok you know my
    friend by way actually right to of is are 's am i'm it do does did""".split())  # fmt: skip
LONG = 5
CASES = Path(__file__).parent / "heldout.jsonl"


def _words(text: str) -> frozenset[str]:
    words = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+|\{\w+\}", text.lower().replace("’", "'"))
    return frozenset(words)


def _bare(words: frozenset[str]) -> frozenset[str]:
    return frozenset(words - FILLERS) or words


class Held:
    """The held phrasings, to compare messages with."""

    def __init__(self, phrasings: list[str]):
        self._exact = {_bare(_words(text)) for text in phrasings}
        self._by_word: dict[str, list[frozenset[str]]] = defaultdict(list)
        for text in phrasings:
            words = _words(text)
            if len(words) >= LONG:
                for word in words:
                    self._by_word[word].append(words)

    def too_near(self, text: str) -> bool:
        words = _words(text)
        if _bare(words) in self._exact:
            return True
        return any(
            len(words - held) <= 1 and len(held - words) <= 1 for word in words for held in self._by_word.get(word, ())
        )


def _last_messages() -> set[str]:
    """The last message of each case with a new phrasing, in lower case."""
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    return {case["messages"][-1]["content"].lower() for case in cases if case["id"].endswith("-new")}


def _held_phrasings() -> list[str]:
    """Those of small talk and facts, with their slots open, and the last messages of the new cases."""
    phrasings = [text for intent in frozen_phrases.INTENTS for text in intent.held]
    for fact in frozen_facts.FACTS:
        phrasings += fact.held_tells + fact.held_asks
    return phrasings + frozen_facts.SUMMARY_HELD_ASKS + sorted(LAST_MESSAGES)


LAST_MESSAGES = _last_messages()
HELD = Held(_held_phrasings())
