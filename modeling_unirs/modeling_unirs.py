"""UniRS: one language model that reads single images, before/after pairs and clips."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.utils import cached_file, logging, torch_compilable_check

from .change_extraction_unirs import ChangeExtraction
from .configuration_unirs import UniRSConfig
from .projector_unirs import DownsampleProjector
from .prompt_augmentation_unirs import PromptAugmenter

logger = logging.get_logger(__name__)
COMMIT = re.compile("[0-9a-f]{40}")
# What a picture-carrying forward or `generate` takes, by kind: pixels, or features that were computed before.
VISUAL_INPUTS = (
    "pixel_values",
    "pixel_values_pairs",
    "pixel_values_videos",
    "image_features",
    "change_features",
    "video_features",
)


@dataclass
class UniRSModelOutputWithPast(BaseModelOutputWithPast):
    """Hidden states, and the projected visual features that went into them.

    Args:
        image_hidden_states (`torch.Tensor` of shape `(images, image_seq_length, hidden_size)`, *optional*)
        change_hidden_states (`torch.Tensor` of shape `(pairs, image_seq_length, hidden_size)`, *optional*)
        video_hidden_states (`torch.Tensor` of shape `(frames, image_seq_length, hidden_size)`, *optional*)
    """

    image_hidden_states: torch.Tensor | None = None
    change_hidden_states: torch.Tensor | None = None
    video_hidden_states: torch.Tensor | None = None


@dataclass
class UniRSCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Loss and logits, and the projected visual features that went into them.

    Args:
        image_hidden_states (`torch.Tensor` of shape `(images, image_seq_length, hidden_size)`, *optional*)
        change_hidden_states (`torch.Tensor` of shape `(pairs, image_seq_length, hidden_size)`, *optional*)
        video_hidden_states (`torch.Tensor` of shape `(frames, image_seq_length, hidden_size)`, *optional*)
    """

    image_hidden_states: torch.Tensor | None = None
    change_hidden_states: torch.Tensor | None = None
    video_hidden_states: torch.Tensor | None = None


class UniRSPreTrainedModel(PreTrainedModel):
    config: UniRSConfig
    config_class = UniRSConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ("past_key_values",)
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    # Code that belongs into a saved folder and is no part of the network: set by the package, empty in remote code.
    companion_files: tuple[str, ...] = ()
    _hub_was_asked = False

    def save_pretrained(
        self, save_directory: str | os.PathLike, is_main_process: bool = True, *args, **kwargs
    ) -> None:
        if is_main_process:  # first, because `push_to_hub` uploads at the end of the call
            os.makedirs(save_directory, exist_ok=True)
            files = self.companion_files or self._loaded_companion_files()
            if not files:
                logger.warning(
                    f"{save_directory}: saved without pipeline_unirs.py, which is not where the model came from; "
                    "copy it there, as UniRS's pipelines need it"
                )
            for file in files:
                with contextlib.suppress(shutil.SameFileError):
                    shutil.copy(file, save_directory)
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)

    def _loaded_companion_files(self) -> list[str]:
        """In remote code: the pipelines' file of the folder or repository that the model came from."""
        origin = self.config._name_or_path
        commit = Path(__file__).parent.name  # that was loaded, if from the hub: what came after it was not reviewed
        # The hub only if need be, and once: where there is no network, it takes 23 seconds to give up.
        for here_only in (True,) if self._hub_was_asked else (True, False):
            found = origin and cached_file(
                origin,
                "pipeline_unirs.py",
                revision=commit if COMMIT.fullmatch(commit) else None,
                local_files_only=here_only,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            if found:
                return [found]
        self._hub_was_asked = True
        return []

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ChangeExtraction):  # as the released code: Xavier on every matrix, tables included
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    init.xavier_uniform_(parameter)


