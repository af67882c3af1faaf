"""Trains the starter model on one or two CPU cores.

The loss counts the answers of AICO alone. Matrices inside the blocks learn with Muon, which needs
about half the steps of AdamW here; the embedding and the norms learn with AdamW. Every number
comes from a fixed seed, so the same machine with the same number of threads makes the same bytes.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import corpus
import tokenizer as bpe
from copying import start_with_copying
from model import Config, Llama
from muon import Muon

SEED = 20_011
CONFIG = Config()
INNER_MERGES = 640


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one length of conversation."""

    steps: int
    length: int
    rows: int


PHASES = [Phase(1200, 256, 12), Phase(400, 896, 4)]
MATRIX_RATE = 8e-3
EMBEDDING_RATE = 4e-3
WARMUP_STEPS = 30
COOLDOWN_SHARE = 0.4
REPORT_STEPS = 25


def encode_row(tokenizer: Tokenizer, messages: list[corpus.Message], length: int) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation, and for each whether AICO is to say it."""
    tokens: list[int] = []
    spoken: list[bool] = []

    def add(text: str, by_aico: bool) -> None:
        ids = tokenizer.encode(text).ids
        tokens.extend(ids)
        spoken.extend([by_aico] * len(ids))

    for role, content in messages:
        add(f"<|im_start|>{role}\n", False)
        add(f"{content}<|im_end|>", role == "assistant")
        add("\n", False)
        if len(tokens) > length:
            break
    return tokens[: length + 1], spoken[: length + 1]


def batches(tokenizer: Tokenizer, phase: Phase, rng: Random) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs, targets and whether the target counts, of ever new conversations."""
    exchanges = phase.length // 12
    for _ in range(phase.steps):
        rows, masks = [], []
        for _ in range(phase.rows):
            tokens, spoken = encode_row(tokenizer, corpus.conversation(rng, exchanges), phase.length)
            missing = phase.length + 1 - len(tokens)
            rows.append(tokens + [bpe.END_OF_TEXT] * missing)
            masks.append(spoken + [False] * missing)
        batch, mask = torch.tensor(rows), torch.tensor(masks)
        yield batch[:, :-1], batch[:, 1:], mask[:, 1:]


def rate_factor(step: int, steps: int) -> float:
    """A short rise, a plateau and a linear fall to nothing."""
    cooldown = int(steps * COOLDOWN_SHARE)
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / cooldown)


def optimisers(model: Llama) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blk")]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blk"))]
    return [
        Muon(matrices, lr=MATRIX_RATE, weight_decay=0.05),
        torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(tokenizer: Tokenizer, phases: list[Phase], checkpoint: Path) -> Llama:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Llama(CONFIG)
    start_with_copying(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    groups = optimisers(model)
    for optimiser in groups:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    steps, step, started = sum(phase.steps for phase in phases), 0, time.time()
    rng, recent = Random(SEED), []
    for phase in phases:
        for inputs, targets, counts in batches(tokenizer, phase, rng):
            for optimiser in groups:
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * rate_factor(step, steps)
            # Only the positions that count pass the output matrix.
            logits = model.hidden_states(inputs)[counts] @ model.token_embd.weight.T
            loss = functional.cross_entropy(logits, targets[counts])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in groups:
                optimiser.step()
                optimiser.zero_grad()
            step += 1
            recent.append(loss.item())
            if step % REPORT_STEPS == 0 or step == steps:
                print(
                    f"step {step}/{steps}  loss {sum(recent) / len(recent):.4f}  wall {time.time() - started:.0f} s"
                    f"  cpu {time.process_time():.0f} s",
                    flush=True,
                )
                recent.clear()
                torch.save(model.state_dict(), checkpoint)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and the weights")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = bpe.learn(CONFIG.vocabulary, INNER_MERGES)
    tokenizer.save(str(arguments.work / "tokenizer.json"))
    train(tokenizer, PHASES, arguments.work / "weights.pt")


if __name__ == "__main__":
    main()
