"""The processor: pictures, pairs, clips and words become one batch of tensors."""

from collections.abc import Sequence
from typing import Any

import transformers

if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 17):  # before an import fails with a riddle
    raise ImportError(
        f"UniRS needs transformers 5.17 or newer, and this is {transformers.__version__}: pip install -U transformers"
    )

from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin
from transformers.tokenization_utils_base import BatchEncoding, TextInput
from transformers.video_utils import VideoInput

# Some are named for transformers 4 alone, which copies only what is named in this file: its users are to read the
# refusal above, not of a missing file.
from .clue_text_unirs import clean_clue
from .frame_sampling_unirs import DatedSequence  # noqa: F401
from .image_loading_unirs import load_image  # noqa: F401
from .image_processing_unirs import UniRSImagesKwargs
from .jpeg_scans_unirs import has_many_scans  # noqa: F401
from .markers_unirs import (
    MARKER,
    chat_as_shown,
    chat_to_continue,
    deal_out,
    images_by_text,
    list_of_clips,
    offsets_in_given_text,
    videos_by_text,
)
from .prompts_unirs import (
    CHANGE_MARKER,
    CHAT_TEMPLATE,
    CLUE_PROMPTS,
    ESCAPE,
    FRAME_MARKERS,
    IMAGE_MARKER,
    MAX_FRAMES,
    VIDEO_MARKER,
)
from .video_loading_unirs import load_video  # noqa: F401
from .video_processing_unirs import UniRSVideoProcessor, UniRSVideosKwargs

LEFT_PADDED: dict[str, Any] = {"padding": True, "padding_side": "left"}  # answers of a batch begin at one place


class UniRSProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    images_kwargs: UniRSImagesKwargs
    videos_kwargs: UniRSVideosKwargs
    _defaults = {"text_kwargs": {"padding": False}}  # noqa: RUF012


