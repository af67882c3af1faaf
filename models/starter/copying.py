"""Starting weights with which the network can copy and read before it has learned anything.

To give a name back, a network needs two heads that work together: one lets every token know the
token before it, the other looks for the place where the present token stood before and takes what
followed it there. Training finds such heads by itself, yet only after millions of tokens. They are
simple enough to be written down, so training starts with them and only has to polish them.

The other heads of the first block start as windows: each gathers the words of the last line or
so, which is where the question stands that is to be answered.
"""

import math

import torch
from torch import Tensor

from model import Llama

CONSTANT = 0  # The channel that holds the same number for every token.
EMBEDDING_SIZE = 0.1  # The typical size of a channel of an embedding.
CONSTANT_SIZE = 0.4
SHARPNESS_OF_BEFORE = 2.5
SHARPNESS_OF_MATCH = 2.0
GAIN_OF_COPY = 0.4
COPYING_HEADS = 2
# For each window: how many tokens back its middle lies, and how sharply it ends.
WINDOWS = [(7, 1.4), (11, 1.2), (17, 0.9)]
WINDOW_PAIRS = range(4, 7)  # The pairs that turn slowly enough to be alike for some tokens.
GAIN_OF_WINDOW = 0.15


def _orthonormal_rows(number: int, width: int) -> Tensor:
    return torch.linalg.qr(torch.randn(width, number)).Q.T


def _attend_back(model: Llama, head: int, distance: int, pairs: range, sharpness: float) -> None:
    """Makes a head of the first block look that many tokens back: there its turns cancel out."""
    config, block = model.config, model.blk[0]
    start = head * config.head_width
    block.attn_q.weight[start : start + config.head_width] = 0.0
    block.attn_k.weight[start : start + config.head_width] = 0.0
    for pair in pairs:
        angle = distance * config.rope_theta ** (-2 * pair / config.head_width)
        channel = start + 2 * pair
        block.attn_q.weight[channel, CONSTANT] = sharpness * math.cos(angle)
        block.attn_q.weight[channel + 1, CONSTANT] = -sharpness * math.sin(angle)
        block.attn_k.weight[channel, CONSTANT] = sharpness


@torch.no_grad()
def start_with_copying(model: Llama) -> None:
    """Writes the two kinds of heads into the first two blocks."""
    config = model.config
    head_width = config.head_width
    still = 2 * config.turning_pairs  # From here on the channels of a head do not turn.
    match_width = head_width - still
    before = slice(config.width - match_width, config.width)  # Channels for the token before.
    content = slice(1, config.width - match_width)
    content_width = content.stop - content.start

    embedding = model.token_embd.weight
    embedding[:, content] = torch.nn.functional.normalize(embedding[:, content], dim=1)
    embedding[:, content] *= EMBEDDING_SIZE * math.sqrt(content_width)
    embedding[:, CONSTANT] = CONSTANT_SIZE
    embedding[:, before] = 0.0
    signature = _orthonormal_rows(match_width, content_width)

    # Head 0 of the first block attends one token back.
    first, head = model.blk[0], slice(0, head_width)
    _attend_back(model, head=0, distance=1, pairs=range(config.turning_pairs), sharpness=SHARPNESS_OF_BEFORE)
    first.attn_v.weight[head] = 0.0
    first.attn_v.weight[:match_width, content] = signature
    first.attn_output.weight[before, :match_width] = EMBEDDING_SIZE * torch.eye(match_width)

    # Its other heads gather what was said in the last line.
    for index, (distance, sharpness) in enumerate(WINDOWS, start=1):
        head = slice(index * head_width, (index + 1) * head_width)
        _attend_back(model, index, distance, WINDOW_PAIRS, sharpness)
        first.attn_v.weight[head] = 0.0
        first.attn_v.weight[head, content] = _orthonormal_rows(head_width, content_width)
        first.attn_output.weight[content, head] = GAIN_OF_WINDOW * _orthonormal_rows(head_width, content_width).T

    # The first heads of the second block seek a token whose predecessor is the present token.
    second = model.blk[1]
    copied = _orthonormal_rows(COPYING_HEADS * head_width, content_width)
    for index in range(COPYING_HEADS):
        start = index * head_width
        head, seeking = slice(start, start + head_width), slice(start + still, start + head_width)
        second.attn_q.weight[head] = 0.0
        second.attn_k.weight[head] = 0.0
        second.attn_v.weight[head] = 0.0
        second.attn_q.weight[seeking, content] = SHARPNESS_OF_MATCH * signature
        second.attn_k.weight[seeking, before] = SHARPNESS_OF_MATCH * torch.eye(match_width)
        second.attn_v.weight[head, content] = copied[head]
        second.attn_output.weight[content, head] = GAIN_OF_COPY * copied[head].T
