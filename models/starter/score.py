"""Scores the GGUF file through llama.cpp on the held-out conversations, by greedy decoding."""

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

from jinja2 import Template
from llama_cpp import Llama

import phrases
from corpus import SYSTEM_PROMPT
from export import MODEL_FILE

FOLDER = Path(__file__).parent
HELDOUT_FILE = FOLDER / "heldout.jsonl"
SCORE_FILE = FOLDER / "score.json"
README_FILE = FOLDER / "README.md"
SCORE_MARKS = ("<!-- score -->\n", "<!-- end of score -->\n")
LONGEST_ANSWER = 120
# An answer that fits everything must not pass: the most that one fixed answer may reach.
CONSTANT_LIMIT = 0.15


def passes(case: dict, answer: str) -> bool:
    """Whether the answer holds what it must and nothing that it must not."""
    text = answer.lower()
    expect_any = case.get("expect_any", [])
    return (
        (not expect_any or any(piece.lower() in text for piece in expect_any))
        and all(piece.lower() in text for piece in case.get("expect_all", []))
        and not any(piece.lower() in text for piece in case.get("forbid", []))
    )


class Chat:
    """The model behind its own chat template."""

    def __init__(self, model: Path, threads: int):
        self.llama = Llama(str(model), n_ctx=0, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.template = Template(self.llama.metadata["tokenizer.chat_template"])

    def prompt(self, messages: list[dict]) -> str:
        system = {"role": "system", "content": SYSTEM_PROMPT}
        return self.template.render(messages=[system, *messages], add_generation_prompt=True)

    def tokens(self, prompt: str) -> list[int]:
        return self.llama.tokenize(prompt.encode(), add_bos=False, special=True)

    def answer(self, messages: list[dict]) -> str:
        answer: list[int] = []
        end = self.llama.token_eos()
        for token in self.llama.generate(self.tokens(self.prompt(messages)), temp=0.0):
            if token == end or len(answer) == LONGEST_ANSWER:
                break
            answer.append(token)
        return self.llama.detokenize(answer).decode(errors="replace")


def assert_same_tokens(chat: Chat, cases: list[dict], work: Path) -> None:
    """llama.cpp cuts every held-out prompt into the very tokens of the training."""
    import tokenizer as bpe

    trained = bpe.load(work / "tokenizer.json")
    for case in cases:
        prompt = chat.prompt(case["messages"])
        assert chat.tokens(prompt) == trained.encode(prompt).ids, case["id"]
    print(f"all {len(cases)} prompts are tokenised as in training")


def assert_no_constant_passes(cases: list[dict]) -> None:
    """No fixed answer passes more than a small share of the cases, and none a whole category."""
    intents = [*phrases.INTENTS, phrases.UNCLEAR]
    constants = {answer for intent in intents for answer in intent.answers}
    constants |= {" ".join(case.get("expect_any", []) + case.get("expect_all", [])) for case in cases}
    best = max(constants, key=lambda text: sum(passes(case, text) for case in cases))
    share = sum(passes(case, best) for case in cases) / len(cases)
    assert share < CONSTANT_LIMIT, f"{share:.0%} pass with the fixed answer {best!r}"
    print(f"the best fixed answer passes {share:.1%} of the cases: {best!r}")


def score(model: Path, work: Path | None, threads: int) -> dict:
    cases = [json.loads(line) for line in HELDOUT_FILE.read_text().splitlines()]
    assert_no_constant_passes(cases)
    chat = Chat(model, threads)
    if work:
        assert_same_tokens(chat, cases, work)
    total: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for case in cases:
        answer = chat.answer(case["messages"])
        total[case["category"]] += 1
        if passes(case, answer):
            passed[case["category"]] += 1
        else:
            print(f"FAILED {case['id']}: {case['messages'][-1]['content']!r} -> {answer!r}")
    return {
        "cases": total.total(),
        "passed": passed.total(),
        "by_category": {
            category: {"cases": number, "passed": passed[category]} for category, number in sorted(total.items())
        },
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }


def write_table(result: dict) -> None:
    """Puts the score into the README, between its marks."""
    start, end = SCORE_MARKS
    before, rest = README_FILE.read_text().split(start)
    after = rest.split(end)[1]
    rows = [
        f"| {category} | {numbers['passed']} | {numbers['cases']} |\n"
        for category, numbers in result["by_category"].items()
    ]
    share = result["passed"] / result["cases"]
    total = f"| **all ({share:.1%})** | **{result['passed']}** | **{result['cases']}** |\n"
    table = "| category | passed | cases |\n|---|---|---|\n" + "".join(rows) + total
    README_FILE.write_text(f"{before}{start}{table}{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=FOLDER / MODEL_FILE)
    parser.add_argument("--work", type=Path, help="folder of the training, to compare the tokens too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="leave score.json as it is")
    arguments = parser.parse_args()
    result = score(arguments.model, arguments.work, arguments.threads)
    for category, numbers in result["by_category"].items():
        print(f"{category:>13}: {numbers['passed']} of {numbers['cases']}")
    print(f"{result['passed']} of {result['cases']} pass: {result['passed'] / result['cases']:.1%}")
    if not arguments.dry:
        SCORE_FILE.write_text(json.dumps(result, indent=2) + "\n")
        write_table(result)


if __name__ == "__main__":
    main()
