"""The other side of `cargo bench … --bench transformers`: see tools/transformers-peer.

    transformers_peer.py export MODEL PACKAGE   writes the package that AICO runs
    transformers_peer.py serve MODEL THREADS    answers lines of JSON with sentence-transformers
"""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer


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
    about = {"format": 1, "name": "all-minilm-l6-v2", "title": "all-MiniLM-L6-v2", "task": "embedding",
             "architecture": "bert", "license": "Apache-2.0", "max_tokens": 256, "pooling": "mean",
             "normalize": True, "dimensions": 384, "files": {}}
    for name in ("model.onnx", "tokenizer.json"):
        data = (package / name).read_bytes()
        about["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (package / "aico-model.json").write_text(json.dumps(about, indent=1) + "\n")


def serve(source, threads):
    torch.set_num_threads(threads)
    model = SentenceTransformer(str(source), device="cpu")
    for line in sys.stdin:
        texts = json.loads(line)
        begun = time.perf_counter()
        vectors = model.encode(texts, batch_size=32, show_progress_bar=False)
        took = time.perf_counter() - begun
        print(json.dumps({"seconds": took, "vectors": vectors.tolist()}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
