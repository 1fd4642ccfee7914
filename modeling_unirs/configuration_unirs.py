"""Configuration of UniRS: a vision tower, Change Extraction, a projector and a causal language model."""

import copy
from typing import Any, ClassVar

import transformers

if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 17):  # before an import fails with a riddle
    raise ImportError(
        f"UniRS needs transformers 5.17 or newer, and this is {transformers.__version__}: pip install -U transformers"
    )

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

MAX_FRAMES = 64

# SigLIP-so400m-patch14-384 and Sheared-LLaMA 2.7B, the parts of the paper (section III-B). The vocabulary holds
# 32,000 pieces and 66 visual markers, padded to a multiple of 64.
DEFAULT_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
DEFAULT_TEXT = {
    "model_type": "llama",
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "vocab_size": 32128,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}

# A saved folder carries the code, flat: where the Auto classes and pipelines find each class in it.
AUTO_MAP = {
    "AutoConfig": "configuration_unirs.UniRSConfig",
    "AutoModel": "modeling_unirs.UniRSModel",
    "AutoModelForImageTextToText": "modeling_unirs.UniRSForConditionalGeneration",
    "AutoModelForMultimodalLM": "modeling_unirs.UniRSForConditionalGeneration",
    "AutoProcessor": "processing_unirs.UniRSProcessor",
}
CUSTOM_PIPELINES = {
    task: {"impl": f"pipeline_unirs.{name}", "pt": ["AutoModelForImageTextToText"], "type": "multimodal"}
    for task, name in (
        ("rs-visual-question-answering", "VisualQuestionAnsweringPipeline"),
        ("change-captioning", "ChangeCaptioningPipeline"),
        ("video-scene-classification", "VideoSceneClassificationPipeline"),
    )
}


class UniRSConfig(PreTrainedConfig):
    r"""Configuration of [`UniRSModel`] and [`UniRSForConditionalGeneration`].

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*):
            Any ViT of transformers on a square grid; SigLIP-so400m-patch14-384 by default.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Any decoder-only language model of transformers; LLaMA in the sizes of Sheared-LLaMA 2.7B by default.
        image_token_id (`int`, defaults to 32000):
            Placeholder of one feature of a single image.
        change_token_id (`int`, defaults to 32001):
            Placeholder of one feature of a fused before/after pair.
        frame_token_ids (`list[int]`, *optional*):
            Placeholders by frame number: all features of frame `i` of a clip stand on `frame_token_ids[i - 1]`.
            Its length, at most 64, is the longest clip that the model takes. 32002 ... 32065 by default.
        vision_feature_layer (`int`, defaults to -2):
            Hidden state of the tower that is used, counted from the end. Later layers are not built.
        vision_feature_select_strategy (`"full"` or `"default"`, defaults to `"full"`):
            `"full"` keeps every token; `"default"` drops the first one (the class token of CLIP or DINOv2).
        change_num_hidden_layers (`int`, defaults to 0):
            Self-attention layers at the head of Change Extraction; 0 in the released recipe.
        change_num_attention_heads (`int`, defaults to 8): Heads of those layers.
        change_attention_dim (`int`, defaults to 512): Inner width of those layers, whatever the channels.
        change_dropout (`float`, defaults to 0.1): Dropout inside those layers.
        tie_word_embeddings (`bool`, defaults to `False`): Share input and output embeddings.
    """

    model_type = "unirs"
    # `SubConfigSpec` came after transformers 5.17, so the older spelling, which every 5.x reads.
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012
    # `Trainer` gathers what else is in an output as predictions; batches differ in which of these they have.
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "past_key_values",
        "image_hidden_states",
        "change_hidden_states",
        "video_hidden_states",
    ]
    # The default plan names `model.embed_tokens`, which a composite model does not have.
    base_model_fsdp_plan: ClassVar[dict] = {}
    # transformers asks for trust_remote_code wherever a configuration names its own pipelines, even registered ones.
    # So where the package has registered them, the names are only written into saved files.
    pipelines_registered = False

    vision_config: Any = None  # given as a dict, a configuration or None; a configuration once this is built
    text_config: Any = None
    image_token_id: int = 32000
    change_token_id: int = 32001
    frame_token_ids: Any = None  # a list once this is built
    vision_feature_layer: int = -2
    vision_feature_select_strategy: str = "full"
    change_num_hidden_layers: int = 0
    change_num_attention_heads: int = 8
    change_attention_dim: int = 512
    change_dropout: float = 0.1
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        self.vision_config = _sub_config(self.vision_config, DEFAULT_VISION)
        self.text_config = _sub_config(self.text_config, DEFAULT_TEXT)
        if self.frame_token_ids is None:
            self.frame_token_ids = list(range(32002, 32002 + MAX_FRAMES))
        self.frame_token_ids = list(self.frame_token_ids)
        self.tie_word_embeddings = self.tie_word_embeddings or bool(self.text_config.tie_word_embeddings)
        if self.vision_config.model_type == "siglip_vision_model":
            # The pooling head lies behind the layer that is used.
            self.vision_config.vision_use_head = False
        kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        self.auto_map = dict(AUTO_MAP)
        if not self.pipelines_registered:
            self.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)  # transformers writes classes into it

        if not 1 <= len(self.frame_token_ids) <= MAX_FRAMES:
            raise ValueError(f"frame_token_ids has {len(self.frame_token_ids)} entries; 1 to {MAX_FRAMES} are allowed")
        markers = [self.image_token_id, self.change_token_id, *self.frame_token_ids]
        if len(set(markers)) != len(markers):
            raise ValueError("image_token_id, change_token_id and frame_token_ids must be different ids")
        layers = self.vision_config.num_hidden_layers
        if not -layers <= self.vision_feature_layer <= -1:
            raise ValueError(
                f"vision_feature_layer is {self.vision_feature_layer}; a tower of {layers} layers takes "
                f"-{layers} to -1"
            )
        if self.vision_feature_select_strategy not in ("full", "default"):
            raise ValueError(
                f"vision_feature_select_strategy is {self.vision_feature_select_strategy!r}; "
                "'full' and 'default' are allowed"
            )

    def to_dict(self) -> dict:
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

    @property
    def vision_grid(self) -> int:
        """Patches along one side of a picture: 27 for 384 pixels in patches of 14."""
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def image_seq_length(self) -> int:
        """Language-model tokens of one picture, of one fused pair, of one frame: 196 for a 27x27 grid."""
        return ((self.vision_grid + 1) // 2) ** 2


def _sub_config(config: dict | PreTrainedConfig | None, default: dict) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    if config is None:
        config = default
    model_type = config.get("model_type", default["model_type"])
    return CONFIG_MAPPING[model_type](**{key: value for key, value in config.items() if key != "model_type"})


__all__ = ["UniRSConfig"]
