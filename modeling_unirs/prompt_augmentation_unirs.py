"""Prompt augmentation (paper, section III-C): the frozen base model looks first, and its words enter the prompt."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .adapter_free_unirs import without_adapters
from .weights_hash_unirs import weights_hash

logger = logging.getLogger(__name__)

Conversation = list[dict[str, Any]]
# The base model's way: a pair is two plain images, and no tag tells it a task that it was not trained on.
BASE_TEMPLATE = {"change_extraction": False, "task_tag": False}
NO_PICTURE = "there is no picture"
EMPTY = "the base model's answer is empty"


@dataclass(frozen=True)
class Clue:
    """What enters the prompt; `text` is None where the prompt stays plain, and `failure` says why."""

    text: str | None
    failure: str | None = None


@dataclass(frozen=True)
class AnswersWithClues:
    """What `PromptAugmenter.generate` gives.

    Attributes:
        tokens: Generated ids `(conversations, new tokens)`.
        clues: One for each conversation.
        change_maps: `(pairs, grid, grid)`, if they were asked for.
    """

    tokens: torch.Tensor
    clues: list[Clue]
    change_maps: torch.Tensor | None = None


@dataclass(frozen=True)
class _Blocks:
    """The pictures of one conversation in the order of their features; `clips` holds the frames of each."""

    singles: int
    pairs: int
    clips: tuple[int, ...]


class PromptAugmenter:
    r"""Asks the base model for a clue about the pictures of a conversation.

    The base model is a second model, or **the one inside a model with adapters**, which is then used with the adapters
    left out, on the same weights; a model without adapters may be its own base. It sees a pair as two plain images.
    Its answer is greedy and is cleaned (one line, no markers, no roles: `clean_clue`). A clue that fails or is empty
    leaves the prompt as it is, and says so.

    ```python
    >>> augmenter = PromptAugmenter(base, processor)
    >>> messages = augmenter(messages)  # with an item {"type": "clue", "text": "a river between fields"}
    ```

    Args:
        base: [`UniRSForConditionalGeneration`], or a PEFT model around one.
        processor: [`UniRSProcessor`] of the base model.
        prompts: Questions by kind of input (`single`, `pair`, `video`) in place of the paper's (its table II).
        max_new_tokens: Longest clue in tokens.
        max_characters: Longest clue in characters.

    Raises:
        ValueError: The processor is not the base model's, or a prompt is of no known kind.
    """

    def __init__(
        self,
        base: Any,
        processor: Any,
        prompts: dict[str, str] | None = None,
        max_new_tokens: int = 32,
        max_characters: int = 300,
    ):
        self.base, self.processor = unwrapped(base), processor
        if getattr(self.base.config, "model_type", None) != "unirs":
            raise ValueError("the base must be a UniRS model; `unirs convert` makes one of VILA-1.5")
        unknown = sorted(set(prompts or {}) - set(processor.clue_prompts))
        if unknown:
            raise ValueError(f"clue prompts are for {', '.join(processor.clue_prompts)}, not for {unknown[0]}")
        self.prompts = {**processor.clue_prompts, **(prompts or {})}
        self.max_new_tokens, self.max_characters = max_new_tokens, max_characters
        self._compared: tuple | None = None
        self._alike = False
        names = ("image_token_id", "change_token_id", "frame_token_ids", "image_seq_length")
        differ = [name for name in names if getattr(self.base.config, name) != getattr(processor, name)]
        if differ:
            raise ValueError(f"the processor is not the base model's: {differ[0]} differs")

    def __call__(self, conversations: Any) -> Any:
        """One conversation or several, with a clue in the last turn that has pictures and has none yet."""
        if conversations and isinstance(conversations[0], dict):
            return self([conversations])[0]
        return [with_clue(one, clue) for one, clue in zip(conversations, self.clues(conversations), strict=True)]

    def clues(self, conversations: Sequence[Conversation], **processor_options: Any) -> list[Clue]:
        """The clue for each conversation, by full passes of the base model over all of them at once.

        Args:
            processor_options: For instance `num_frames`.
        """
        questions = [self.question(one) for one in conversations]
        asked = [one for one in questions if isinstance(one, list)]
        return self._in_place(questions, self.ask(self.encode(asked, **processor_options)) if asked else [])

    def encode(self, questions: list[Conversation], **processor_options: Any) -> dict[str, torch.Tensor]:
        """Questions (see `question`) to the inputs of the base model: all that needs no model."""
        return self.processor.apply_chat_template(
            questions,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left", **processor_options},
            **BASE_TEMPLATE,
        )

    def ask(self, inputs: dict[str, torch.Tensor]) -> list[Clue]:
        """The base model's clues for what `encode` gave."""
        return self._ask(without_adapters(self.base), inputs)

    @torch.no_grad()
    def generate(
        self,
        model: Any,
        conversations: Sequence[Conversation],
        inputs: dict[str, torch.Tensor],
        change_map: bool = False,
        **generate_options: Any,
    ) -> AnswersWithClues:
        """Clues and answers in one go. Tower and projector run once where the base model has the same ones.

        Args:
            model: What answers; a second model, or the one that holds the base model.
            inputs: What the processor made of the conversations, with pixels, on the model's device.
            change_map: Compute the change maps of pairs too.
            generate_options: Of the answers' `generate`.
        """
        network, base = unwrapped(model), without_adapters(self.base)
        # 1. Look: once for both where the weights are the same
        rows = self._blocks(inputs["input_ids"])
        shared = self.sees_alike(network.model, base.model)
        encoded_pairs = None
        if "pixel_values_pairs" in inputs:
            encoded_pairs = network.model.encode_pairs(inputs["pixel_values_pairs"])
        answer_features = project(network.model, inputs, encoded_pairs, fused=True)
        # 2. The base model's words
        questions = [self.question(one) for one in conversations]
        asked = [(one, row) for one, row in zip(questions, rows, strict=True) if isinstance(one, list)]
        found: list[Clue] = []
        if asked:
            if shared:
                clue_features = {
                    **{name: value for name, value in answer_features.items() if name != "change_features"},
                    **project(network.model, {}, encoded_pairs, fused=False),
                }
            else:
                pairs = inputs.get("pixel_values_pairs")
                clue_features = project(
                    base.model, inputs, None if pairs is None else base.model.encode_pairs(pairs), False
                )
            found = self._ask(base, self._question_inputs(questions, rows, clue_features))
        clues = self._in_place(questions, found)
        # 3. The answers
        augmented = [with_clue(one, clue) for one, clue in zip(conversations, clues, strict=True)]
        text = self._text(augmented, [frames for row in rows for frames in row.clips])
        if text["input_ids"].shape[1] >= self._longest(network):
            clues = [self._fail("the prompt has no room for it") if clue.text else clue for clue in clues]
            text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        text = {name: value.to(inputs["input_ids"].device) for name, value in text.items()}
        output = model.generate(**text, **answer_features, **generate_options)
        maps = network.model.change_map(encoded_pairs) if change_map and encoded_pairs is not None else None
        return AnswersWithClues(output[:, text["input_ids"].shape[1] :], clues, maps)

    def question(self, conversation: Conversation) -> Conversation | Clue:
        """What the base model is asked; or, where it need not be, the clue that is there, or why there is none."""
        turn = _turn_with_pictures(conversation)
        if turn is None:
            return Clue(None, NO_PICTURE)
        items = conversation[turn]["content"]
        if given := next((item["text"] for item in items if item["type"] == "clue" and item.get("text")), None):
            return Clue(given)
        pictures = [item for item in items if _is_picture(item)]
        images = sum(item["type"] != "video" for item in pictures)
        kind = "video" if images != len(pictures) or images > 2 else "pair" if images == 2 else "single"
        return [{"role": "user", "content": [*pictures, {"type": "text", "text": self.prompts[kind]}]}]

    def sees_alike(self, one: Any, other: Any) -> bool:
        """Whether two [`UniRSModel`]s give the same features of pictures: their towers and projectors, by hash."""
        parts = [(core.vision_tower, core.multi_modal_projector) for core in (one, other)]
        places = [
            tuple(map(_place, (tensor for part in pair for tensor in part.state_dict().values()))) for pair in parts
        ]
        if _settings(one.config) != _settings(other.config):
            return False
        if places[0] == places[1]:  # the very same memory
            return True
        if self._compared != (key := tuple(places)):  # read again only if a weight was moved or written to
            self._alike = weights_hash(parts[0]) == weights_hash(parts[1])
            self._compared = key
        return self._alike

    # -- pictures ----------------------------------------------------------------------------------------------------
    def _blocks(self, input_ids: torch.Tensor) -> list[_Blocks]:
        """The pictures of each row, read off its placeholders."""
        length = self.processor.image_seq_length
        frame_number = {token: number for number, token in enumerate(self.processor.frame_token_ids)}
        found = []
        for row in input_ids.tolist():
            numbers = [frame_number[token] for token in row if token in frame_number][::length]  # of frames in clips
            starts = [place for place, number in enumerate(numbers) if number == 0]
            ends = [*starts[1:], len(numbers)]
            clips = [end - start for start, end in zip(starts, ends, strict=False)]  # no start, no clip
            singles, pairs = (
                row.count(token) // length for token in (self.processor.image_token_id, self.processor.change_token_id)
            )
            found.append(_Blocks(singles, pairs, tuple(clips)))
        return found

    def _question_inputs(
        self, questions, rows: list[_Blocks], features: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Ids of the questions and, in their order, features of the turn that each is about: the last one's."""
        rest = {name: iter(value) for name, value in features.items()}
        images: list[torch.Tensor] = []
        frames: list[torch.Tensor] = []
        clip_lengths: list[int] = []
        for question, row in zip(questions, rows, strict=True):
            singles = [next(rest["image_features"]) for _ in range(row.singles)]
            pairs = [next(rest["pair_features"]) for _ in range(row.pairs)]  # (2, tokens, dim) each
            clips = [[next(rest["video_features"]) for _ in range(length)] for length in row.clips]
            if not isinstance(question, list):
                continue
            kinds = [item["type"] for item in question[0]["content"]]
            shown, videos = sum(kind.startswith("image") for kind in kinds), kinds.count("video")
            images += singles[-1:] if shown == 1 else pairs[-1] if shown == 2 else []
            for clip in clips[len(clips) - videos - (shown > 2) :]:
                frames += clip
                clip_lengths.append(len(clip))
        text = self._text([one for one in questions if isinstance(one, list)], clip_lengths, **BASE_TEMPLATE)
        seen = {"image_features": images, "video_features": frames}
        return {**text, **{name: torch.stack(parts) for name, parts in seen.items() if parts}}

    # -- words -------------------------------------------------------------------------------------------------------
    def _text(
        self, conversations: list[Conversation], clip_lengths: list[int], **template: Any
    ) -> dict[str, torch.Tensor]:
        prompts = self.processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=False, **template
        )
        bos = self.processor.tokenizer.bos_token
        encoded = self.processor.encode_text(
            prompts,
            clip_lengths,
            add_special_tokens=bos is None or not prompts[0].startswith(bos),
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def _ask(self, base: Any, inputs: dict[str, torch.Tensor]) -> list[Clue]:
        rows, length = inputs["input_ids"].shape
        if length + self.max_new_tokens > self._longest(base):
            return [
                self._fail(f"the base model reads {self._longest(base)} tokens, and the pictures need {length}")
            ] * rows
        inputs = {name: value.to(base.device) for name, value in inputs.items()}
        try:
            output = base.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens)
        except RuntimeError as error:  # the accelerator's memory, say: the answer may do without a clue
            return [self._fail(" ".join(str(error).split())[:300])] * rows
        said = self.processor.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        texts = [self.processor.clean_clue(one, self.max_characters) for one in said]
        return [Clue(text) if text else self._fail(EMPTY) for text in texts]

    def _fail(self, reason: str) -> Clue:
        logger.warning("no clue: %s; the prompt stays plain", reason)
        return Clue(None, reason)

    @staticmethod
    def _in_place(questions: Sequence[Conversation | Clue], found: list[Clue]) -> list[Clue]:
        rest = iter(found)
        return [next(rest) if isinstance(one, list) else one for one in questions]

    @staticmethod
    def _longest(network: Any) -> float:
        return getattr(network.config.text_config, "max_position_embeddings", None) or float("inf")


