"""Stands in for transformers' file of the same name: test pictures are drawn here instead of fetched by URL."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def url_to_local_path(url: str) -> str:
    if Path(url).suffix not in {".png", ".jpg", ".jpeg"}:
        return url
    path = Path(tempfile.gettempdir()) / "unirs-common.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(path)
    return str(path)
