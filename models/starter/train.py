"""Trains the starter model on one or two CPU cores, in two stages.

The first stage learns to talk and to copy from plain conversations; the second goes on from the
file that the first one made, with far richer ones. (Rich ones from the start would take many
times longer until the network copies at all.) The loss counts the answers of AICO alone. Matrices inside the blocks learn with Muon, which needs
about half the steps of AdamW here; the embedding and the norms learn with AdamW. Every number
comes from a fixed seed, so the same machine with the same number of threads makes the same bytes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import corpus
import first
import frozen_corpus
import tokenizer as bpe
from copying import start_with_copying
from model import Config, Llama
from muon import Muon
from texts import Choice

SEED = 20_011
CONFIG = Config()
INNER_MERGES = 640


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one length of conversation.

    In the second stage the rates change evenly to `rate` of their peak, or on the way there if the
    phase is cut short of `planned` steps. A share of its conversations may be `plain`, of the kind
    of the first stage, so that what that taught is not forgotten; of the rest a share may be
    `drills`, which are about facts, or `twins`, about facts that are easily taken for each other.
    `wide` draws from all texts, otherwise from those that stood when the stage began. `averaged`
    begins with the mean of the weights at so many of the last ends of a fall to nothing.
    """

    steps: int
    length: int
    rows: int
    rate: float = 0.0
    planned: int = 0
    plain: float = 0.0
    drills: float = 0.0
    twins: float = 0.0
    wide: bool = False
    averaged: int = 0


FIRST = [Phase(1200, 256, 12), Phase(400, 896, 4)]
FIRST_COOLDOWN = 640
SECOND = [
    Phase(100, 384, 6, rate=0.4),
    Phase(900, 384, 6, rate=0.16),
    Phase(550, 384, 6, rate=0.08),
    Phase(125, 896, 3, rate=0.0, planned=300),
    Phase(25, 896, 3, rate=0.15),
    Phase(425, 896, 3, rate=0.0),
    Phase(50, 896, 3, rate=0.25, plain=0.25),
    Phase(650, 896, 3, rate=0.12, plain=0.25),
    Phase(350, 896, 3, rate=0.0, plain=0.25),
    Phase(75, 896, 3, rate=0.3, plain=0.25),
    Phase(2000, 896, 3, rate=0.2, plain=0.25),
    Phase(1500, 896, 3, rate=0.08, plain=0.25),
    Phase(900, 896, 3, rate=0.0, plain=0.25),
    Phase(50, 256, 10, rate=0.25, plain=0.2, drills=0.3, wide=True),
    Phase(1400, 256, 10, rate=0.15, plain=0.2, drills=0.3, wide=True),
    Phase(1000, 896, 3, rate=0.0, plain=0.2, drills=0.15, wide=True),
    Phase(50, 384, 7, rate=0.25, plain=0.2, twins=0.3, wide=True),
    Phase(1700, 384, 7, rate=0.12, plain=0.2, twins=0.3, wide=True),
    Phase(900, 896, 3, rate=0.0, plain=0.2, twins=0.2, wide=True),
    Phase(50, 384, 7, rate=0.22, plain=0.2, twins=0.2, wide=True),
    Phase(1800, 384, 7, rate=0.1, plain=0.2, twins=0.2, wide=True),
    Phase(950, 896, 3, rate=0.0, plain=0.2, twins=0.2, wide=True),
    Phase(50, 384, 7, rate=0.15, plain=0.2, twins=0.2, wide=True, averaged=3),
    Phase(1300, 384, 7, rate=0.08, plain=0.2, twins=0.2, wide=True),
    Phase(900, 896, 3, rate=0.0, plain=0.2, twins=0.2, wide=True),
    Phase(50, 384, 7, rate=0.15, plain=0.2, twins=0.2, wide=True, averaged=3),
    Phase(1300, 384, 7, rate=0.08, plain=0.2, twins=0.2, wide=True),
    Phase(900, 896, 3, rate=0.0, plain=0.2, twins=0.2, wide=True),
    Phase(50, 384, 7, rate=0.15, plain=0.2, twins=0.2, wide=True, averaged=3),
    Phase(1300, 384, 7, rate=0.08, plain=0.2, twins=0.2, wide=True),
    Phase(900, 896, 3, rate=0.0, plain=0.2, twins=0.2, wide=True),
    Phase(50, 256, 10, rate=0.22, plain=0.15, drills=0.35, twins=0.1, wide=True, averaged=5),
    Phase(1500, 256, 10, rate=0.12, plain=0.15, drills=0.35, twins=0.1, wide=True),
    Phase(1000, 896, 3, rate=0.0, plain=0.2, drills=0.2, twins=0.1, wide=True),
    Phase(0, 896, 3, wide=True, averaged=5),
]
# So many of the last ends of a fall to nothing are kept, to be averaged.
RESTS = 5
SECOND_START_RATE = 0.4
MATRIX_RATE = 8e-3
EMBEDDING_RATE = 4e-3
WARMUP_STEPS = 30
REPORT_STEPS = 25

Conversation = Callable[[Random, int], list[corpus.Message]]


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