def with_clue(conversation: Conversation, clue: Clue) -> Conversation:
    """The conversation with the clue in its last turn that has pictures, unless that turn has one."""
    turn = _turn_with_pictures(conversation)
    if not clue.text or turn is None or any(item["type"] == "clue" for item in conversation[turn]["content"]):
        return conversation
    message = conversation[turn]
    content = [*message["content"], {"type": "clue", "text": clue.text}]
    return [*conversation[:turn], {**message, "content": content}, *conversation[turn + 1 :]]


def project(
    core: Any, inputs: dict[str, torch.Tensor], encoded_pairs: torch.Tensor | None, fused: bool
) -> dict[str, torch.Tensor]:
    """Language-model features of all pictures; pairs are fused, or give both dates' `(pairs, 2, tokens, dim)`."""
    features = {}
    if "pixel_values" in inputs:
        features["image_features"] = core.get_image_features(inputs["pixel_values"])
    if "pixel_values_videos" in inputs:
        features["video_features"] = core.get_video_features(inputs["pixel_values_videos"])
    if encoded_pairs is not None and fused:
        features["change_features"] = core.multi_modal_projector(core.change_extraction(encoded_pairs))
    elif encoded_pairs is not None:
        plain = core.multi_modal_projector(encoded_pairs.flatten(0, 1))
        features["pair_features"] = plain.unflatten(0, (-1, 2))  # (pairs, 2, tokens, dim)
    return features


def unwrapped(network: Any) -> Any:
    """The UniRS inside a PEFT model; itself otherwise."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _turn_with_pictures(conversation: Conversation) -> int | None:
    """Number of the last turn that has pictures."""
    turns = [
        number
        for number, message in enumerate(conversation)
        if not isinstance(message["content"], str) and any(map(_is_picture, message["content"]))
    ]
    return turns[-1] if turns else None


def _is_picture(item: dict[str, Any]) -> bool:
    return item["type"] in ("image", "image_url", "video")


def _place(tensor: torch.Tensor) -> tuple:
    """Where a weight lies, and how often it was written to."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tuple(tensor.shape), tensor.stride()


def _settings(config: Any) -> tuple:
    ignored = ("_name_or_path", "transformers_version", "dtype")
    vision = {key: value for key, value in config.vision_config.to_dict().items() if key not in ignored}
    return vision, config.vision_feature_layer, config.vision_feature_select_strategy


__all__ = ["AnswersWithClues", "Clue", "PromptAugmenter"]
