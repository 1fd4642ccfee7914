"""Time of `unirs predict` by its engines, with the embedded checkpoint on generated scenes.

python benchmarks/predict.py [--rows 400]

The ray engine has one worker, so that the difference is Ray's; starting it is told by itself. Then as many rows ask
twenty questions of each picture, as data sets of questions do.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from unirs.cli_predict import load, start
from unirs.predicting.ledger import Ledger
from unirs.predicting.running import answer_table
from unirs.predicting.table import Table

RESULT = Path(__file__).parent / "results" / "predict.json"


OF_EACH = 20  # questions of a picture, in the last table


def answered(engine: str, table: Table, journal: Path) -> dict[str, Any]:
    began = time.perf_counter()
    asking, settings = start(engine, partial(load, None, False, None, None), 8, 16, 1, None)
    ready = time.perf_counter()
    with closing(asking), closing(Ledger(journal, settings, len(table))) as ledger:
        answer_table(table, asking, ledger, "Is it a rural or an urban area?")
        seconds = time.perf_counter() - ready
        return {
            "seconds_to_start": round(ready - began, 1),
            "seconds": round(seconds, 2),
            "rows_a_second": round(len(table) / seconds, 1),
            "errors": ledger.errors,
        }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=400)
    given = options.parse_args()
    found: dict[str, Any] = {"rows": given.rows, "load_average": os.getloadavg()[0], "cpus": os.cpu_count()}
    with TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number in range(given.rows):
            pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        for engine in ("local", "ray"):
            found[engine] = answered(engine, Table(str(folder)), Path(name) / f"{engine}.journal")
        rows = [
            f"pictures/{number // OF_EACH}.png,Is it a rural or an urban area? {number % OF_EACH}"
            for number in range(given.rows)
        ]
        (Path(name) / "questions.csv").write_text("\n".join(["image,question", *rows]))
        table = Table(f"{name}/questions.csv")
        found["local, twenty questions of each"] = answered("local", table, Path(name) / "questions.journal")
    found["overhead_of_ray"] = round(found["ray"]["seconds"] / found["local"]["seconds"] - 1, 3)
    threads = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, threads: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
