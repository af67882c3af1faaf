"""The other side of `cargo bench … --bench transformers`: see tools/transformers-peer.

    transformers_peer.py export MODEL PACKAGE   writes the package that AICO runs
    transformers_peer.py serve MODEL THREADS    answers lines of JSON with sentence-transformers
    transformers_peer.py expect MODEL FILE      writes the vectors that a test holds AICO to

The last was done once, and what it wrote is part of the repository:
crates/aico-models/tests/fixtures/transformers/all-minilm-l6-v2/expected.json.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from minilm_package import describe

# Of ordinary use, of other languages than the model's, and about its limit of 256 tokens.
TEXTS = [
    "The cat sat on the mat.", "", " \t\n", "a",
    "How do I keep bread fresh? Put it into a box of wood, wrapped in linen; a fridge dries it out within two days.",
    "Der Hund läuft über die Straße, während es in München regnet.", "东京是一座大城市。我们明天去看樱花。",
    "I am so happy today, thank you for everything! 😀👩‍👩‍👧‍👦🇯🇵",
    "https://example.org/a?b=c, Ada.Lovelace@example.org: 3.14 €, ﬁne ½ İstanbul zero\u200bwidth Cafe\u0301 [SEP]",
    {"repeat": "cat ", "times": 254}, {"repeat": "cat ", "times": 255},
    {"repeat": "The old house behind the garden. ", "times": 60},
]


class Outer(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask,
                          token_type_ids=token_type_ids).last_hidden_state


def export(source, package):
    package.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModel.from_pretrained(source, attn_implementation="eager").float().eval()
    sample = tokenizer(["The cat sat.", "Ada"], return_tensors="pt", padding=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(Outer(model).eval(), tuple(sample[name] for name in names), str(package / "model.onnx"),
                      input_names=names, output_names=["last_hidden_state"], dynamic_axes=axes, opset_version=17,
                      dynamo=False)
    shutil.copy(source / "tokenizer.json", package / "tokenizer.json")
    describe(package)


def serve(source, threads):
    torch.set_num_threads(threads)
    model = SentenceTransformer(str(source), device="cpu")
    for line in sys.stdin:
        texts = json.loads(line)
        begun = time.perf_counter()
        vectors = model.encode(texts, batch_size=32, show_progress_bar=False)
        took = time.perf_counter() - begun
        print(json.dumps({"seconds": took, "vectors": vectors.tolist()}), flush=True)


def expect(source, file):
    model = SentenceTransformer(str(source), device="cpu")
    texts = [one if isinstance(one, str) else one["repeat"] * one["times"] for one in TEXTS]
    vectors = model.encode(texts, batch_size=4, show_progress_bar=False)
    longest, rows = model.max_seq_length, []
    for one, full, vector in zip(TEXTS, texts, vectors):
        whole = len(model.tokenizer(full, truncation=False)["input_ids"])
        rows.append(json.dumps({"text": one, "tokens": min(whole, longest), "truncated": whole > longest,
                                "vector": [float(f"{value:.6g}") for value in vector]}, ensure_ascii=False,
                               separators=(",", ":")))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"texts":[\n' + ",\n".join(rows) + "\n]}\n")


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "expect":
        expect(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
