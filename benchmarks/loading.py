"""From a folder of 6 GB to the first token, and how long the package and its command take to start.

    python benchmarks/loading.py [--folder /tmp/unirs-loading] [--output benchmarks/results/loading.json]

A random UniRS of full size is saved once. Then, each in a process of its own and with the pages of the files dropped
before (root is needed for that; without it the files are warm, and the result says so): reading the bytes of the
safetensors, and `from_pretrained` followed by the same `generate` about a picture twice. The second one costs only the
answer, so what loading costs up to the first token is load + first - second. Memory is the most that the process held
of its own (anonymous memory: pages of the mapped file that the system can drop at any time do not count) and in all.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from full_size import machine, median

IMPORTS = 7
READ = """
import sys, time
from pathlib import Path
started, size, block = time.perf_counter(), 0, bytearray(2**24)
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    with open(path, "rb", buffering=0) as file:
        while got := file.readinto(block):
            size += got
print(size, time.perf_counter() - started)
"""
LOAD = """
import json, sys, threading, time
import torch
from transformers import AutoModelForImageTextToText
import unirs

peak, done = [0, 0], threading.Event()

def watch():
    while not done.wait(0.02):
        with open("/proc/self/status") as file:
            found = dict(line.split(":", 1) for line in file)
        for place, name in enumerate(("RssAnon", "VmRSS")):
            peak[place] = max(peak[place], int(found[name].split()[0]) * 1024)

def answer():
    started = time.perf_counter()
    model.generate(**asked, max_new_tokens=1, do_sample=False)
    return time.perf_counter() - started

from unirs.modeling_unirs import UniRSForConditionalGeneration
torch.randn(256, 256).to(torch.bfloat16) @ torch.randn(256, 256).to(torch.bfloat16)
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype="auto")
loaded = time.perf_counter() - started
config = model.config
side = config.vision_config.image_size
words = [1, *[config.image_token_id] * config.image_seq_length, 300, 301]
asked = {"input_ids": torch.tensor([words]), "pixel_values": torch.zeros(1, 3, side, side, dtype=torch.bfloat16)}
first, second = answer(), answer()
done.set()
size = sum(p.numel() * p.element_size() for p in model.parameters())
print(json.dumps({"load": loaded, "first": first, "second": second, "weights": size, "own": peak[0], "all": peak[1]}))
"""


def python(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def drop_pages(folder: Path) -> bool:
    subprocess.run(["sync"], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def seconds_of(command: list[str]) -> float:
    """The least of several runs: whatever else happens only adds to it."""
    times = []
    for _ in range(IMPORTS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return round(min(times), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/unirs-loading"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/loading.json"))
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the script")
    args = parser.parse_args()
    starts = {
        "import transformers": seconds_of([sys.executable, "-c", "import transformers"]),
        "import transformers, unirs": seconds_of([sys.executable, "-c", "import transformers, unirs"]),
        "import unirs": seconds_of([sys.executable, "-c", "import unirs"]),
        "unirs --help": seconds_of([str(Path(sys.executable).with_name("unirs")), "--help"]),
    }
    print(starts, flush=True)
    shutil.rmtree(args.folder, ignore_errors=True)
    make = (
        "import sys; sys.path.insert(0, sys.argv[2]); from full_size import build; "
        "model, processor = build(sys.argv[3] == 'small'); "
        "model.save_pretrained(sys.argv[1]); processor.save_pretrained(sys.argv[1])"
    )
    python(make, str(args.folder), str(Path(__file__).parent), "small" if args.small else "full")
    runs: dict[str, list[dict]] = {"cold": [], "warm": []}
    for way, found in runs.items():
        for _ in range(args.rounds):
            if way == "cold" and not drop_pages(args.folder):
                break
            size, read = python(READ, str(args.folder)).split()
            if way == "cold":
                drop_pages(args.folder)
            run = {**json.loads(python(LOAD, str(args.folder))), "read": float(read), "file": int(size)}
            run["ratio"] = (run["load"] + run["first"] - run["second"]) / run["read"]
            print(way, run, flush=True)
            found.append(run)
    shutil.rmtree(args.folder)
    result = {
        **machine(),
        "starts": starts,
        **{
            way: {
                "seconds": {
                    name: median([run[name] for run in found]) for name in ("read", "load", "first", "second")
                },
                "ratio_to_reading": median([run["ratio"] for run in found]),
                "file_bytes": found[0]["file"],
                "weight_bytes": found[0]["weights"],
                "own_memory_to_weights": round(max(run["own"] for run in found) / found[0]["weights"], 3),
                "all_memory_to_weights": round(max(run["all"] for run in found) / found[0]["weights"], 3),
            }
            for way, found in runs.items()
            if found
        },
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
