"""What transformers' server asks for models and generation, with one UniRS behind it."""

from __future__ import annotations

import time
from typing import Any

from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.utils import GenerationState, Modality

from .batching import BatchManager
from .limits import Limits


class OneModel(ModelManager):
    """The model that is loaded, under the name that clients give; no request loads another.

    transformers' own looks models up in its tables, where UniRS is not, and lists cached hub repositories alone.
    """

    def __init__(self, name: str, model: Any, processor: Any):
        self.force_model = name
        self.model, self.processor = model, processor
        self.since = int(time.time())

    def load_model_and_processor(
        self, model_id_and_revision: str, progress_callback: Any = None, tqdm_class: Any = None, gguf_file: Any = None
    ) -> tuple[Any, Any]:
        return self.model, self.processor

    @staticmethod
    def process_model_name(model_id: str) -> str:
        """As clients know it; transformers would answer in the name of a revision."""
        return model_id

    @staticmethod
    def get_model_modality(model: Any, processor: Any = None) -> Modality:
        return Modality.VLM

    def get_gen_models(self, cache_dir: str | None = None) -> list[dict[str, Any]]:  # type: ignore[override]
        return [{"id": self.force_model, "object": "model", "created": self.since, "owned_by": "unirs"}]

    def list_models(self, cache_dir: str | None = None) -> list[dict[str, Any]]:
        """What transformers 5.24 and later ask for in place of `get_gen_models`."""
        return self.get_gen_models(cache_dir)

    def shutdown(self) -> None:
        """The model goes with the process."""


class Batches(GenerationState):
    """One `BatchManager` for all requests."""

    def __init__(self, model: Any, processor: Any, limits: Limits):
        super().__init__()
        self.manager = BatchManager(model, processor, limits)

    def get_manager(self, model_id: str, use_cb: bool = False) -> BatchManager:
        return self.manager
