"""The model's two looks at a batch of tiles: a change map for all, words only where something changed."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from ..processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from .journal import NO_VALUE, STEPS, TileResult
from .raster_files import RasterError
from .tile_reader import TileBatch

STRONGEST = 0.05  # share of a tile's cells that make its score: a house is a few cells, whatever the grid
UNTAGGED = {"task_tag": False}  # the tag asks for the class of a clip
SEQUENCE_INSTRUCTION = "These are {count} images of one place in order of time. Describe what changes between them."


class ChangeFinder:
    """Change maps and captions of tiles.

    Args:
        network, processor: A UniRS model.
        threshold: Tiles whose score reaches it get a caption.
        instruction: What the model is told to say about a pair; by default the paper's words.
        options: Of `generate`.
    """

    def __init__(
        self, network: Any, processor: Any, threshold: float, instruction: str | None = None, **options: Any
    ) -> None:
        self.network = network.eval()
        self.processor = processor
        self.threshold = threshold
        self.instruction = instruction or DEFAULT_INSTRUCTIONS["pair"]
        self.options = options
        self.map_seconds = self.caption_seconds = 0.0
        self.captions_made = 0

    @property
    def grid(self) -> int:
        """Cells a side of a change map: the tower's patches."""
        vision = self.network.config.vision_config
        return vision.image_size // vision.patch_size

    def check(self, dates: int) -> None:
        """Refuses more dates than the model reads as one sequence.

        Raises:
            RasterError: With the answer they make more tokens than it reads; what lies behind would be nonsense.
        """
        longest = getattr(self.network.config.text_config, "max_position_embeddings", None)
        if dates < 3 or longest is None:
            return
        tokens = self._words(*_sequence(dates), 1, [dates], UNTAGGED)["input_ids"].shape[1]
        tokens += self.options.get("max_new_tokens") or 0
        if tokens > longest:
            raise RasterError(
                f"{dates} dates and the answer make {tokens} tokens and the model reads {longest}; give fewer dates"
            )

    @torch.inference_mode()
    def find(self, batch: TileBatch) -> list[TileResult]:
        """One result for each tile of the batch, in order."""
        results = {tile.id: TileResult(tile.id, broken=batch.broken.get(tile.id)) for tile in batch.tiles}
        if batch.pixels is None or batch.cells is None:
            return list(results.values())

        # 1. Every date is encoded once, whatever the number of steps it takes part in
        started = time.perf_counter()
        pixels = batch.pixels.to(self.network.device)
        network = self.network.model
        encoded = network.encode_pixels(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])  # (n, dates, patches, d)
        pairs = torch.stack([encoded[:, :-1], encoded[:, 1:]], dim=2)  # (n, steps, 2, patches, d)
        maps = network.change_map(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])  # (n, steps, grid, grid)
        maps = maps.float().cpu().numpy()
        cells = batch.cells  # (n, grid, grid)
        scores = [[score(of_step, there) for of_step in of_tile] for of_tile, there in zip(maps, cells, strict=True)]
        self.map_seconds += time.perf_counter() - started

        # 2. Words, where the score passes
        started = time.perf_counter()
        passed = [
            (number, step)
            for number, of_tile in enumerate(scores)
            for step, value in enumerate(of_tile)
            if value is not None and value >= self.threshold
        ]
        captions = dict(zip(passed, self._captions([pairs[place] for place in passed]), strict=True))
        steps = pairs.shape[1]
        changed = sorted({number for number, _ in passed}) if steps > 1 else []
        sequences = dict(zip(changed, self._sequences([encoded[number] for number in changed]), strict=True))
        self.captions_made += len(passed) + len(changed)
        self.caption_seconds += time.perf_counter() - started

        for number, tile in enumerate(batch.shown):
            values = (maps[number] * STEPS).round().astype(np.uint8)
            results[tile.id] = TileResult(
                tile.id,
                np.where(cells[number], values, NO_VALUE).astype(np.uint8),
                tuple(scores[number]),
                tuple(captions.get((number, step)) for step in range(steps)),
                sequences.get(number),
                data=batch.data[number],
            )
        return list(results.values())

    def _captions(self, pairs: list[torch.Tensor]) -> list[str]:
        if not pairs:
            return []
        network = self.network.model
        features = network.multi_modal_projector(network.change_extraction(torch.stack(pairs)))  # (n, length, hidden)
        content: list[dict[str, Any]] = [{"type": "image"}, {"type": "image"}]
        return self._say(content, self.instruction, {"change_features": features}, len(pairs), [], {})

    def _sequences(self, encoded: list[torch.Tensor]) -> list[str]:
        """What the model says about all dates as frames."""
        if not encoded:
            return []
        dates = len(encoded[0])
        features = self.network.model.multi_modal_projector(torch.cat(encoded))  # (n * dates, length, hidden)
        frames = [dates] * len(encoded)
        return self._say(*_sequence(dates), {"video_features": features}, len(encoded), frames, UNTAGGED)

    def _say(
        self,
        content: list[dict[str, Any]],
        words: str,
        features: dict[str, torch.Tensor],
        count: int,
        frames: list[int],
        template: dict[str, Any],
    ) -> list[str]:
        encoded = self._words(content, words, count, frames, template).to(self.network.device)
        tokens = self.network.generate(**encoded, **features, **self.options)
        answers = self.processor.post_process_image_text_to_text(tokens[:, encoded["input_ids"].shape[1] :])
        return [answer.strip() for answer in answers]

    def _words(
        self, content: list[dict[str, Any]], words: str, count: int, frames: list[int], template: dict[str, Any]
    ) -> Any:
        chat = [{"role": "user", "content": [*content, {"type": "text", "text": words}]}]
        return self.processor.encode_chat_text([chat] * count, frames, template)


def _sequence(dates: int) -> tuple[list[dict[str, Any]], str]:
    """What is shown and said of all dates as frames."""
    return [{"type": "video"}], SEQUENCE_INSTRUCTION.format(count=dates)


def score(change_map: np.ndarray, cells: np.ndarray) -> float | None:
    """The mean of a map's highest twentieth, of cells with data alone; None without any."""
    values = np.sort(change_map[cells])
    if not values.size:
        return None
    return round(float(values[-math.ceil(STRONGEST * values.size) :].mean()), 4)