class UniRSModel(UniRSPreTrainedModel):
    """Vision tower, Change Extraction, projector and language model, without the language-modelling head."""

    def __init__(self, config: UniRSConfig):
        super().__init__(config)
        self.vision_tower = _truncated_tower(config)
        self.change_extraction = ChangeExtraction(
            dim=config.vision_config.hidden_size,
            grid=config.vision_grid,
            num_layers=config.change_num_hidden_layers,
            attention_dim=config.change_attention_dim,
            heads=config.change_num_attention_heads,
            dropout=config.change_dropout,
        )
        self.multi_modal_projector = DownsampleProjector(
            config.vision_config.hidden_size, config.text_config.hidden_size
        )
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def encode_pixels(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Vision features of layer `vision_feature_layer`: `(n, 3, H, W)` to `(n, patches, vision_dim)`."""
        size = self.config.vision_config.image_size
        # Some towers take every size, but then patches are not those that Change Extraction and projector expect.
        # What has no three channels is for a stand-in of the tower, which reads features that were kept.
        if pixel_values.shape[1] == 3 and pixel_values.shape[-2:] != (size, size):
            raise ValueError(
                f"pixels have the shape {tuple(pixel_values.shape)}, and the vision tower takes "
                f"(n, 3, {size}, {size}); leave the processor's size as it was saved"
            )
        # Checkpointing and PEFT mark what the tower reads as well as the words (`enable_input_require_grads`): without
        # this a frozen tower would be passed backwards, and forwards twice, for gradients that nobody takes.
        weights = list(self.vision_tower.parameters())
        frozen = bool(weights) and not any(weight.requires_grad for weight in weights)  # FSDP 1 may hide all of them
        with torch.set_grad_enabled(torch.is_grad_enabled() and (pixel_values.requires_grad or not frozen)):
            # Not the type of a linear weight: quantised, that would be integers.
            features = self.vision_tower(pixel_values=pixel_values.to(dtype=self.dtype)).last_hidden_state
        if self.config.vision_feature_select_strategy == "default":  # class and register tokens come first
            features = features[:, -(self.config.vision_grid**2) :]
        return features

    def encode_pairs(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """Vision features of both dates: `(pairs, 2, 3, H, W)` to `(pairs, 2, patches, vision_dim)`."""
        if pixel_values_pairs.ndim != 5 or pixel_values_pairs.shape[1] != 2:
            raise ValueError(
                "pixel_values_pairs must have the shape (pairs, 2, 3, H, W), before first; "
                f"got {tuple(pixel_values_pairs.shape)}"
            )
        return self.encode_pixels(pixel_values_pairs.flatten(0, 1)).unflatten(0, (-1, 2))  # (pairs, 2, patches, dim)

    def get_image_features(self, pixel_values: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Single images `(images, 3, H, W)` to language-model features `(images, image_seq_length, hidden_size)`.

        Args:
            return_dict: Give them as `pooler_output` of an output, as transformers' own models do and vLLM asks for.
        """
        features = self.multi_modal_projector(self.encode_pixels(pixel_values))
        return BaseModelOutputWithPooling(pooler_output=features) if return_dict else features

    def get_change_features(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """Pairs `(pairs, 2, 3, H, W)`, before first, to fused features `(pairs, image_seq_length, hidden_size)`."""
        return self.multi_modal_projector(self.change_extraction(self.encode_pairs(pixel_values_pairs)))

    def get_video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Frames of all clips in order `(frames, 3, H, W)` to `(frames, image_seq_length, hidden_size)`."""
        return self.get_image_features(pixel_values_videos)

    def get_change_map(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """Where a pair differs, as Change Extraction sees it: one minus the cosine of both dates' features.

        Args:
            pixel_values_pairs: `(pairs, 2, 3, H, W)`, before first.

        Returns:
            `(pairs, grid, grid)`, 27x27 for SigLIP at 384 pixels: 0 = same, 1 = different (cosine 0 or less).
        """
        return self.change_map(self.encode_pairs(pixel_values_pairs))

    def change_map(self, encoded_pairs: torch.Tensor) -> torch.Tensor:
        """`get_change_map` of what `encode_pairs` gave."""
        similarity = self.change_extraction.similarity(encoded_pairs)  # (pairs, patches)
        grid = self.config.vision_grid
        return (1 - similarity).clamp(0, 1).unflatten(-1, (grid, grid))

    def get_placeholder_masks(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Where features of each kind belong: masks of shape `(batch, tokens)` by name of the features."""
        kinds = {
            "image_features": [self.config.image_token_id],
            "change_features": [self.config.change_token_id],
            "video_features": list(self.config.frame_token_ids),
        }
        if input_ids is not None:
            return {
                name: torch.isin(input_ids, torch.tensor(ids, device=input_ids.device)) for name, ids in kinds.items()
            }
        if inputs_embeds is None:
            raise ValueError("either input_ids or inputs_embeds is needed to place visual features")
        masks = {}
        with torch.no_grad():
            for name, ids in kinds.items():
                tokens = torch.tensor(ids, device=inputs_embeds.device)
                # Called, not read: what is looked up may be scaled (Gemma), and the table may wait on a disk.
                rows = self.get_input_embeddings()(tokens)  # (ids, hidden_size)
                masks[name] = torch.stack([(inputs_embeds == row).all(-1) for row in rows]).any(0)
        return masks

    def get_visual_features(self, visual_inputs: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        """The features of every kind that `visual_inputs` (names of `VISUAL_INPUTS`) has pixels or features for."""
        encoders: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
            "image_features": ("pixel_values", self.get_image_features),
            "change_features": ("pixel_values_pairs", self.get_change_features),
            "video_features": ("pixel_values_videos", self.get_video_features),
        }
        features = {}
        for name, (pixels_name, encode) in encoders.items():
            pixels, given = visual_inputs.get(pixels_name), visual_inputs.get(name)
            if pixels is not None and given is not None:
                raise ValueError(f"give either {pixels_name} or {name}, not both")
            if pixels is not None:
                given = encode(pixels)
            if given is not None:
                features[name] = given
        return features

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_pairs: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        change_features: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        **kwargs,
    ) -> UniRSModelOutputWithPast:
        """Runs the language model over text and visual features.

        Args:
            input_ids: `(batch, tokens)` with one placeholder for each visual feature.
            pixel_values: `(images, 3, H, W)`, all single images of the batch in order.
            pixel_values_pairs: `(pairs, 2, 3, H, W)`, before first.
            pixel_values_videos: `(frames, 3, H, W)`, all frames of all clips in order.
            image_features, change_features, video_features: what `get_image_features`, `get_change_features` and
                `get_video_features` return, in place of the pixels of that kind.

        Raises:
            ValueError: Placeholders and features of a kind differ in number.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        return_dict = kwargs.pop("return_dict", None)
        return_dict = self.config.return_dict if return_dict is None else return_dict

        # 1. Words
        if inputs_embeds is None:
            # Placeholder ids are in the vocabulary; their rows are overwritten below.
            inputs_embeds = self.get_input_embeddings()(input_ids)  # (batch, tokens, hidden_size)

        # 2. Pictures
        features = self.get_visual_features(
            {
                "pixel_values": pixel_values,
                "pixel_values_pairs": pixel_values_pairs,
                "pixel_values_videos": pixel_values_videos,
                "image_features": image_features,
                "change_features": change_features,
                "video_features": video_features,
            }
        )

        # 3. Pictures take the places of their placeholders
        if features:
            masks = self.get_placeholder_masks(input_ids, inputs_embeds if input_ids is None else None)
            inputs_embeds = insert_features(inputs_embeds, masks, features)

        # 4. Language model
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        output = UniRSModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=features.get("image_features"),
            change_hidden_states=features.get("change_features"),
            video_hidden_states=features.get("video_features"),
        )
        return output if return_dict else output.to_tuple()


class UniRSForConditionalGeneration(UniRSPreTrainedModel, GenerationMixin):
    """UniRS with its language-modelling head.

    Example:

    ```python
    >>> import unirs
    >>> from transformers import AutoModelForImageTextToText, AutoProcessor

    >>> folder = unirs.default_checkpoint()
    >>> model = AutoModelForImageTextToText.from_pretrained(folder)
    >>> processor = AutoProcessor.from_pretrained(folder)
    >>> messages = [
    ...     {
    ...         "role": "user",
    ...         "content": [
    ...             {"type": "image", "image": "before.png"},
    ...             {"type": "image", "image": "after.png"},
    ...             {"type": "text", "text": "What has changed?"},
    ...         ],
    ...     }
    ... ]
    >>> inputs = processor.apply_chat_template(
    ...     messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    ... )
    >>> output = model.generate(**inputs)
    >>> processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    'some houses are built'
    ```
    """

    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012

    def __init__(self, config: UniRSConfig):
        super().__init__(config)
        self.model = UniRSModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        embeddings = self.get_input_embeddings()  # embed_tokens in LLaMA, wte in GPT-2, ...
        name = next(name for name, module in self.named_modules() if module is embeddings)
        self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(self, pixel_values: torch.Tensor, return_dict: bool = False) -> torch.Tensor:
        """Single images to features: see [`UniRSModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, return_dict)

    def get_change_features(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """Pairs `(pairs, 2, 3, H, W)`, before first, to features `(pairs, image_seq_length, hidden_size)`."""
        return self.model.get_change_features(pixel_values_pairs)

    def get_video_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Frames `(frames, 3, H, W)` to features `(frames, image_seq_length, hidden_size)`."""
        return self.model.get_video_features(pixel_values_videos)

    def get_change_map(self, pixel_values_pairs: torch.Tensor) -> torch.Tensor:
        """Pairs `(pairs, 2, 3, H, W)` to maps `(pairs, grid, grid)`: 0 = same, 1 = different."""
        return self.model.get_change_map(pixel_values_pairs)

    def prompt_augmenter(self, processor, base: nn.Module | None = None, **options) -> PromptAugmenter:
        """What asks for clues: the base model, or without one this model itself, its adapters left out."""
        return PromptAugmenter(self if base is None else base, processor, **options)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        pixel_values_pairs: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        change_features: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> UniRSCausalLMOutputWithPast:
        """See [`UniRSModel.forward`] for the visual inputs.

        Args:
            labels: `(batch, tokens)`; positions with -100 carry no loss.
            logits_to_keep: Compute logits for the last so many positions (0 = all), or for the given indices.
        """
        return_dict = kwargs.pop("return_dict", None)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_pairs=pixel_values_pairs,
            pixel_values_videos=pixel_values_videos,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            image_features=image_features,
            change_features=change_features,
            video_features=video_features,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden = outputs.last_hidden_state[:, kept, :]  # (batch, kept tokens, hidden_size)
        # As a matrix: PyTorch multiplies a slice by a frozen weight batch by batch and copies the weight for it, which
        # takes a third of a second a prompt on two cores.
        logits = self.lm_head(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])  # (batch, kept tokens, vocabulary)

        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        output = UniRSCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
            change_hidden_states=outputs.change_hidden_states,
            video_hidden_states=outputs.video_hidden_states,
        )
        return output if return_dict else output.to_tuple()

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs,
    ) -> dict:
        """Visual inputs go in with the prompt only; transformers knows the names of just two of them."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in VISUAL_INPUTS:
                inputs.pop(name, None)
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.LongTensor | None = None,
        **model_kwargs,
    ) -> tuple[torch.LongTensor | None, dict]:
        """Repeats every sample for beams or several returned sequences.

        Pictures belong to samples by order alone, so plain repetition would mix them up. They are encoded once
        here, and their features are repeated sample by sample.
        """
        visual = {name: model_kwargs.pop(name) for name in VISUAL_INPUTS if model_kwargs.get(name) is not None}
        unread = None
        if input_ids is not None and input_ids.shape[1] > 0:
            covered = covered_by_cache(input_ids, model_kwargs)
            unread = input_ids[:, covered:]
            if covered:
                visual = self._visual_behind(covered, input_ids, visual)
        if unread is not None and not visual:
            check_placeholders(self.model.get_placeholder_masks(unread, None), {})
        if expand_size > 1 and visual:
            features = self.model.get_visual_features(visual)
            masks = self.model.get_placeholder_masks(unread, model_kwargs.get("inputs_embeds"))
            check_placeholders(masks, features)
            visual = {}
            for name, feature in features.items():
                blocks = (masks[name].sum(-1) // feature.shape[1]).tolist()  # blocks of features, by sample
                visual[name] = torch.cat([part.repeat(expand_size, 1, 1) for part in feature.split(blocks)])
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size,
            is_encoder_decoder=is_encoder_decoder,
            input_ids=input_ids,
            **model_kwargs,
        )
        return input_ids, {**model_kwargs, **visual}

    def _visual_behind(
        self, covered: int, input_ids: torch.Tensor, visual: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The visual inputs whose placeholders come behind the tokens that a cache covers."""
        masks = self.model.get_placeholder_masks(input_ids, None)
        behind = {}
        for name, given in visual.items():
            kind = VISUAL_INPUTS[3:][VISUAL_INPUTS.index(name) % 3]
            begins = masks[kind].nonzero()[:: self.config.image_seq_length, 1]  # where each block does in its row
            if len(begins) == len(given):  # otherwise those of the new turn alone may have been given
                given = given[(begins >= covered).to(given.device)]
            if len(given):
                behind[name] = given
        return behind


def covered_by_cache(input_ids: torch.Tensor, model_kwargs: Mapping) -> int:
    """Tokens at the start of a prompt that a filled cache, of an earlier turn, stands for."""
    cache, mask = model_kwargs.get("past_key_values"), model_kwargs.get("attention_mask")
    only_new = mask is not None and mask.shape[1] != input_ids.shape[1]  # tokens are given, the mask is of all
    if cache is None or only_new:
        return 0
    return int(cache.get_seq_length())


def check_placeholders(masks: dict[str, torch.Tensor], features: dict[str, torch.Tensor]) -> None:
    """Every kind must have as many placeholders (masks `(batch, tokens)`) as features `(n, length, hidden_size)`."""
    for name, mask in masks.items():
        feature = features.get(name)
        count, length = (0, 0) if feature is None else feature.shape[:2]
        kind = name.removesuffix("_features")
        torch_compilable_check(
            mask.sum() == count * length,
            f"{kind.capitalize()} features and {kind} tokens do not match: {name} has {count} x {length} = "
            f"{count * length} features, the text has {mask.sum()} placeholders for them",
        )


def insert_features(
    inputs_embeds: torch.Tensor, masks: dict[str, torch.Tensor], features: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Embeddings `(batch, tokens, hidden_size)` with the features of each kind at its placeholders, in order.

    Raises:
        ValueError: Placeholders and features of a kind differ in number.
    """
    check_placeholders(masks, features)
    for name, feature in features.items():
        # Spread over devices, the words' table may lie elsewhere than the tower and the ids.
        feature = feature.to(inputs_embeds.device, inputs_embeds.dtype)
        mask = masks[name].to(inputs_embeds.device).unsqueeze(-1)  # (batch, tokens, 1)
        inputs_embeds = inputs_embeds.masked_scatter(mask, feature)
    return inputs_embeds


def _truncated_tower(config: UniRSConfig) -> PreTrainedModel:
    """The vision tower up to the layer that is used: later layers, last norm and pooling are not built."""
    vision_config = config.vision_config
    layers = vision_config.num_hidden_layers
    # The tower keeps the very configuration object (its attention implementation is set there), which goes on to say
    # how many layers the original has.
    vision_config.num_hidden_layers = layers + 1 + config.vision_feature_layer
    try:
        tower = AutoModel.from_config(vision_config)
    finally:
        vision_config.num_hidden_layers = layers
    for name in ("post_layernorm", "layernorm", "norm"):  # SigLIP and CLIP, ViT and DINOv2, DINOv3
        if isinstance(getattr(tower, name, None), nn.Module):
            setattr(tower, name, nn.Identity())
    if isinstance(getattr(tower, "pooler", None), nn.Module):
        tower.pooler = None
    return tower


__all__ = ["UniRSForConditionalGeneration", "UniRSModel", "UniRSPreTrainedModel"]
