"""The network. `*_unirs.py` are published with every checkpoint, flat and unchanged."""

from .configuration_unirs import UniRSConfig
from .modeling_unirs import UniRSForConditionalGeneration, UniRSModel, UniRSPreTrainedModel

__all__ = ["UniRSConfig", "UniRSForConditionalGeneration", "UniRSModel", "UniRSPreTrainedModel"]
