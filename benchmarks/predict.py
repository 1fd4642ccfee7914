"""Time of `unirs predict` by its engines, with the embedded checkpoint on generated scenes.

python benchmarks/predict.py [--rows 400]

The ray engine has one worker, so that the difference is Ray's; starting it is told by itself.
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


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=400)
    given = options.parse_args()
    found: dict[str, Any] = {"rows": given.rows, "load_average": os.getloadavg()[0], "cpus": os.cpu_count()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(given.rows):
            pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        table = Table(name)
        for engine in ("local", "ray"):
            began = time.perf_counter()
            asking, settings = start(engine, partial(load, None, False, None, None), 8, 16, 1)
            ready = time.perf_counter()
            with closing(asking), closing(Ledger(folder / f"{engine}.journal", settings, len(table))) as ledger:
                answer_table(table, asking, ledger, "Is it a rural or an urban area?")
                seconds = time.perf_counter() - ready
                found[engine] = {
                    "seconds_to_start": round(ready - began, 1),
                    "seconds": round(seconds, 2),
                    "rows_a_second": round(given.rows / seconds, 1),
                    "errors": ledger.errors,
                }
    found["overhead_of_ray"] = round(found["ray"]["seconds"] / found["local"]["seconds"] - 1, 3)
    threads = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, threads: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
