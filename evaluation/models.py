"""Models that benchmarks are asked of: UniRS, and any image-text-to-text model of transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Protocol

import torch

from ..hub.loading import LoadingError, load_network
from ..modeling_unirs import PromptAugmenter
from ..processing.frame_sampling_unirs import sample_date_indices
from ..trainers.data_sets import DataError
from .answer_score import ChosenProbabilities
from .model_hash import model_hash
from .seen_pictures import SEEN_BYTES, Digests, SeenPictures, digests
from .visuals import Messages, open_visuals

READERS = min(8, os.cpu_count() or 1)  # threads that decode pictures
NUM_FRAMES = 8  # of a clip, for models that do not say how many they take (the paper's number)
# What would draw lots or search; taken out, so that generation is greedy whatever the checkpoint's own settings.
NOT_GREEDY = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "penalty_alpha")


@dataclass(frozen=True)
class Prepared:
    """A batch before the model: its tensors on the CPU, left-padded, each row's prompt in words, pictures by name."""

    inputs: Any
    prompts: list[str]
    conversations: Sequence[Messages] = ()
    digests: Digests = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """An answer; where clues are asked for, the base model's clue, or None and why; and the answer's score.

    `score` is the geometric mean of its tokens' probabilities, the end of the answer among them: 0 to 1.
    """

    text: str
    clue: str | None = None
    no_clue: str | None = None
    score: float | None = None


class Model(Protocol):
    """What the runner needs of a model.

    Conversations are chats of transformers up to the question; a `{"type": "clue", "text": ...}` item enters the
    prompt as `Clue: ...` behind the words.
    """

    num_frames: int

    def prepare(self, conversations: Sequence[Messages], max_new_tokens: int) -> Prepared:
        """On the CPU, in any thread, while another batch generates. Raises `ValueError` if a row cannot be asked."""

    def generate(self, prepared: Prepared, max_new_tokens: int) -> list[Said]: ...

    def description(self) -> dict[str, Any]:
        """Name, hash, type of numbers and device, by which a run can be repeated."""


class ImageTextModel:
    """Any image-text-to-text model of transformers (LLaVA, Qwen-VL, SmolVLM, ...), asked greedily.

    Pairs and clips go in as several images, in order; a clip as `num_frames` of its frames.
    """

    num_frames = NUM_FRAMES

    def __init__(self, name: str, network: Any, processor: Any):
        self.name, self.network, self.processor = name, network.eval(), processor
        tokenizer = processor.tokenizer
        if tokenizer.pad_token is None:  # LLaMA's kind: what stands left of a prompt is masked, whatever it is
            tokenizer.pad_token = tokenizer.eos_token
        settings = network.generation_config
        settings.do_sample, settings.num_beams, settings.pad_token_id = False, 1, tokenizer.pad_token_id
        for option in NOT_GREEDY:
            setattr(settings, option, None)
        self._readers = ThreadPoolExecutor(READERS)
        # A fast tokenizer sets its padding anew on each call and refuses ("Already borrowed") while another thread
        # uses it. The runner has nothing to do meanwhile: it waits for the next batch anyway.
        self._tokenizing = Lock()

    def chat(self, messages: Messages) -> Messages:
        """Opened messages in the form that the model's chat template takes."""
        chat = []
        for message in messages:
            content = message["content"]
            items = [{"type": "text", "text": content}] if isinstance(content, str) else content
            images = [item["image"] for item in items if item["type"] == "image"]
            if len(images) > 2:  # a dated sequence is a clip
                images = [images[place] for place in sample_date_indices(len(images), self.num_frames)]
            images += [frame for item in items if item["type"] == "video" for frame in item["video"]]
            words = [item["text"] for item in items if item["type"] == "text"]
            words += [f"Clue: {item['text'].strip()}" for item in items if item["type"] == "clue"]
            shown = [{"type": "image", "image": image} for image in images]
            chat.append({"role": message["role"], "content": [*shown, {"type": "text", "text": " ".join(words)}]})
        return chat

    def prepare(self, conversations: Sequence[Messages], max_new_tokens: int) -> Prepared:
        """Pictures opened, words and pixels as tensors, left-padded.

        Args:
            max_new_tokens: The answer's; the model reads its own answer behind the prompt.

        Raises:
            ValueError: A picture or clip cannot be read, or a row and its answer are longer than the model reads.
        """
        chats = [self.chat(one) for one in open_visuals(conversations, self.num_frames, self._readers)]
        with self._tokenizing:
            prompts = self.processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
            inputs = self.processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True, "padding_side": "left"},
            )
        longest = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        tokens = inputs["input_ids"].shape[1]
        if longest is not None and tokens + max_new_tokens > longest:  # what lies behind is answered with nonsense
            raise ValueError(
                f"pictures and words make {tokens} tokens and the model reads {longest}, its answer of up to "
                f"{max_new_tokens} among them; shorten the words, show fewer pictures, or allow fewer new tokens"
            )
        # The type here, where another batch generates meanwhile.
        return Prepared(inputs.to(dtype=self.network.dtype), prompts, chats)

    @torch.inference_mode()
    def generate(self, prepared: Prepared, max_new_tokens: int) -> list[Said]:
        """One answer for each row, stripped, in order."""
        inputs = self.network_inputs(prepared)
        chosen = ChosenProbabilities()
        output = self.network.generate(**inputs, max_new_tokens=max_new_tokens, logits_processor=chosen.as_list())
        new = output[:, inputs["input_ids"].shape[1] :]  # (rows, new tokens)
        scores = chosen.scores(new, self.network.generation_config.eos_token_id)
        return [Said(text, score=score) for text, score in zip(self.decode(new), scores, strict=True)]

    def network_inputs(self, prepared: Prepared) -> Any:
        return prepared.inputs.to(self.network.device)

    def decode(self, new: torch.Tensor) -> list[str]:
        with self._tokenizing:
            return [one.strip() for one in self.processor.batch_decode(new, skip_special_tokens=True)]

    def answer(self, conversations: Sequence[Messages], max_new_tokens: int) -> list[str]:
        """For those in no hurry: the runner prepares the next batch while one generates."""
        return [said.text for said in self.generate(self.prepare(conversations, max_new_tokens), max_new_tokens)]

    def description(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "model_sha256": model_hash(self.name),
            "dtype": str(self.network.dtype).removeprefix("torch."),
            "device": self.network.device.type,
            "clue": None,
        }