def batches(
    tokenizer: Tokenizer, conversation: Conversation, phase: Phase, done: int, rng: Random
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs, targets and whether the target counts, of ever new conversations, after `done` batches."""
    exchanges = phase.length // 12
    Choice.wide = phase.wide
    for _ in range(done, phase.steps):
        rows, masks = [], []
        for _ in range(phase.rows):
            talk = conversation
            if phase.plain and rng.random() < phase.plain:
                talk = frozen_corpus.conversation
            elif phase.drills and rng.random() < phase.drills:
                talk = corpus.drill
            elif phase.twins and rng.random() < phase.twins:
                talk = corpus.twins
            tokens, spoken = encode_row(tokenizer, talk(rng, exchanges), phase.length)
            missing = phase.length + 1 - len(tokens)
            rows.append(tokens + [bpe.END_OF_TEXT] * missing)
            masks.append(spoken + [False] * missing)
        batch, mask = torch.tensor(rows), torch.tensor(masks)
        yield batch[:, :-1], batch[:, 1:], mask[:, 1:]


def first_rate(step: int) -> float:
    """A short rise, a plateau and a linear fall to nothing."""
    steps = sum(phase.steps for phase in FIRST)
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / FIRST_COOLDOWN)


def second_rate(step: int) -> float:
    """A short rise, then from phase to phase evenly down."""
    before, start = 0, SECOND_START_RATE
    for phase in SECOND:
        if step < before + phase.steps:
            break
        before, start = before + phase.steps, _rate_after(phase.steps, phase, start)
    return min(1.0, (step + 1) / WARMUP_STEPS) * _rate_after(step - before + 1, phase, start)


def _rate_after(steps: int, phase: Phase, start: float) -> float:
    if steps == phase.steps and not phase.planned:
        return phase.rate
    return start + (phase.rate - start) * (steps / (phase.planned or phase.steps))


def optimisers(model: Llama) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blk")]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blk"))]
    return [
        Muon(matrices, lr=MATRIX_RATE, weight_decay=0.05),
        torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@dataclass(frozen=True)
class Stage:
    """What to train with and how fast."""

    conversation: Conversation
    phases: list[Phase]
    rate: Callable[[int], float]


FIRST_STAGE = Stage(frozen_corpus.conversation, FIRST, first_rate)
SECOND_STAGE = Stage(corpus.conversation, SECOND, second_rate)


@dataclass
class Run:
    """All that a training run is made of, so that an interrupted one goes on as if nothing had been."""

    model: Llama
    optimisers: list[torch.optim.Optimizer]
    rng: Random
    step: int = 0
    rests: list[dict[str, Tensor]] = field(default_factory=list)

    def rest(self) -> None:
        """A fall of the rates to nothing has ended here."""
        weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.rests = [*self.rests, weights][-RESTS:]

    def average(self, count: int) -> None:
        """Goes on from the mean of the last rests, which is better than any of them."""
        rests = self.rests[-count:]
        mean = {name: sum(rest[name] for rest in rests) / len(rests) for name in rests[0]}
        self.model.load_state_dict(mean)

    def save(self, work: Path) -> None:
        torch.save(self.model.state_dict(), work / "weights.pt")
        state = {
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "rng": self.rng.getstate(),
            "step": self.step,
            "rests": self.rests,
            "model": self.model.state_dict(),
        }
        torch.save(state, work / "state.new")
        (work / "state.new").rename(work / "state.pt")

    def load(self, work: Path) -> None:
        state = torch.load(work / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        version, numbers, gauss = state["rng"]
        self.rng.setstate((version, tuple(numbers), gauss))
        self.step = state["step"]
        self.rests = state["rests"]


def new_run() -> Run:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    model = Llama(CONFIG)
    start_with_copying(model)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    groups = optimisers(model)
    for optimiser in groups:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return Run(model, groups, Random(SEED))


def train(tokenizer: Tokenizer, run: Run, stage: Stage, work: Path) -> None:
    model, groups = run.model, run.optimisers
    steps, started, recent = sum(phase.steps for phase in stage.phases), time.time(), []
    before = 0  # The steps of the phases before this one.
    for phase in stage.phases:
        done = min(max(run.step - before, 0), phase.steps)
        if phase.averaged and run.step == before:
            run.average(phase.averaged)
        for inputs, targets, counts in batches(tokenizer, stage.conversation, phase, done, run.rng):
            for optimiser in groups:
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * stage.rate(run.step)
            # Only the positions that count pass the output matrix.
            logits = model.hidden_states(inputs)[counts] @ model.token_embd.weight.T
            loss = functional.cross_entropy(logits, targets[counts])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in groups:
                optimiser.step()
                optimiser.zero_grad()
            run.step += 1
            recent.append(loss.item())
            if run.step % REPORT_STEPS == 0 or run.step == steps:
                print(
                    f"step {run.step}/{steps}  loss {sum(recent) / len(recent):.4f}"
                    f"  wall {time.time() - started:.0f} s  cpu {time.process_time():.0f} s",
                    flush=True,
                )
                recent.clear()
                run.save(work)
        before += phase.steps
        if run.step == before and phase.steps and phase.wide and not phase.rate:
            run.rest()
    run.save(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and the weights")
    parser.add_argument("--first", type=Path, help="the file of the first stage, to go on from; without it, that stage")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run in that folder")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    run = new_run()
    if arguments.resume:
        tokenizer = bpe.load(arguments.work / "tokenizer.json")
        run.load(arguments.work)
    elif arguments.first:
        tokenizer = first.tokenizer(arguments.first)
        run.model.load_state_dict(first.weights(arguments.first))
    else:
        tokenizer = bpe.learn(CONFIG.vocabulary, INNER_MERGES)
    tokenizer.save(str(arguments.work / "tokenizer.json"))
    train(tokenizer, run, SECOND_STAGE if arguments.first else FIRST_STAGE, arguments.work)


if __name__ == "__main__":
    main()
