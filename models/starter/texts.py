"""Reads the files in `texts/` and draws sentences from them.

A line is a template: "(hi|hello) there" stands for two sentences, groups may lie inside each
other, and a name in <> stands for the group that the top of the file gives it. One template can
mean thousands of sentences, so nothing is ever written out; a sentence is drawn when it is needed.
"""

import re
from collections import defaultdict
from functools import cache
from itertools import accumulate
from math import log2
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "texts"

# A template taken apart: a sequence of plain texts and groups; a group is its alternatives.
Sequence = tuple["str | Group", ...]
Group = tuple[Sequence, ...]

_PIECE = re.compile(r"[()|]|[^()|]+")


@cache
def parsed(template: str) -> Sequence:
    """The template taken apart."""
    # Each open group holds the alternatives so far; the last one is still being read.
    stack: list[list[list]] = [[[]]]
    for piece in _PIECE.findall(template):
        if piece == "(":
            stack.append([[]])
        elif piece == ")":
            group = tuple(tuple(alternative) for alternative in stack.pop())
            stack[-1][-1].append(group)
        elif piece == "|":
            assert len(stack) > 1, f"a | outside of a group: {template}"
            stack[-1].append([])
        else:
            stack[-1][-1].append(piece)
    assert len(stack) == 1, f"a group is not closed: {template}"
    return tuple(stack[0][0])


def _chosen(sequence: Sequence, rng: Random) -> str:
    return "".join(
        piece if isinstance(piece, str) else _chosen(piece[int(rng.random() * len(piece))], rng) for piece in sequence
    )


def _number(sequence: Sequence) -> int:
    """How many sentences it stands for."""
    number = 1
    for piece in sequence:
        if not isinstance(piece, str):
            number *= sum(_number(alternative) for alternative in piece)
    return number


def draw(template: str, rng: Random) -> str:
    """The template with every group of alternatives decided."""
    text = re.sub(r"  +", " ", _chosen(parsed(template), rng))
    return text.replace(" ,", ",").strip(" ,")


class Choice:
    """Templates of one meaning. Those that stand for many sentences are drawn more often.

    The ones of `texts/more` came later: they are drawn only where `wide` says so, so that the
    training before them stays what it was.
    """

    wide = False

    def __init__(self, templates: list[str], more: list[str]):
        self._narrow = _weighted(templates)
        self._wide = _weighted([*templates, *more])

    def draw(self, rng: Random) -> str:
        templates, weights = self._wide if Choice.wide else self._narrow
        return draw(rng.choices(templates, cum_weights=weights)[0], rng)


def _weighted(templates: list[str]) -> tuple[list[str], list[float]]:
    return templates, list(accumulate(log2(1 + _number(parsed(template))) for template in templates))


def load(name: str) -> dict[str, list[str]]:
    """The templates of a file by section."""
    groups: dict[str, str] = {}
    sections: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in (FOLDER / name).read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        line = re.sub(r"<(\w+)>(?! =)", lambda match: groups[match.group(1)], line)
        if heading := re.fullmatch(r"\[(.+)\]", line):
            section = heading.group(1)
        elif group := re.fullmatch(r"<(\w+)> = (.+)", line):
            groups[group.group(1)] = group.group(2)
        else:
            sections[section].append(line)
    return dict(sections)


def choices(name: str) -> dict[str, Choice]:
    """What to draw from in each section of a file, with the file of the same name in `more`."""
    more = load(f"more/{name}")
    return {section: Choice(lines, more.get(section, [])) for section, lines in load(name).items()}
