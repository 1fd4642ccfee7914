"""`unirs convert` at full size: peak memory, and time against a plain copy of the same bytes.

    python benchmarks/convert.py [--folder DIR] [--output benchmarks/results/convert.json]

Makes a VILA-1.5-3B with random bfloat16 weights (6 GB, four shards), needs 20 GB of disk for a while, cleans up.
Copy and conversion alternate, three times each; both end with the bytes on the disk (fsync). The medians count.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel
from unirs.hub.convert import convert
from unirs.hub.weight_files import Weight, of_tensor, write_weights
from unirs.modeling_unirs.configuration_unirs import DEFAULT_TEXT, DEFAULT_VISION
from unirs.modeling_unirs.projector_unirs import DownsampleProjector

SHARD = 2 * 10**9  # bytes
TOKENIZER = Path("../shared/reference/vlm/vila15_base/llm")
PROJECTOR_NAMES = {"norm": "layers.1", "linear_1": "layers.2", "linear_2": "layers.4"}


def random_weights(model: torch.nn.Module) -> dict[str, Weight]:
    """A model on the meta device as weights that share one block of random memory: bytes differ, memory is small."""
    block = torch.randn(2**27).to(torch.bfloat16)  # 256 MB
    weights = {}
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        count = tensor.numel()
        start = (number * 7919) % max(1, len(block) - count)
        weights[name] = of_tensor(block[start : start + count].reshape(tensor.shape))
    return weights


def make_vila(folder: Path) -> None:
    text = LlamaConfig(**{**DEFAULT_TEXT, "vocab_size": 32000})
    vision = SiglipVisionConfig(**DEFAULT_VISION)
    with torch.device("meta"):
        parts = {
            "llm": LlamaForCausalLM(text),
            "vision_tower": SiglipVisionModel(vision),
            "mm_projector": DownsampleProjector(vision.hidden_size, text.hidden_size),
        }
    for name, part in parts.items():
        (folder / name).mkdir(parents=True)
        weights = random_weights(part)
        if name == "mm_projector":
            weights = {f"{PROJECTOR_NAMES[key.split('.')[0]]}.{key.split('.')[1]}": w for key, w in weights.items()}
        write_weights(folder / name, weights, SHARD)
    for name, config in (("llm", text), ("vision_tower", vision)):
        config.save_pretrained(folder / name)
    for file in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / file, folder / "llm")
    settings = {"model_type": "llava_llama", "image_aspect_ratio": "resize", "num_video_frames": 8}
    (folder / "config.json").write_text(json.dumps(settings))


def plain_copy(source: Path, target: Path) -> float:
    """Seconds to copy every weight file by the fastest way of the standard library."""
    started = time.perf_counter()
    target.mkdir()
    for number, file in enumerate(sorted(source.rglob("*.safetensors"))):
        copied = target / f"{number}.safetensors"
        shutil.copyfile(file, copied)
        with copied.open("rb+") as opened:
            os.fsync(opened.fileno())
    return time.perf_counter() - started


def converted(source: Path, target: Path) -> float:
    """Seconds inside `convert`, told by a process of its own."""
    code = (
        "import sys, time; from unirs.hub.convert import convert; started = time.perf_counter();"
        "convert(sys.argv[1], sys.argv[2]); print(time.perf_counter() - started)"
    )
    done = subprocess.run([sys.executable, "-c", code, source, target], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def peak_of_children() -> float:
    """Gigabytes of memory that the largest process so far has held."""
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None, help="Where there are 20 GB.")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/convert.json"))
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"copy": [], "convert": []}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        source, target = Path(name) / "vila", Path(name) / "out"
        make_vila(source)
        size = sum(file.stat().st_size for file in source.rglob("*.safetensors"))
        for _ in range(3):
            for way, run in (("copy", plain_copy), ("convert", converted)):
                seconds[way].append(run(source, target))
                shutil.rmtree(target)
        peak = peak_of_children()
        convert(source, target)
        repository = Path(name) / "repository"
        for way, options in (("publish", ["--no-check"]), ("publish_and_check", [])):
            started = time.perf_counter()
            command = [sys.executable, "-m", "unirs", "publish", str(target), str(repository), *options]
            subprocess.run(command, check=True)
            seconds[way] = [time.perf_counter() - started]
            shutil.rmtree(repository)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    result = {
        "gigabytes": round(size / 1e9, 2),
        "seconds": {way: [round(value, 1) for value in values] for way, values in seconds.items()},
        "ratio_to_copy": round(medians["convert"] / medians["copy"], 2),
        "peak_memory_gigabytes": peak,
        "peak_memory_gigabytes_of_the_check": peak_of_children(),
        "machine": f"{os.cpu_count()} CPU cores",
    }
    print(json.dumps(result, indent=1))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
