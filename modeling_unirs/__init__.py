"""The network. `*_unirs.py` are published with every checkpoint, flat and unchanged."""

import transformers  # noqa: F401 - first, because UniRS registers itself once this is loaded

from .configuration_unirs import UniRSConfig
from .modeling_unirs import UniRSForConditionalGeneration, UniRSModel, UniRSPreTrainedModel

__all__ = ["UniRSConfig", "UniRSForConditionalGeneration", "UniRSModel", "UniRSPreTrainedModel"]
