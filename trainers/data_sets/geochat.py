"""GeoChat-Instruct: instructions on single remote-sensing images."""

from __future__ import annotations

from pathlib import Path

from .files import find
from .llava_json import LlavaJson

ORIGIN = "https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct"


class GeoChatInstruct(LlavaJson):
    """GeoChat-Instruct (Kuckreja et al., CVPR 2024).

    - Source: conversations made from DOTA, DIOR, FAIR1M, RSVQA-LR, FloodNet and NWPU-RESISC45; terms of each of these.
    - Pictures: RGB, many sizes, in a folder beside the JSON file; some of the named files are missing, so train with
      `bad_rows: skip` (they are counted and listed).
    - Labels: multi-turn conversations in LLaVA's form.
    - Splits: one, for training; 306,000 records by the UniRS paper, not counted here.

    Args:
        path: Folder with `GeoChat_Instruct.json`, or a JSON file.
        images: Folder of the pictures; else a folder beside the file that has pictures, or the file's own.
    """

    name = "geochat_instruct"

    def __init__(self, path: str | Path, images: str | Path | None = None):
        path = Path(path).expanduser()
        file = find(self.name, path, ORIGIN)
        if path.is_dir():
            file = find(self.name, path / "GeoChat_Instruct.json", ORIGIN)
        super().__init__(file, images or _picture_folder(file.parent))


def _picture_folder(folder: Path) -> Path:
    """`final_images_llava`, wherever the archive was unpacked to below the folder; else the folder itself."""
    return next(iter(sorted(folder.glob("**/final_images_llava"))), folder)
