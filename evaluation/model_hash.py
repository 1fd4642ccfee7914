"""One number for a model: over its weights and everything else in its folder that its answers depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub import snapshot_download

from ..hub.loading import adapter_base

# Scores and training records beside the weights, and optimiser states, are not the model.
HASHED = (
    "*.safetensors",
    "*.bin",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*processor_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
)


def model_hash(name: str) -> str:
    """SHA-256 over weight files and configurations of a folder or hub id; of an adapter, over those of its base too.

    Files are read as bytes; nothing in them is run. A hub id must have been loaded before: its cached files count.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = Path(snapshot_download(name, local_files_only=True))
    digest = hashlib.sha256()
    for file in sorted({one for pattern in HASHED for one in folder.glob(pattern)}):
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    base = adapter_base(name)
    if base:
        digest.update(f"base {model_hash(base)}\n".encode())
    return digest.hexdigest()


def file_hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
