"""Prompt augmentation (paper, section III-C): the frozen base model looks first, and its words enter the prompt."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .adapter_free_unirs import without_adapters
from .shared_features_unirs import Shown, answer_features, blocks_of, own_features, pair_features, see_alike, shown_by

logger = logging.getLogger(__name__)

Conversation = list[dict[str, Any]]
# The base model's way: a pair is two plain images, and no tag tells it a task that it was not trained on.
BASE_TEMPLATE = {"change_extraction": False, "task_tag": False}
NO_PICTURE = "there is no picture"
EMPTY = "the base model's answer is empty"
NO_ROOM = "the prompt has no room for it"


class PromptTooLongError(ValueError):
    """A question with its pictures is longer than the base model reads."""


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


class PromptAugmenter:
    r"""Asks the base model for a clue about the pictures of a conversation.

    The base model is a second model, or **the one inside a model with adapters**, which is then used with the adapters
    left out, on the same weights; a model without adapters may be its own base. It sees a pair as two plain images.
    Its answer is greedy and is cleaned (one line, no markers, no roles: `clean_clue`). A clue that fails or is empty
    leaves the prompt as it is, and says so; only where the accelerator's memory does not hold several conversations at
    once, the error is the caller's, who can ask fewer.

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
        if getattr(getattr(self.base, "config", None), "model_type", None) != "unirs":
            raise ValueError(
                f"the base must be a UniRS model that is loaded, not {type(base).__name__}; `unirs convert` makes one "
                "of VILA-1.5"
            )
        for kind, words in (prompts or {}).items():
            if kind not in processor.clue_prompts or not words.strip():
                raise ValueError(
                    f"clue prompts are words for {', '.join(processor.clue_prompts)}, not {kind}={words!r}"
                )
        if max_new_tokens < 1 or max_characters < 1:
            raise ValueError(
                f"a clue of {max_new_tokens} tokens and {max_characters} characters is none; give 1 or more"
            )
        self.prompts = {**processor.clue_prompts, **(prompts or {})}
        self.max_new_tokens, self.max_characters = max_new_tokens, max_characters
        names = ("image_token_id", "change_token_id", "frame_token_ids", "image_seq_length")
        differ = [name for name in names if getattr(self.base.config, name) != getattr(processor, name)]
        if differ:
            raise ValueError(f"the processor is not the base model's: {differ[0]} differs")

    def __call__(self, conversations: Any) -> Any:
        """One conversation or several, with a clue in the last turn that has pictures and has none yet."""
        if conversations and isinstance(conversations[0], dict):
            return self([conversations])[0]
        clues = self.clues(conversations)
        return [self.with_clue(one, clue.text) for one, clue in zip(conversations, clues, strict=True)]

    @staticmethod
    def with_clue(conversation: Conversation, clue: str | None) -> Conversation:
        """The conversation with a clue in its last turn that has pictures, unless that turn has one."""
        turn = _turn_with_pictures(conversation)
        if not clue or turn is None or _clue_of(conversation[turn]):
            return conversation
        message = conversation[turn]
        items = [item for item in message["content"] if item["type"] != "clue"]  # an empty one
        content = [*items, {"type": "clue", "text": clue}]
        return [*conversation[:turn], {**message, "content": content}, *conversation[turn + 1 :]]

    def clues(self, conversations: Sequence[Conversation], **processor_options: Any) -> list[Clue]:
        """The clue for each conversation, by full passes of the base model over all of them at once.

        Args:
            processor_options: For instance `num_frames`.

        Raises:
            ValueError: A picture cannot be read; it is named.
        """
        questions = [self.question(one) for one in conversations]

        def encode(places: list[int]) -> dict[str, torch.Tensor]:
            return self.encode([questions[place] for place in places], **processor_options)  # type: ignore[misc]

        return self._clues(questions, encode)

    @torch.no_grad()
    def generate(
        self,
        model: Any,
        conversations: Sequence[Conversation],
        inputs: dict[str, torch.Tensor],
        change_map: bool = False,
        template: dict[str, Any] | None = None,
        **generate_options: Any,
    ) -> AnswersWithClues:
        """Clues and answers in one go. Tower and projector run once where the base model has the same ones.

        Args:
            model: What answers; a second model, or the one that holds the base model.
            inputs: What the processor made of the conversations, with pixels, on the model's device.
            change_map: Compute the change maps of pairs too.
            template: Options of the chat template that `inputs` were made with, such as `task_tag`.
            generate_options: Of the answers' `generate`.

        Raises:
            ValueError: Inputs and conversations do not belong together.
        """
        network, base = unwrapped(model), without_adapters(self.base)
        rows = blocks_of(inputs["input_ids"], self.processor)
        # 1. Look
        pairs = inputs.get("pixel_values_pairs")
        encoded_pairs = None if pairs is None else network.model.encode_pairs(pairs)
        features = answer_features(network.model, inputs, encoded_pairs)
        # 2. The base model's words, of the same look where the weights are the same
        questions = [self.question(one) for one in conversations]
        shown: list[Shown | None] = []

        def encode(places: list[int]) -> dict[str, torch.Tensor]:
            if not shown:
                seen = dict(features)
                if not see_alike(network.model, base.model):
                    seen = own_features(base.model, inputs)
                elif encoded_pairs is not None:
                    seen["pair_features"] = pair_features(network.model, encoded_pairs)
                shown.extend(shown_by(questions, rows, seen))
            return self._question_inputs([(questions[place], shown[place]) for place in places])

        clues = self._clues(questions, encode)
        # 3. The answers
        clips = [frames for row in rows for frames in row.clips]
        clues, text = self._augmented(conversations, questions, clues, clips, template or {}, network)
        text = {name: value.to(inputs["input_ids"].device) for name, value in text.items()}
        output = model.generate(**text, **features, **generate_options)
        maps = network.model.change_map(encoded_pairs) if change_map and encoded_pairs is not None else None
        return AnswersWithClues(output[:, text["input_ids"].shape[1] :], clues, maps)

    def question(self, conversation: Conversation) -> Conversation | Clue:
        """What the base model is asked; or, where it need not be, the clue that is there, or why there is none."""
        turn = _turn_with_pictures(conversation)
        if turn is None:
            return Clue(None, NO_PICTURE)
        if given := _clue_of(conversation[turn]):
            return Clue(given)
        pictures = [item for item in conversation[turn]["content"] if _is_picture(item)]
        images = sum(item["type"] in ("image", "image_url") for item in pictures)
        kind = "video" if images != len(pictures) or images > 2 else "pair" if images == 2 else "single"
        return [{"role": "user", "content": [*pictures, {"type": "text", "text": self.prompts[kind]}]}]

    def encode(self, questions: list[Conversation], **processor_options: Any) -> dict[str, torch.Tensor]:
        """Questions (see `question`) to the inputs of the base model: all that needs no model."""
        return self.processor.encode_chats(questions, BASE_TEMPLATE, **processor_options)

    @torch.no_grad()
    def ask(self, inputs: dict[str, torch.Tensor], **generate_options: Any) -> list[Clue]:
        """The base model's clues for what `encode` gave.

        Args:
            generate_options: What else its `generate` is given, such as `stopping_criteria`.

        Raises:
            PromptTooLongError: A row has no room for a clue within what the base model reads.
        """
        base = without_adapters(self.base)
        longest, needed = _longest(base), int(inputs["attention_mask"].sum(-1).max())
        if needed + self.max_new_tokens > longest:
            raise PromptTooLongError(f"the base model reads {longest} tokens, and the pictures need {needed}")
        inputs = {name: value.to(base.device) for name, value in inputs.items()}
        greedy = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}
        output = base.generate(**inputs, max_new_tokens=self.max_new_tokens, **greedy, **generate_options)
        new = output[:, inputs["input_ids"].shape[1] :]
        said = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        texts = [self.processor.clean_clue(one, self.max_characters) for one in said]
        return [Clue(text) if text else _fail(EMPTY) for text in texts]

    def _clues(self, questions: Sequence[Conversation | Clue], encode: Callable[[list[int]], Any]) -> list[Clue]:
        """Those that are there, and the base model's for the questions; `encode` makes inputs of those at places."""

        def ask(places: list[int]) -> list[Clue]:
            if not places:
                return []
            try:
                return self.ask(encode(places))
            except PromptTooLongError as error:  # of one of them; the others are asked
                return [_fail(str(error))] if len(places) == 1 else [clue for one in places for clue in ask([one])]
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError) and len(places) > 1:
                    raise
                return [_fail(" ".join(str(error).split())[:300])] * len(places)

        found = iter(ask([place for place, one in enumerate(questions) if not isinstance(one, Clue)]))
        return [one if isinstance(one, Clue) else next(found) for one in questions]

    def _question_inputs(self, asked: list[tuple[Any, Any]]) -> dict[str, torch.Tensor]:
        """Ids of questions with the features of what they show in place of pixels."""
        clips = [clip for _, shown in asked for clip in shown.clips]
        inputs = self._text([question for question, _ in asked], [len(clip) for clip in clips], BASE_TEMPLATE)
        images = [image for _, shown in asked for image in shown.images]
        frames = [frame for clip in clips for frame in clip]
        for name, parts in (("image_features", images), ("video_features", frames)):
            if parts:
                inputs[name] = torch.stack(parts)  # (blocks, tokens, dim)
        return inputs

    def _augmented(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[Conversation | Clue],
        clues: list[Clue],
        clips: list[int],
        template: dict[str, Any],
        network: Any,
    ) -> tuple[list[Clue], dict[str, torch.Tensor]]:
        """Ids of the prompts with their clues; a new clue that has no room in its prompt is left out."""
        prompts = [self.with_clue(one, clue.text) for one, clue in zip(conversations, clues, strict=True)]
        text = self._text(prompts, clips, template)
        too_long = [length >= _longest(network) for length in text["attention_mask"].sum(-1).tolist()]
        out = [
            long and bool(clue.text) and isinstance(question, list)
            for long, clue, question in zip(too_long, clues, questions, strict=True)
        ]
        if not any(out):
            return clues, text
        clues = [_fail(NO_ROOM) if no_room else clue for no_room, clue in zip(out, clues, strict=True)]
        return self._augmented(conversations, questions, clues, clips, template, network)

    def _text(
        self, conversations: Sequence[Conversation], clips: list[int], template: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        encoded = self.processor.encode_chat_text(conversations, clips, template)
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}  # (conversations, tokens)


def unwrapped(network: Any) -> Any:
    """The UniRS inside a PEFT model; itself otherwise."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _fail(reason: str) -> Clue:
    logger.warning("no clue: %s; the prompt stays plain", reason)
    return Clue(None, reason)


def _longest(network: Any) -> float:
    return getattr(network.config.text_config, "max_position_embeddings", None) or float("inf")


def _turn_with_pictures(conversation: Conversation) -> int | None:
    """Number of the last turn that has pictures."""
    turns = [
        number
        for number, message in enumerate(conversation)
        if not isinstance(message["content"], str) and any(map(_is_picture, message["content"]))
    ]
    return turns[-1] if turns else None


def _clue_of(message: dict[str, Any]) -> str | None:
    clues = [(item.get("text") or "").strip() for item in message["content"] if item["type"] == "clue"]
    return next(filter(None, clues), None)


def _is_picture(item: dict[str, Any]) -> bool:
    return item["type"] in ("image", "image_url", "video", "video_url")


__all__ = ["AnswersWithClues", "Clue", "PromptAugmenter"]
