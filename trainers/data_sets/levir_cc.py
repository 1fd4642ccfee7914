"""LEVIR-CC: before/after pairs with five captions each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from ..rows import Row, conversation, image_items
from .errors import DataError
from .files import Records, check_split, read_json

ORIGIN = "https://github.com/Chen-Yang-Liu/RSICC (LEVIR-CC)"


class LevirCC:
    """LEVIR-CC (Liu et al., IEEE TGRS 2022), change captioning.

    - Source: bitemporal Google Earth pictures of LEVIR-CD, 20 regions in Texas, 5 to 14 years apart; for research.
    - Pictures: RGB, 256x256 pixels, 0.5 m a pixel; `images/{train,val,test}/{A,B}/<name>.png`, A before, B after.
    - Labels: five sentences a pair, `LevirCCcaptions.json` in the Karpathy form; half of the pairs show no change, and
      these all carry the same five sentences.
    - Splits: train 6,815, val 1,333, test 1,929 pairs.

    Args:
        path: Folder with `images/` and `LevirCCcaptions.json`.
        split: "train", "val" or "test".
    """

    name = "levir_cc"

    def __init__(self, path: str | Path, split: str = "train"):
        check_split(self.name, split, ("train", "val", "test"))
        self.path = Path(path).expanduser()
        file = self.path / "LevirCCcaptions.json"
        self.files = (file,)
        found = read_json(self.name, file, ORIGIN)
        try:
            pairs = [one for one in found["images"] if one["split"] == split]
        except (KeyError, TypeError) as error:
            raise DataError(f"{file}: is not in the Karpathy form (images with split); download it again") from error
        for one in pairs:
            if wrong := _wrong(one):
                raise DataError(f"{file}: {one.get('filename')!r} has {wrong}; download the file again")
        self.pairs = Records(pairs)
        self.folder = self.path / "images" / split

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, index: int) -> tuple[Path, Path]:
        """Files of both dates."""
        name = self.pairs[index]["filename"]
        return self.folder / "A" / name, self.folder / "B" / name

    def captions(self, index: int) -> list[str]:
        """The five sentences, as the field compares them: lower case, without the full stop."""
        return [" ".join(one["raw"].lower().replace(".", " ").split()) for one in self.pairs[index]["sentences"]]

    def changed(self, index: int) -> bool:
        return bool(self.pairs[index]["changeflag"])

    def row(self, index: int, repetition: int = 0) -> Row:
        """A pair with another of its sentences at each repetition."""
        captions = self.captions(index)
        before, after = self.pair(index)
        turns = [(DEFAULT_INSTRUCTIONS["pair"], captions[repetition % len(captions)])]
        messages = conversation(image_items([str(before), str(after)]), turns)
        return {"id": f"{self.name}-{before.stem}-{repetition}", "task": "pair", "messages": messages}


def _wrong(pair: dict[str, Any]) -> str | None:
    """What of a pair is not in the Karpathy form."""
    if not isinstance(pair.get("filename"), str) or not pair["filename"].strip():
        return "no filename"
    if pair.get("changeflag") not in (0, 1):  # "0" in quotes would count as changed
        return f"the changeflag {pair.get('changeflag')!r}, not 0 or 1"
    sentences = pair.get("sentences")
    said = (
        [one.get("raw") if isinstance(one, dict) else None for one in sentences] if isinstance(sentences, list) else []
    )
    if not said or not all(isinstance(one, str) and one.strip() for one in said):
        return "no sentences, or an empty one"
    return None