class UniRS(ImageTextModel):
    """UniRS: pairs are fused, clips are frames, tags and clues are written by its own chat template."""

    augmenter: PromptAugmenter | None = None
    base: str | None = None

    def __init__(self, name: str, network: Any, processor: Any):
        super().__init__(name, network, processor)
        self.num_frames = processor.num_frames
        self.seen = SeenPictures(network.model, SEEN_BYTES)

    def chat(self, messages: Messages) -> Messages:
        return messages

    def prepare(self, conversations: Sequence[Messages], max_new_tokens: int) -> Prepared:
        prepared = super().prepare(conversations, max_new_tokens)
        if self.augmenter is not None:  # it looks itself, once for clue and answer
            return prepared
        return replace(prepared, digests=digests(prepared.inputs))

    def network_inputs(self, prepared: Prepared) -> Any:
        """With features in place of pixels: many questions of a data set show one picture."""
        words = {
            name: value.to(self.network.device)
            for name, value in prepared.inputs.items()
            if name not in prepared.digests
        }
        return words | self.seen.features(prepared.inputs, prepared.digests)

    def ask_for_clues(self, base: str | None = None) -> None:
        """From now on the base model looks first, and its words enter each prompt that has no clue yet.

        Args:
            base: Folder or hub id of the base model; None is this model itself, its adapter left out.

        Raises:
            DataError: It cannot be loaded, or reads words or pictures otherwise than this model.
        """
        network, self.base = None, base
        if base is not None:
            other = load_model(base, self.network.device, self.network.dtype)
            mine, its = self.processor, other.processor
            alike = mine.tokenizer.get_vocab() == its.tokenizer.get_vocab()
            if not alike or mine.image_processor.to_dict() != its.image_processor.to_dict():
                raise DataError(
                    f"{base}: reads {'pictures' if alike else 'words'} otherwise than {self.name}; give the base that "
                    "it was tuned from"
                )
            network = other.network
        self.augmenter = self.network.prompt_augmenter(self.processor, network)

    def generate(self, prepared: Prepared, max_new_tokens: int) -> list[Said]:
        if self.augmenter is None:
            return super().generate(prepared, max_new_tokens)
        inputs = prepared.inputs.to(self.network.device)
        chosen = ChosenProbabilities()
        options = {"max_new_tokens": max_new_tokens, "logits_processor": chosen.as_list()}
        found = self.augmenter.generate(self.network, prepared.conversations, inputs, **options)
        scores = chosen.scores(found.tokens, self.network.generation_config.eos_token_id)
        together = zip(self.decode(found.tokens), found.clues, scores, strict=True)
        return [Said(text, clue.text, clue.failure, score) for text, clue, score in together]

    def description(self) -> dict[str, Any]:
        """With `clue`, all that clues depend on; None without."""
        known = super().description()
        if self.augmenter is not None:
            base = self.base or self.name
            asked = {"prompts": self.augmenter.prompts, "max_new_tokens": self.augmenter.max_new_tokens}
            known["clue"] = {"base_sha256": model_hash(base), "is_the_model_itself": self.base is None, **asked}
        return known


def load_model(name: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> ImageTextModel:
    """A model from its folder or hub id; a folder with an adapter (PEFT) has its base loaded with it.

    Args:
        dtype: Default: float32 on the CPU, where answers then are the same whatever the batch size; elsewhere the
            checkpoint's own.

    Raises:
        DataError: It cannot be loaded, or weights are missing; one line.
    """
    wanted = dtype or (torch.float32 if torch.device(device).type == "cpu" else "auto")
    try:
        network, processor = load_network(name, wanted, "an image-text-to-text model")
    except LoadingError as error:
        raise DataError(f"{name}: {error}") from error
    kind = UniRS if network.config.model_type == "unirs" else ImageTextModel
    return kind(name, network.to(device), processor)
