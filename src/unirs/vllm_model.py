"""UniRS in vLLM: its transformers backend, with pairs, dated sequences and clips beside single pictures.

vLLM gives every item of a prompt a block of tokens of its own. So the pictures that one marker takes (one, a pair, a
sequence) become one item before vLLM looks at them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from transformers import BatchFeature
from vllm.model_executor.models.transformers import TransformersMultiModalForCausalLM
from vllm.model_executor.models.transformers.multimodal import MultiModalDummyInputsBuilder, MultiModalProcessingInfo
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.media import MediaWithBytes
from vllm.multimodal.parse import ImageProcessorItems, MultiModalDataItems
from vllm.multimodal.processing import (
    BaseMultiModalProcessor,
    ProcessorInputs,
    PromptReplacement,
    PromptUpdateDetails,
    TimingContext,
    cached_encode,
)

from .processing.prompts_unirs import CHANGE_MARKER, IMAGE_MARKER, VIDEO_MARKER
from .vllm_plugin import CLIP_MARKER

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}  # by vLLM's kinds of items


class UniRSInfo(MultiModalProcessingInfo):
    """What vLLM asks before it sees pictures: how many tokens an item takes, at most and exactly."""

    _is_video_model = True  # the transformers backend takes clips only where all frames share one token

    @property
    def num_frames(self) -> int:
        """Frames that a clip may have: `--mm-processor-kwargs`, or else as the processor was saved."""
        return self.ctx.get_merged_mm_kwargs({}).get("num_frames") or self.get_hf_processor().num_frames

    def block(self, marker: int, pictures: int) -> list[int]:
        """Token ids of what takes the place of a marker, as the processor writes them."""
        processor = self.get_hf_processor()
        names = {processor.image_token_id: IMAGE_MARKER, processor.change_token_id: CHANGE_MARKER}
        name = names.get(marker, VIDEO_MARKER)
        frames = [pictures] if name == VIDEO_MARKER else []
        encoded = processor.encode_text([name], frames, return_text_replacement_offsets=True)
        written = encoded["text_replacement_offsets"][0][0]["replacement"]
        return cached_encode(self.get_tokenizer(), written, add_special_tokens=False)

    def _get_num_video_tokens(self, num_frames: int, size: Any) -> int:
        return len(self.block(self.get_hf_processor().frame_token_ids[0], num_frames))

    def get_num_frames_with_most_features(self, seq_len: int, mm_counts: Mapping[str, int]) -> int:
        return self.num_frames

    def get_max_image_tokens(self) -> int:
        return self._get_num_video_tokens(self.num_frames, None)  # of a dated sequence


class UniRSDummyInputs(MultiModalDummyInputsBuilder):
    """The prompt of the trial run by which vLLM measures its memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return IMAGE_MARKER * mm_counts.get("image", 0) + CLIP_MARKER * mm_counts.get("video", 0)