class UniRSProcessor(ProcessorMixin):
    r"""Turns text with pictures and clips into the inputs of [`UniRSForConditionalGeneration`].

    The text says by markers what it consumes from one ordered list of images, and from the videos:
    `<image>` takes one image, `<Change Feature>` takes two (before, after), `<video>` takes one clip and becomes
    `<Frame 1>` ... `<Frame K>`. Chat messages get their markers from the chat template: one `image` item in a user
    turn is a single image, two are a pair, three or more a dated sequence (frames), a `video` item is a clip.

    In messages, marker strings that somebody typed stay text. `text=` is a finished prompt: markers in it are
    markers; pass user text through [`~UniRSProcessor.escape`] before you build it into one.

    Args:
        image_processor ([`UniRSImageProcessor`]): Settings for pictures and frames.
        tokenizer: A fast tokenizer that went through `unirs.processing.prepare_tokenizer`.
        patch_size (`int`, defaults to 14): Patch side of the vision tower in pixels.
        num_frames (`int`, defaults to 8): Frames taken from a clip, 1 to 64.
        padding_side (`str`, defaults to `"left"`): The tokenizer's. On the left, the answers of a
            batch begin behind the words of every row.
    """

    valid_processor_kwargs = UniRSProcessorKwargs
    clue_prompts = CLUE_PROMPTS  # by kind of input: single, pair, video

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        patch_size=14,
        num_frames=8,
        chat_template=None,
        padding_side="left",
    ):
        if not 1 <= num_frames <= MAX_FRAMES:
            raise ValueError(f"num_frames is {num_frames}; 1 to {MAX_FRAMES} are allowed")
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        _check_tokenizer(tokenizer)
        tokenizer.padding_side = padding_side
        self.patch_size = patch_size
        self.num_frames = num_frames
        self.image_token = IMAGE_MARKER
        self.video_token = VIDEO_MARKER
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_MARKER)
        self.change_token_id = tokenizer.convert_tokens_to_ids(CHANGE_MARKER)
        self.frame_token_ids = tokenizer.convert_tokens_to_ids(list(FRAME_MARKERS))
        # Sentencepiece writes a space before every piece of text, so also behind a marker; a fast tokenizer only
        # does it at the very start.
        first = tokenizer.tokenize("a", add_special_tokens=False)[0]
        self._after_marker = " " if first.startswith("\u2581") else ""

    @property
    def video_processor(self) -> UniRSVideoProcessor:
        """Made of the image processor as it is now: frames are treated as pictures are, also when it is changed."""
        settings = self.image_processor.to_dict()
        names = UniRSVideosKwargs.__annotations__.keys() - {"num_frames"}
        return UniRSVideoProcessor(
            num_frames=self.num_frames,
            **{name: settings[name] for name in names if settings.get(name) is not None},
        )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "padding_side": self.tokenizer.padding_side}

    @property
    def image_seq_length(self) -> int:
        """Tokens of one picture, fused pair or frame: 196 for 384 pixels in patches of 14."""
        return ((self.image_processor.size["height"] // self.patch_size + 1) // 2) ** 2

    @property
    def model_input_names(self) -> list[str]:
        return [
            *self.tokenizer.model_input_names,
            "pixel_values",
            "pixel_values_pairs",
            "pixel_values_videos",
        ]

    # `ProcessorMixin` reads these to tell text from pictures in `mm_token_type_ids`.
    @property
    def image_token_ids(self) -> list[int]:
        return [self.image_token_id, self.change_token_id]

    @property
    def video_token_ids(self) -> list[int]:
        return self.frame_token_ids

    def escape(self, text: str) -> str:
        """Makes user text safe to stand in a hand-built prompt: no marker or special token in it will act."""
        return text.replace("<", "<" + ESCAPE)

    def clean_clue(self, text: str, longest: int = 300) -> str:
        """What a model said, as a clue for a prompt: see `clean_clue` of clue_text_unirs.py."""
        added = self.tokenizer.added_tokens_decoder.values()
        return clean_clue(text, [token.content for token in added if token.special], longest)

    def __call__(
        self,
        images: ImageInput | None = None,
        text: TextInput | list[TextInput] | None = None,
        videos: VideoInput | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepares a batch.

        Args:
            images: One ordered list for each text, or one flat list that all texts consume in order. A picture is a
                path, bytes, a PIL image, an array or a tensor.
            text: One finished prompt or several, with markers.
            videos: Clips in the order of their markers: paths, bytes, lists of pictures, or arrays
                `(frames, height, width, 3)`. A `<video>` marker in a text without videos takes the text's images.
            kwargs: `padding`, `padding_side`, `return_tensors`, `num_frames`, `image_aspect_ratio`, ...

        Returns:
            `input_ids`, `attention_mask`, and where present `pixel_values (images, 3, H, W)`,
            `pixel_values_pairs (pairs, 2, 3, H, W)` and `pixel_values_videos (frames, 3, H, W)`.

        Raises:
            ValueError: Markers and pictures differ in number (both are named), or a picture cannot be read.
        """
        if images is None and text is None and videos is None:
            raise ValueError("You need to provide at least one input to call UniRSProcessor")
        merged = self._merge_kwargs(UniRSProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        texts = [text] if isinstance(text, str) else text
        if texts is None:
            return self._pixels_only(images, videos, merged)
        if not (isinstance(texts, (list, tuple)) and all(isinstance(one, str) for one in texts)):
            raise ValueError("`text` must be a string or a list of strings")
        if any("\ud800" <= char <= "\udfff" for one in texts for char in one):
            raise ValueError("the text holds half characters (lone surrogates); it was not decoded as UTF-8")

        # 1. Pictures to pixels
        data, frames_per_video = self._pixels(texts, images, videos, merged)

        # 2. Markers to placeholders, words to ids
        text_kwargs = merged["text_kwargs"]
        for name in ("return_text_replacement_offsets", "return_mm_token_type_ids"):
            text_kwargs[name] = text_kwargs.get(name, False) or merged.get(name)
        encoded = self.encode_text(texts, frames_per_video, **text_kwargs)
        return BatchFeature(
            {**encoded, **data},
            tensor_type=text_kwargs.get("return_tensors"),
            skip_tensor_conversion=self.skip_tensor_conversion,
        )

    def encode_text(
        self,
        texts: Sequence[str],
        frames_per_video: Sequence[int] = (),
        return_text_replacement_offsets: bool | None = False,
        return_mm_token_type_ids: bool | None = False,
        **text_kwargs: Any,
    ) -> BatchEncoding:
        """Finished prompts to ids, for pictures whose features are known: with `image_features`, `change_features` and
        `video_features` in place of pixels the model takes what comes out.

        Args:
            frames_per_video: Frames of each clip, in the order of the `<video>` markers of all texts.
            text_kwargs: Of the tokenizer: `padding`, `padding_side`, `add_special_tokens`, `return_tensors`, ...

        Raises:
            ValueError: A frame marker stands in a text, or truncation has cut placeholders off.
        """
        markers = [MARKER.findall(one) for one in texts]
        expanded, offsets = self._expand(list(texts), iter(frames_per_video))
        encoded = self.tokenizer(expanded, **text_kwargs)
        self._check_not_truncated(markers, frames_per_video, encoded["input_ids"])
        if "offset_mapping" in encoded:
            # Positions in the text as it was given, so that nobody (transformers up to 5.19 cannot) has to shift them.
            encoded["offset_mapping"] = [
                offsets_in_given_text(tokens, replaced, len(self._after_marker))
                for tokens, replaced in zip(encoded["offset_mapping"], offsets, strict=True)
            ]
        elif return_text_replacement_offsets:
            encoded["text_replacement_offsets"] = offsets
        if return_mm_token_type_ids:
            encoded["mm_token_type_ids"] = self.create_mm_token_type_ids(encoded["input_ids"])
        return encoded

    def encode_chats(
        self, conversations: Sequence[list[dict]], template: dict[str, Any], **options: Any
    ) -> BatchFeature:
        """Chats with their pictures to left-padded tensors, ready for `generate`.

        Args:
            template: Options of the chat template: `change_extraction`, `task_tag`.
            options: Of the processor, for instance `num_frames`.
        """
        return self.apply_chat_template(
            list(conversations),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={**LEFT_PADDED, **options},
            **template,
        )

    def encode_chat_text(
        self, conversations: Sequence[list[dict]], frames_per_video: Sequence[int], template: dict[str, Any]
    ) -> BatchEncoding:
        """The words of `encode_chats` alone, for pictures whose features are known (see `encode_text`)."""
        prompts = self.apply_chat_template(list(conversations), add_generation_prompt=True, tokenize=False, **template)
        bos = self.tokenizer.bos_token
        special = bos is None or not prompts[0].startswith(bos)  # as `apply_chat_template` decides it
        return self.encode_text(
            prompts, frames_per_video, add_special_tokens=special, return_tensors="pt", **LEFT_PADDED
        )

    def _pixels(self, texts: Sequence[str], images, videos, merged: dict) -> tuple[dict[str, Any], list[int]]:
        """Pixels of all pictures by the model's names for them, and the frames of each clip."""
        # 1. Which pictures belong to which marker
        markers = [MARKER.findall(one) for one in texts]
        images_of = images_by_text(images, markers)
        videos_of = videos_by_text(videos, markers)
        singles: list = []
        pairs: list = []
        clips: list = []
        for index, names in enumerate(markers):
            deal_out(index, names, images_of[index], videos_of[index], singles, pairs, clips)

        # 2. Each kind by itself
        data: dict[str, Any] = {}
        image_kwargs = {**merged["images_kwargs"], "return_tensors": "pt"}
        if singles:
            data["pixel_values"] = self.image_processor(singles, **image_kwargs)["pixel_values"]
        if pairs:
            pixels = self.image_processor(pairs, **image_kwargs)["pixel_values"]
            data["pixel_values_pairs"] = pixels.unflatten(0, (-1, 2))  # (pairs, 2, 3, H, W)
        if not clips:
            return data, []
        num_frames = merged["videos_kwargs"].pop("num_frames", None)
        num_frames = self.num_frames if num_frames is None else num_frames
        if num_frames > MAX_FRAMES:
            raise ValueError(f"{num_frames} frames were asked for; a clip has at most {MAX_FRAMES}")
        prepared = self.video_processor(clips, num_frames=num_frames, **merged["videos_kwargs"])
        data["pixel_values_videos"] = prepared["pixel_values_videos"]
        return data, prepared["frames_per_video"]

    def _pixels_only(self, images, videos, merged: dict) -> BatchFeature:
        data = {}
        if images is not None:
            data.update(self.image_processor(images, **{**merged["images_kwargs"], "return_tensors": "pt"}))
        if videos is not None:
            kwargs = merged["videos_kwargs"]
            if kwargs.get("num_frames") is None:
                kwargs = {**kwargs, "num_frames": self.num_frames}
            data["pixel_values_videos"] = self.video_processor(list_of_clips(videos), **kwargs)["pixel_values_videos"]
        return BatchFeature(data)

    def _expand(self, texts: list[str], frames_per_video) -> tuple[list[str], list[list[dict]]]:
        """Writes as many placeholders as there are features; notes where, for masks over the original text."""
        offsets = []
        for index, text in enumerate(texts):
            pieces, noted, last, shift = [], [], 0, 0
            for match in MARKER.finditer(text):
                start, end = match.span()
                if match.group() == VIDEO_MARKER:
                    frames = FRAME_MARKERS[: next(frames_per_video)]
                    between = self._after_marker + "\n"
                    block = between.join(frame * self.image_seq_length for frame in frames)
                else:
                    block = match.group() * self.image_seq_length
                follows = text[end : end + 1]
                new = block + self._after_marker if follows and not MARKER.match(text, end) else block
                noted.append(
                    {
                        "type": "video" if match.group() == VIDEO_MARKER else "image",
                        "span": (start, end),
                        "new_span": (start + shift, start + shift + len(new)),
                        "text": match.group(),
                        # For vLLM, which asks for it with bare markers and puts it into chats, where a line follows.
                        "replacement": block + self._after_marker,
                    }
                )
                pieces += [text[last:start], new]
                last, shift = end, shift + len(new) - (end - start)
            texts[index] = "".join([*pieces, text[last:]])
            offsets.append(noted)
        return texts, offsets

    def _check_not_truncated(self, markers: list[list[str]], frames_per_video: Sequence[int], input_ids) -> None:
        videos = iter(frames_per_video)
        visual = {self.image_token_id, self.change_token_id, *self.frame_token_ids}
        for index, (names, ids) in enumerate(zip(markers, input_ids, strict=True)):
            blocks = sum(next(videos) if name == VIDEO_MARKER else 1 for name in names)
            wanted = blocks * self.image_seq_length
            found = sum(token in visual for token in (ids.tolist() if hasattr(ids, "tolist") else ids))
            if found > wanted:
                raise ValueError(
                    f"text {index} has {found} visual placeholders and its pictures need {wanted}: a marker such as "
                    "<Frame 1> stands in it; write <video> for a clip, and pass user text through processor.escape"
                )
            if found < wanted:
                raise ValueError(
                    f"text {index} needs {wanted} placeholders for its pictures and has {found} after truncation; "
                    "raise max_length or switch truncation off"
                )

    def apply_chat_template(self, conversation, *args, tokenize=False, **kwargs):
        """The stock method, on chats with what they show as UniRS takes it (`chat_as_shown`)."""

        def shown(chat: list[dict]) -> list[dict]:
            chat = chat_as_shown(chat, tokenize)
            return chat_to_continue(chat) if kwargs.get("continue_final_message") else chat

        if conversation and isinstance(conversation[0], (list, tuple)):
            conversation = [shown(one) for one in conversation]
        else:
            conversation = shown(conversation)
        return super().apply_chat_template(conversation, *args, tokenize=tokenize, **kwargs)

    def _get_num_multimodal_tokens(self, image_sizes=None, **kwargs) -> MultiModalData:
        """Tokens and patches of pictures of the given sizes: every picture costs the same. Read by vLLM."""
        if image_sizes is None:
            return MultiModalData()
        count = len(image_sizes)
        return MultiModalData(num_image_tokens=[self.image_seq_length] * count, num_image_patches=[1] * count)

    def post_process_image_text_to_text(self, generated_outputs, skip_special_tokens=True, **kwargs) -> list[str]:
        """Generated ids to answers."""
        decoded = self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        return [answer.strip() if skip_special_tokens else answer for answer in decoded]


def _check_tokenizer(tokenizer) -> None:
    """Every marker must be one special token, and must lose its force when it is escaped."""
    for marker in (IMAGE_MARKER, CHANGE_MARKER, *FRAME_MARKERS):
        plain = tokenizer.tokenize(marker, add_special_tokens=False)
        escaped = tokenizer.tokenize(marker.replace("<", "<" + ESCAPE), add_special_tokens=False)
        if plain != [marker] or marker in escaped or ESCAPE in "".join(escaped):
            raise ValueError(
                f"the tokenizer does not know the visual marker {marker}; "
                "call unirs.processing.prepare_tokenizer(tokenizer) first"
            )


__all__ = ["UniRSProcessor"]
