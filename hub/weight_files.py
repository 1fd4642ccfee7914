"""Weight files read and written tensor by tensor, so that a checkpoint of any size passes through little memory."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CHUNK = 2**20  # bytes read at a time: what stays in the processor's cache
SHARD = 5 * 10**9  # bytes, as transformers' default
HEADER_LIMIT = 10**8  # bytes; the safetensors library has the same
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {code: dtype for dtype, code in CODES.items()}


class WeightError(ValueError):
    """A weight file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Weight:
    """One tensor: bytes `start` to `end` of a safetensors file, or a tensor in memory, then `extra` in memory."""

    dtype: str  # safetensors' code
    shape: tuple[int, ...]
    path: Path | None = None
    start: int = 0
    end: int = 0
    tensor: torch.Tensor | None = None
    extra: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    def chunks(self) -> Iterator[memoryview | bytes]:
        """The bytes, row-major and little-endian, a few at a time."""
        if self.path is not None:
            with self.path.open("rb") as file:
                file.seek(self.start)
                left = self.end - self.start
                while left:
                    chunk = file.read(min(CHUNK, left))
                    if not chunk:
                        raise WeightError(f"{self.path}: ends too early; copy or download it again")
                    left -= len(chunk)
                    yield chunk
        for tensor in (self.tensor, self.extra):
            if tensor is not None and tensor.numel():
                yield memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]

    def load(self) -> torch.Tensor:
        """The whole tensor in memory."""
        data = bytearray().join(self.chunks())
        return torch.frombuffer(data, dtype=DTYPES[self.dtype]).reshape(self.shape)

    def with_rows(self, rows: torch.Tensor) -> Weight:
        """The same tensor with more rows `(n, ...)` behind its last one."""
        rows = rows.to(DTYPES[self.dtype])
        shape = (self.shape[0] + len(rows), *self.shape[1:])
        return Weight(self.dtype, shape, self.path, self.start, self.end, self.tensor, rows)


def same_bytes(one: Weight, other: Weight) -> bool:
    """Whether two tensors of one source are equal, a few bytes at a time."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return all(first == second for first, second in zip(one.chunks(), other.chunks(), strict=True))


def of_tensor(tensor: torch.Tensor) -> Weight:
    return Weight(CODES[tensor.dtype], tuple(tensor.shape), tensor=tensor.detach())


# -- reading ---------------------------------------------------------------------------------------------------------
def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: safetensors where there are any, else legacy `.bin`."""
    if folder.is_file():
        return [folder]
    for ending, whole in ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin")):
        if (folder / whole).is_file():  # as transformers: an index beside it is left from an earlier saving in shards
            return [folder / whole]
        index = folder / f"{whole}.index.json"
        if index.is_file():
            try:
                names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise WeightError(f"{index}: is no index of weight files; copy or download it again") from error
            if wrong := sorted(str(name) for name in names if Path(str(name)).name != name):
                raise WeightError(f"{index}: names {wrong[0]}, which lies outside the folder; do not use it")
            files = [folder / name for name in sorted(names)]
            if missing := [file.name for file in files if not file.is_file()]:
                raise WeightError(f"{folder}: lacks {', '.join(missing)}, which {index.name} names; download it again")
            return files
        files = sorted(folder.glob(f"*{ending}"))
        if ending == ".bin":
            files = [file for file in files if file.name.startswith(("pytorch_model", "model"))] or files
        if files:
            return files
    raise WeightError(f"{folder}: holds no .safetensors or .bin weights")


def read_weights(folder: Path) -> dict[str, Weight]:
    """All tensors of a folder or file by name, without their bytes.

    Raises:
        WeightError: No weights, a damaged file, or one name in two files.
    """
    found: dict[str, Weight] = {}
    for file in weight_files(folder):
        weights = read_pickled(file) if file.suffix in (".bin", ".pt", ".pth") else read_header(file)
        if twice := sorted(found.keys() & weights.keys()):
            raise WeightError(f"{file}: holds {twice[0]}, which another file of the folder holds too")
        found |= weights
    return found


def read_header(file: Path) -> dict[str, Weight]:
    """Names, types, shapes and places in one safetensors file, all checked against its size."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise WeightError(f"{file}: is cut or no safetensors file; copy or download it again")
        raw = opened.read(length)
    base = 8 + length
    weights = {}
    try:
        for name, entry in json.loads(raw).items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            weight = Weight(entry["dtype"], tuple(entry["shape"]), file, base + first, base + last)
            if (
                not 0 <= first <= last <= size - base
                or weight.size != last - first
                or min(weight.shape, default=0) < 0
            ):
                raise WeightError(f"{file}: {name} does not fit into the file; copy or download it again")
            weights[name] = weight
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, WeightError):
            raise
        raise WeightError(f"{file}: its header is damaged or of an unknown type ({error!r})") from error
    return weights


def read_pickled(file: Path) -> dict[str, Weight]:
    """A legacy `.bin`; only tensors come out of it, never code."""
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen types on damaged and on hostile files
        line = " ".join(str(error).split())[:200]
        raise WeightError(f"{file}: cannot be read safely ({line}); save it as safetensors") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightError(f"{file}: holds more than named tensors; save its state dict as safetensors")
    return {name: of_tensor(tensor) for name, tensor in state.items()}


# -- writing ---------------------------------------------------------------------------------------------------------
def write_weights(folder: Path, weights: dict[str, Weight], shard: int = SHARD, tick=lambda done: None) -> list[Path]:
    """Writes `model.safetensors`, or shards with their index where it would be larger than `shard` bytes.

    Args:
        tick: Is called with the number of bytes written since it was last called.
    """
    shards: list[dict[str, Weight]] = [{}]
    filled = 0
    for name, weight in weights.items():
        if filled and filled + weight.size > shard:
            shards.append({})
            filled = 0
        shards[-1][name] = weight
        filled += weight.size
    count = len(shards)
    names = (
        [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
        if count > 1
        else ["model.safetensors"]
    )
    for name, part in zip(names, shards, strict=True):
        _write_file(folder / name, part, tick)
    if count > 1:
        index = {
            "metadata": {"total_size": sum(weight.size for weight in weights.values())},
            "weight_map": {key: name for name, part in zip(names, shards, strict=True) for key in part},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return [folder / name for name in names]


def _write_file(file: Path, weights: dict[str, Weight], tick) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, weight in weights.items():
        header[name] = {
            "dtype": weight.dtype,
            "shape": list(weight.shape),
            "data_offsets": [position, position + weight.size],
        }
        position += weight.size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors start at a multiple of eight
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(raw)) + raw)
        for weight in weights.values():
            for chunk in weight.chunks():
                opened.write(chunk)
                tick(len(chunk))
        opened.flush()
        os.fsync(opened.fileno())
