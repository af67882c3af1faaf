"""A byte-level BPE whose merges are learned in two stages, so that names can be copied.

Stage one merges inside words only, as if each word stood at the start of a line. Stage two adds
one merge for each frequent word: the space before it and the word become one token. A rare word,
such as a name, is therefore cut into the same pieces with a space before it and without, and the
network can copy it from anywhere to anywhere.

The text that teaches the merges holds invented names only. Real names, those of training and
those of the score alike, stay rare words of several pieces.
"""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import values
from frozen_corpus import SYSTEM_PROMPT, conversation

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, IM_START, IM_END = range(3)
SPACE = "Ġ"
SAMPLE_CONVERSATIONS = 2500


def _word_counts(seed: int) -> Counter[str]:
    """How often each word, in byte-level letters, occurs in conversations of invented values."""
    rng = Random(seed)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts: Counter[str] = Counter()
    real_values = {
        word.strip(".,!?").lower()
        for kind in ("person", "pet_name", "place")
        for value in values.TRAIN[kind]
        for word in value.split()
    }
    for _ in range(SAMPLE_CONVERSATIONS):
        for _, content in conversation(rng, exchanges=12):
            for word, _ in split.pre_tokenize_str(content):
                if word.lstrip(SPACE).lower() not in real_values:
                    counts[word] += 1
    for role in ("system", "user", "assistant"):
        counts[role] += SAMPLE_CONVERSATIONS
    return counts


def _inner_merges(counts: Counter[str], number: int) -> list[tuple[str, str]]:
    """The most useful merges inside words; the space before a word stays by itself."""
    words: Counter[tuple[str, ...]] = Counter()
    for word, times in counts.items():
        if not any(letter.isdigit() for letter in word):  # Every digit stays by itself.
            words[tuple(word.lstrip(SPACE))] += times
    pairs: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)

    def count(word: tuple[str, ...], times: int) -> None:
        for pair in pairwise(word):
            pairs[pair] += times
            places[pair].add(word)

    for word, times in words.items():
        count(word, times)
    merges = []
    while len(merges) < number:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word in sorted(places.pop(best)):
            times = words.pop(word, 0)  # None are left if another merge has changed the word.
            if times:
                count(word, -times)
                merged = _merged(word, best)
                words[merged] += times
                count(merged, times)
        del pairs[best]
    return merges


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged, index = [], 0
    while index < len(pieces):
        if pieces[index : index + 2] == pair:
            merged.append(pieces[index] + pieces[index + 1])
            index += 2
        else:
            merged.append(pieces[index])
            index += 1
    return tuple(merged)


def learn(vocabulary: int, inner: int, seed: int = 0) -> Tokenizer:
    """A tokenizer of that many tokens, `inner` of them from merges inside words."""
    counts = _word_counts(seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _inner_merges(counts, inner)
    tokens = SPECIAL + alphabet + ["".join(pair) for pair in merges]
    assert len(tokens) == len(set(tokens)), "two merges make the same token"
    known = set(tokens)
    spaced = [word[1:] for word, _ in counts.most_common() if word[0] == SPACE and word[1:] in known]
    spaced = spaced[: vocabulary - len(tokens)]
    merges += [(SPACE, word) for word in spaced]
    tokens += [SPACE + word for word in spaced]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer


def merges_of(tokenizer: Tokenizer) -> list[str]:
    """The merges in order, as a GGUF file holds them."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair) if isinstance(pair, list) else pair for pair in merges]


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


if __name__ == "__main__":
    tokenizer = learn(1280, 640)
    print(tokenizer.get_vocab_size())
    for text in ("My name is Nadia", "Nadia", "my name is nadia.", "Your name is Annika Lorenzo."):
        print(tokenizer.encode(text).tokens)
    print(len(tokenizer.encode(SYSTEM_PROMPT).ids))
