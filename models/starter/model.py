"""A small llama: RMSNorm, rotary positions, SwiGLU, tied embeddings.

Rotary positions turn neighbouring pairs, as llama.cpp does for the architecture "llama", so the
weights go into a GGUF file without any reordering. Only the fast pairs turn; the slow ones stand
still, so that a head can find a word by its content alone, however far back it was said. In a
GGUF file the tensor `rope_freqs.weight` says so.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    vocabulary: int = 1216
    width: int = 128
    layers: int = 4
    heads: int = 4
    hidden: int = 352
    context: int = 1024
    rope_theta: float = 10_000.0
    turning_pairs: int = 7
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class RmsNorm(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.eps = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


STANDSTILL = 1e9


def frequency_divisors(config: Config) -> Tensor:
    """What the frequency of each pair of channels is divided by: 1, or so much that it stands still."""
    divisors = torch.ones(config.head_width // 2)
    divisors[config.turning_pairs :] = STANDSTILL
    return divisors


class Rotary(nn.Module):
    """Turns each pair of neighbouring channels by an angle that grows with the position."""

    def __init__(self, config: Config):
        super().__init__()
        channels = torch.arange(0, config.head_width, 2).float() / config.head_width
        frequencies = config.rope_theta**-channels / frequency_divisors(config)
        angles = torch.outer(torch.arange(config.context).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-2]
        cos, sin = self.cos[:length], self.sin[:length]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        width, hidden = config.width, config.hidden
        self.heads = config.heads
        self.attn_norm = RmsNorm(config)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = RmsNorm(config)
        self.ffn_gate = nn.Linear(width, hidden, bias=False)
        self.ffn_up = nn.Linear(width, hidden, bias=False)
        self.ffn_down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        normed = self.attn_norm(x)
        queries = rotary(split(self.attn_q(normed)))
        keys = rotary(split(self.attn_k(normed)))
        values = split(self.attn_v(normed))
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).flatten(-2))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


class Llama(nn.Module):
    """The names of the parameters are those of the tensors in a GGUF file."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocabulary, config.width)
        self.rotary = Rotary(config)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = RmsNorm(config)
        for name, parameter in self.named_parameters():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(parameter)  # At first every block passes on what it gets.
            elif name == "token_embd.weight":
                nn.init.normal_(parameter, std=0.1)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=config.width**-0.5)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.rotary)
        return self.output_norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        return self.hidden_states(tokens) @ self.token_embd.weight.T
