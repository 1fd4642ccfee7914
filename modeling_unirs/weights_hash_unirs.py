"""Names weights by their content."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def weights_hash(modules: Iterable[nn.Module]) -> str:
    """SHA-256 over names, types, shapes and values of all weights and buffers of the modules, in order."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["weights_hash"]
