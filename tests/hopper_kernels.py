"""Prints what each kernel becomes for a Hopper GPU at the paper's size. A program of its own: not interpreted."""

import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from unirs import llama_kernels as kernels

WIDTH, INNER, WORDS, DIM = 2560, 6912, 32000, 128
HALF, FLOAT, INT, LONG = "*bf16", "*fp32", "*i32", "*i64"
WHOLE = {"count", "queries", "keys", "room"}  # arguments that 16 divides
NORMED = {"hidden": FLOAT, "norm": HALF, "eps": "fp32", "count": "i32"}
THREE = {"query": HALF, "key": HALF, "value": HALF, "out": FLOAT, "queries": "i32", "keys": "i32"}
ADDED = {"vector": HALF, "weight": HALF, "hidden": FLOAT, "count": "i32"}
SPOKEN = {"head": HALF, "silent": "*i1", "logits": FLOAT, "tokens": INT}
KINDS = {
    "products": (kernels._queries_keys_values, WIDTH, NORMED | THREE),
    "attended": (kernels._residual, WIDTH, ADDED),
    "gated": (kernels._gated, WIDTH, NORMED | {"gate": HALF, "up": HALF, "out": HALF}),
    "inner": (kernels._residual, INNER, ADDED),
    "head": (kernels._likeliest_of_rows, WIDTH, NORMED | SPOKEN),
}
ATTENTION = {
    "heads_in": FLOAT, "cosines": FLOAT, "sines": FLOAT, "place": LONG, "padding": LONG, "keys_held": HALF,
    "values_held": HALF, "parts": FLOAT, "out": HALF, "arrived": INT, "heads": "i32", "kept": "i32", "room": "i32",
    "scale": "fp32",
}  # fmt: skip


def show(kind: str, kernel, types: dict[str, str], constants: dict, warps: int, needed: int) -> None:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    aligned = [name for name in names if signature[name].startswith("*") or name in WHOLE & types.keys()]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": warps, "launch_pdl": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(f"== {kind}\nneeded {needed}\n{compiled.asm['ttir']}")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        for option in ("-res-usage", "-sass"):
            print(subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout)


for kind, (kernel, width, types) in KINDS.items():
    rows, warps = kernels.ROWS[kind], kernels.WARPS[kind]
    constants = {"ROWS": rows, "WIDTH": width, "COLUMNS": kernels.COLUMNS, "DEPENDENT": True}
    matrices = 2 if kind == "gated" else 1
    show(kind, kernel, types, constants, warps, matrices * rows * width * 2 // (16 * 32 * warps))
constants = {"DIM": DIM, "KEYS": kernels.KEYS, "SPLITS": 2, "DEPENDENT": True}
needed = 2 * kernels.KEYS * DIM * 2 // (16 * 32 * kernels.KEYS_WARPS)
show("attention", kernels._attend, ATTENTION, constants, kernels.KEYS_WARPS, needed)
types = {"logits": FLOAT, "tokens": INT, "token": LONG, "place": LONG, "said": LONG, "blocks": "i32", "last": "i32"}
show("choice", kernels._choose, types, {"BLOCKS": 4096, "DEPENDENT": True}, 4, 0)
