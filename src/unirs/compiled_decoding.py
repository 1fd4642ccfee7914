"""Compiled decoding for CPUs: what `generate` needs to say a token at the rate at which memory gives the weights.

    model.generate(**inputs, cache_implementation="static", compile_config=compile_config())

Inductor hands the product of one row and a matrix to the same library call as eager mode, which read the matrix at 14
to 19 GB/s. Written as a sum it becomes a loop of Inductor's own, which read at 27 (docs/performance.md).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import CompileConfig


def product_as_sum(row: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` of a single row: `(..., inputs)` with one element but for the last axis, to `(..., outputs)`.

    Sums in float32 and rounds once, as the library's product does.

    Args:
        weight: `(outputs, inputs)`.
    """
    summed = (row.reshape(1, -1).float() * weight.float()).sum(-1)  # (outputs,)
    if bias is not None:
        summed = summed + bias.float()
    return summed.to(row.dtype).reshape(*row.shape[:-1], -1)


def products_as_sums(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
    """Inductor, for `torch.compile(backend=...)`, with each product of one row on the CPU written as a sum.

    torchao's matrices keep torchao's own product: as a sum, int8 took 180 ms a token where that takes 153.
    """
    from torch._inductor.compile_fx import compile_fx  # loads the compiler

    for node in graph.graph.nodes:
        if node.target is F.linear and len(node.args) >= 2:  # not by name, as other people's modules may give them
            row, weight = (argument.meta["example_value"] for argument in node.args[:2])
            is_row = row.device.type == "cpu" and row.numel() == row.shape[-1]
            if is_row and row.dtype is not torch.float64 and not is_traceable_wrapper_subclass(weight):
                node.target = product_as_sum
    graph.recompile()
    return compile_fx(graph, inputs)


def compile_config() -> CompileConfig:
    """For `generate(compile_config=...)` with `cache_implementation="static"`, on a CPU, one sequence at a time."""
    config = CompileConfig(backend=products_as_sums, mode=None, dynamic=False)
    config._compile_all_devices = True  # generate compiles on accelerators alone unless told to
    return config