class UniRSMultiModalProcessor(BaseMultiModalProcessor[UniRSInfo]):
    """From a prompt with markers and its pictures to items, their pixels, and the tokens in the markers' place."""

    def apply(self, inputs: ProcessorInputs, timing_ctx: TimingContext) -> Any:
        return super().apply(self._items_by_marker(inputs), timing_ctx)

    def _items_by_marker(self, inputs: ProcessorInputs) -> ProcessorInputs:
        """Makes items of images as the markers of the prompt take them: a picture, or a list of pictures.

        Raises:
            ValueError: Markers and pictures differ in number.
        """
        processor = self.info.get_hf_processor()
        single, pair, clip = processor.image_token_id, processor.change_token_id, processor.frame_token_ids[0]
        markers = [token for token in inputs.prompt if token in (single, pair, clip)]
        items = inputs.mm_data_items
        images = list(items["image"].data) if "image" in items else []
        videos = items.get_count("video", strict=False)
        if any(image is None for image in images):
            raise ValueError("pictures given by their ids alone are not supported")

        takes = {single: 1, pair: 2, clip: 0}
        clips = markers.count(clip)
        left = len(images) - sum(takes[marker] for marker in markers)
        if clips == 1 and not videos and left > 2:  # a dated sequence, which comes as images
            takes[clip], clips = left, 0
        wanted = sum(takes[marker] for marker in markers)
        if (wanted, clips) != (len(images), videos):
            raise ValueError(
                f"the prompt has markers for {wanted} images and {clips} clips, but {len(images)} images and "
                f"{videos} clips were given; a conversation takes clips, or one sequence of three and more images"
            )
        if not images:
            return inputs
        rest = iter(images)
        taken = [(marker, [next(rest) for _ in range(takes[marker])]) for marker in markers]
        shown = [pictures[0] if marker == single else pictures for marker, pictures in taken if pictures]
        ids = {kind: given for kind, given in (inputs.mm_uuid_items or {}).items() if kind != "image"}
        items = MultiModalDataItems({**items, "image": ImageProcessorItems(shown)})
        return replace(inputs, mm_data_items=items, mm_uuid_items=ids)

    def _apply_hf_processor_main(self, mm_items: MultiModalDataItems, hf_kwargs: Mapping[str, object]) -> BatchFeature:
        data = {}
        for kind, items in mm_items.items():
            read = [self._read(kind, item, hf_kwargs) for item in items.get_all()]
            data[PIXELS[kind]] = torch.cat([pixels for _, pixels in read])
            data[f"{kind}_pictures"] = torch.tensor([len(pixels) for _, pixels in read])
            data[f"{kind}_marker"] = torch.tensor([marker for marker, _ in read])
        return BatchFeature(data)

    def _read(self, kind: str, item: Any, hf_kwargs: Mapping[str, object]) -> tuple[int, torch.Tensor]:
        """The token that an item's marker is, and its pixels `(pictures, 3, H, W)`."""
        processor = self.info.get_hf_processor(**hf_kwargs)
        shown = item if isinstance(item, list) else [item]
        pictures = [one.media if isinstance(one, MediaWithBytes) else one for one in shown]
        if kind == "video":
            marker, given = processor.frame_token_ids[0], {"text": VIDEO_MARKER, "videos": [item]}
        elif len(pictures) == 1:
            marker, given = processor.image_token_id, {"text": IMAGE_MARKER, "images": pictures}
        elif len(pictures) == 2:
            marker, given = processor.change_token_id, {"text": CHANGE_MARKER, "images": pictures}
        else:
            marker, given = processor.frame_token_ids[0], {"text": VIDEO_MARKER, "videos": [pictures]}
        output = self.info.ctx.call_hf_processor(processor, given, hf_kwargs)
        pixels = next(value for name, value in output.items() if name.startswith("pixel_values"))
        return marker, pixels.flatten(0, -4)  # (pictures, 3, H, W)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        fields = {}
        for kind, pixels in PIXELS.items():
            if pixels in hf_inputs:
                fields[pixels] = MultiModalFieldConfig.flat_from_sizes(kind, hf_inputs[f"{kind}_pictures"])
                for name in ("pictures", "marker"):
                    fields[f"{kind}_{name}"] = MultiModalFieldConfig.batched(kind, keep_on_cpu=True)
        return fields

    def _get_prompt_updates(
        self, mm_items: MultiModalDataItems, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        processor = self.info.get_hf_processor()
        visual = [*processor.image_token_ids, *processor.frame_token_ids]
        updates = []
        for kind, items in out_mm_kwargs.items():
            markers = [int(item[f"{kind}_marker"].data) for item in items]
            pictures = [int(item[f"{kind}_pictures"].data) for item in items]
            blocks = [
                PromptUpdateDetails.select_token_ids(self.info.block(marker, count), visual)
                for marker, count in zip(markers, pictures, strict=True)
            ]
            targets = [[marker] for marker in markers]
            updates.append(PromptReplacement(kind, targets.__getitem__, blocks.__getitem__))
        return updates


@MULTIMODAL_REGISTRY.register_processor(UniRSMultiModalProcessor, info=UniRSInfo, dummy_inputs=UniRSDummyInputs)
class UniRSForVLLM(TransformersMultiModalForCausalLM):
    """The model, which sees a pair as one item and never says a marker."""

    @cached_property
    def suppressed(self) -> list[int]:
        """Tokens that are never said, as `generate` reads them; vLLM does not look at this setting."""
        settings = self.model_config.try_get_generation_config()
        return settings.get("suppress_tokens") or []

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        logits = super().compute_logits(hidden_states)
        if logits is not None and self.suppressed:
            logits[:, self.suppressed] = float("-inf")
        return logits

    def embed_multimodal(self, **kwargs: Any) -> list[torch.Tensor]:
        """Features of all items of a batch, images before clips.

        Args:
            kwargs: By kind of item (`image`, `video`) what `_apply_hf_processor_main` made: pixels
                `(pictures, 3, H, W)` of all items, and for each its number of pictures and its marker.

        Returns:
            `(tokens, hidden_size)` of each item.
        """
        return [
            features
            for kind, pixels in PIXELS.items()
            if kwargs.get(pixels) is not None
            for features in self._features(kwargs[pixels], kwargs[f"{kind}_pictures"], kwargs[f"{kind}_marker"])
        ]

    def _features(self, pixels: torch.Tensor, pictures: torch.Tensor, markers: torch.Tensor) -> Iterator[torch.Tensor]:
        """Features `(tokens, hidden_size)` of each item, from the pixels of all `(pictures, 3, H, W)`."""
        blocks = pixels.split(pictures.flatten().tolist())
        for block, marker in zip(blocks, markers.flatten().tolist(), strict=True):
            if marker == self.config.change_token_id:
                yield self.model.get_change_features(block[None])[0]
            else:
                yield self.model.get_image_features(block).flatten(0, 1)
