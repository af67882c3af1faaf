"""Makes everything in this folder that is made: held-out cases, model, sum and score.

python build.py --work /tmp/aico-starter
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MODEL_FILE = "aico-starter.gguf"
# Fixed numbers of threads and no spinning: the same sums in the same order on a busy machine.
ENVIRONMENT = {
    "MKL_DYNAMIC": "FALSE",
    "OMP_DYNAMIC": "FALSE",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONHASHSEED": "0",
}


def run(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, script, *arguments], cwd=FOLDER, env=os.environ | ENVIRONMENT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and the weights")
    parser.add_argument("--threads", default="2", help="the committed file was made with 2")
    arguments = parser.parse_args()
    work = str(arguments.work.resolve())
    run("heldout.py")
    first, first_file = f"{work}/first", f"{work}/first/{MODEL_FILE}"
    run("train.py", "--work", first, "--threads", arguments.threads)
    run("export.py", "--work", first, "--target", first_file)
    run("train.py", "--work", work, "--first", first_file, "--threads", arguments.threads)
    run("export.py", "--work", work)
    run("score.py", "--work", work)


if __name__ == "__main__":
    main()
