"""Small runs of the evaluation for tests; as a script, one run in a process of its own (or several, by torchrun).

python tests/evaluation.py ROWS.jsonl MODEL PREDICTIONS BATCH_SIZE
"""

import json
import sys
import time
from pathlib import Path

from unirs.evaluation.benchmarks import load_benchmark
from unirs.evaluation.models import load_model
from unirs.evaluation.running import evaluation_process, run

from tests.tiny import picture

NEW_TOKENS = 8


def write_rows(folder, count):
    """Singles, pairs, clips, dated sequences and plain words in turn, with pictures of noise beside the file."""
    rows = []
    for number in range(count):
        kind = ("single", "pair", "clip", "single", "sequence", "text")[number % 6]
        needed = {"single": 1, "pair": 2, "clip": 3, "sequence": 5, "text": 0}[kind]
        names = [f"{number}_{place}.png" for place in range(needed)]
        for place, name in enumerate(names):
            picture(100 * number + place, 20 + number % 7, 28).save(folder / name)
        words = f"Question {number}: " + "what is there? " * (number % 4)
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": f"answer {number}"}]
        visuals = {"videos": [names]} if kind == "clip" else {"images": names}
        rows.append({"id": f"row-{number}", "messages": turns, **(visuals if names else {})})
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def answers_of(rows):
    return {row["id"]: row["prediction"] for row in rows}


def main():
    rows, name, predictions, batch_size = sys.argv[1:]
    device = evaluation_process().device
    benchmark = load_benchmark("own", rows, metric="vqa")
    slowly = 0.03  # seconds a batch, for whoever wants to kill the run in the middle
    run(
        benchmark,
        load_model(name, device),
        Path(predictions),
        int(batch_size),
        NEW_TOKENS,
        progress=lambda done, total: time.sleep(slowly),
    )


if __name__ == "__main__":
    main()
