"""Three pipelines beside the stock `image-text-to-text`: one for each kind of sight."""

import os
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from torch.utils.data import Dataset
from transformers import GenerationConfig, Pipeline

FEWEST_DATES = 3  # of a sequence: two pictures are a pair
LONGEST_CLUE = 4000  # in characters, of one that is given: roles and markers are taken out, little is cut


class TooManyTokensError(ValueError):
    """Pictures and words are together more than the model reads."""


class UniRSPipeline(Pipeline):
    """Turns inputs into chat messages, asks the model, and returns `{"answer": text}` for each input.

    An input is a dict; a list of dicts gives a list of answers, `batch_size` of them asked at a time; a `Dataset` or a
    generator of dicts gives an iterator. `{"messages": chat}` is an input of every pipeline, so that kinds may be
    mixed. Further arguments of a call: `max_new_tokens` (64 where neither the call nor the model says otherwise),
    `num_beams`, `generate_kwargs` (the rest of `generate`; of `num_return_sequences` each input's answers are a list),
    and

    - `clue=True`: the base model looks first (prompt augmentation). Its words enter the prompt and come back as
      `clue`, or None and, as `no_clue`, why. The base model is `base`, a second model; without it the model itself,
      its adapters left out.
    - `clue=` a [`PromptAugmenter`]: the same with settings of yours.
    - `clue="words"`, or a field `clue` of an input: a clue that is there already.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _pipeline_calls_generate = True
    _default_generation_config = GenerationConfig(max_new_tokens=64)

    visual_fields: tuple[str, ...] = ()
    item_type = "image"
    words_field = "instruction"
    words_needed = False

    def _sanitize_parameters(
        self,
        clue: Any = None,
        base: Any = None,
        max_new_tokens: int | None = None,
        num_beams: int | None = None,
        generate_kwargs: dict | None = None,
    ) -> tuple[dict, dict, dict]:
        if clue is not None and not isinstance(clue, (bool, str)) and not hasattr(clue, "clues"):
            raise ValueError(f"clue is {clue!r}; give True, words, or a PromptAugmenter")
        preprocess = {} if clue is None else {"clue": clue}
        forward = {} if base is None else {"base": base}
        generate = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            generate["max_new_tokens"] = max_new_tokens
        if num_beams is not None:
            generate["num_beams"] = num_beams
        return preprocess, {**forward, "generate_kwargs": generate} if generate else forward, {}

    def messages(self, inputs: dict, clue: str | None = None) -> list[dict]:
        """The chat that an input stands for: its pictures, its words, its clue."""
        if isinstance(inputs, dict) and inputs.get("messages"):
            if inputs["messages"][-1].get("role") != "user":
                raise ValueError(
                    f"{self.task} answers chats whose last message is the user's; the image-text-to-text pipeline "
                    "goes on with an answer that is begun"
                )
            given = self.processor.clean_clue(inputs.get("clue") or clue or "", LONGEST_CLUE)
            return self.model.prompt_augmenter(self.processor).with_clue(inputs["messages"], given)
        needed = (*self.visual_fields, self.words_field) if self.words_needed else self.visual_fields
        missing = [name for name in needed if not isinstance(inputs, dict) or _is_nothing(inputs.get(name))]
        if missing:
            got = ", ".join(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            empty = [name for name in missing if isinstance(inputs, dict) and name in inputs]
            wrong = f"{', '.join(empty)} of this one is empty" if empty else f"this one has {got or 'nothing'}"
            raise ValueError(
                f"an input of {self.task} needs {', '.join(needed)}; {wrong} (several at once are a list of dicts)"
            )
        content = [item for name in self.visual_fields for item in self.items(inputs[name])]
        content.append({"type": "text", "text": inputs.get(self.words_field) or ""})
        clue = self.processor.clean_clue(inputs.get("clue") or clue or "", LONGEST_CLUE)
        if clue:
            content.append({"type": "clue", "text": clue})
        return [{"role": "user", "content": content}]

    def items(self, visual: Any) -> list[dict]:
        """What is shown, as items of a chat."""
        return [{"type": self.item_type, self.item_type: visual}]

    def _check_alone(self, words: str | None) -> None:
        """Inputs that are dicts bring their own words; others beside them would be dropped."""
        if words is not None:
            raise ValueError(
                f"{self.words_field} is given beside inputs that are dicts; write it into each of them as "
                f"{self.words_field!r}"
            )

    def get_iterator(
        self,
        inputs: Iterable[dict] | Dataset,
        num_workers: int | None,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> Iterator[dict | list[dict]]:
        """Batches as the processor does: the stock way pads tensors one by one and knows no pictures."""
        # A map-style Dataset need not raise IndexError behind its last row, where `iter` would end.
        rest = (
            map(inputs.__getitem__, range(len(inputs)))
            if isinstance(inputs, Sized) and not isinstance(inputs, Iterable)
            else iter(inputs)
        )
        while batch := list(islice(rest, batch_size)):
            yield from self._answers(self.forward(self._encode(batch, **preprocess_params), **forward_params))

    def preprocess(self, inputs: dict, **options: Any) -> dict:
        return self._encode([inputs], **options)

    def _encode(self, batch: list[dict], clue: Any = None, num_frames: int | None = None) -> dict:
        options = {} if num_frames is None else {"num_frames": num_frames}
        conversations = [self.messages(inputs, clue if isinstance(clue, str) else None) for inputs in batch]
        encoded = self.processor.encode_chats(conversations, {}, **options)
        longest = getattr(self.model.config.text_config, "max_position_embeddings", None)
        tokens = encoded["input_ids"].shape[1]
        if longest is not None and tokens >= longest:  # what lies behind is answered with nonsense
            raise TooManyTokensError(
                f"pictures and words make {tokens} tokens and the model reads {longest}; shorten the text, or give "
                "fewer pictures or frames"
            )
        if clue and not isinstance(clue, str):
            return {**encoded, "conversations": conversations, "augmenter": clue}
        return encoded

    def _forward(
        self, model_inputs: dict, generate_kwargs: dict | None = None, change_map: bool = False, base: Any = None
    ) -> dict:
        options = generate_kwargs or {}
        added = ("conversations", "augmenter")
        encoded = {name: value for name, value in model_inputs.items() if name not in added}
        # What `pipeline(..., max_new_tokens=...)` was given, and the defaults (in transformers 5.17 one object).
        if hasattr(self, "_prepare_generate_kwargs"):
            options = self._prepare_generate_kwargs(options, return_dict_in_generate=False)
        else:
            options = {"generation_config": self.generation_config, **options, "return_dict_in_generate": False}
        found: dict[str, Any] = {"inputs": len(encoded["input_ids"])}
        if augmenter := model_inputs.get("augmenter"):
            if augmenter is True:
                augmenter = self.model.prompt_augmenter(self.processor, base)
            both = augmenter.generate(self.model, model_inputs["conversations"], encoded, change_map, **options)
            found |= {"tokens": both.tokens, "clues": both.clues, "change_map": both.change_maps}
        else:
            output = self.model.generate(**encoded, **options)
            found["tokens"] = output[:, encoded["input_ids"].shape[1] :]
            if change_map and "pixel_values_pairs" in encoded:
                found["change_map"] = self.model.get_change_map(encoded["pixel_values_pairs"])
        if found.get("change_map") is not None:
            is_of_pair = encoded["input_ids"] == self.model.config.change_token_id
            found["pairs"] = (is_of_pair.sum(-1) // self.processor.image_seq_length).tolist()  # by conversation
        return found

    def postprocess(self, model_outputs: dict) -> dict | list[dict]:
        return self._answers(model_outputs)[0]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """The model and its processor, of which the stock way saves parts only."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _answers(self, model_outputs: dict) -> list[dict] | list[list[dict]]:
        """One result for each input, or, where `generate` gave several sequences, a list of them."""
        answers = self.processor.post_process_image_text_to_text(model_outputs["tokens"])
        results: list[dict] = [{"answer": answer} for answer in answers]
        several = len(results) // model_outputs["inputs"]
        clues, maps = model_outputs.get("clues"), ()
        if "pairs" in model_outputs:
            maps = model_outputs["change_map"].float().cpu().split(model_outputs["pairs"])
        for number, result in enumerate(results):
            if clues:
                clue = clues[number // several]
                result |= {"clue": clue.text} if clue.text else {"clue": None, "no_clue": clue.failure}
            if maps and len(of_input := maps[number // several]):
                result["change_map"] = of_input[-1].numpy()  # (grid, grid)
        if several == 1:
            return results
        return [results[first : first + several] for first in range(0, len(results), several)]


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_ready(inputs: Any) -> bool:
    """One dict, several in a list, or what streams them."""
    several = isinstance(inputs, list) and len(inputs) > 0 and all(isinstance(one, dict) for one in inputs)
    return several or isinstance(inputs, (dict, Iterator, Dataset))


class VisualQuestionAnsweringPipeline(UniRSPipeline):
    """`pipe(image, question)`, or `pipe([{"image": ..., "question": ...}, ...])`."""

    visual_fields = ("image",)
    words_field = "question"
    words_needed = True

    def __call__(self, image, question: str | None = None, **kwargs):
        if _is_ready(image):
            self._check_alone(question)
        inputs = image if question is None else {"image": image, "question": question}
        return super().__call__(inputs, **kwargs)


class ChangeCaptioningPipeline(UniRSPipeline):
    """`pipe(before, after, instruction)`, `pipe((before, after))`, or `pipe([{"before": ..., "after": ...}, ...])`.

    With `change_map=True` each answer also has `change_map`, `(grid, grid)`: 0 = same, 1 = different.
    """

    visual_fields = ("before", "after")

    def _sanitize_parameters(  # type: ignore[override]
        self, change_map: bool | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess, forward if change_map is None else {**forward, "change_map": change_map}, postprocess

    def __call__(self, before, after=None, instruction: str | None = None, **kwargs):
        if after is None and isinstance(before, tuple) and len(before) == 2:
            before, after = before
        if _is_ready(before):
            self._check_alone(instruction)
        inputs = before if after is None else {"before": before, "after": after, "instruction": instruction}
        return super().__call__(inputs, **kwargs)


class VideoSceneClassificationPipeline(UniRSPipeline):
    """`pipe(video, instruction)`, or `pipe([{"video": ...}, ...])`; a video is a file or a list of dated pictures.

    A list of plain paths or pictures is one sequence; a list of dicts is several. `num_frames` sets how many frames
    are taken; of dated pictures always the first and the last.
    """

    visual_fields = ("video",)
    item_type = "video"

    def _sanitize_parameters(  # type: ignore[override]
        self, num_frames: int | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess if num_frames is None else {**preprocess, "num_frames": num_frames}, forward, postprocess

    def items(self, visual: Any) -> list[dict]:
        if not isinstance(visual, (list, tuple)) or len(visual) < FEWEST_DATES:
            return super().items(visual)
        return [{"type": "image", "image": one} for one in visual]  # as a clip it would be shown without its end

    def __call__(self, video, instruction: str | None = None, **kwargs):
        if not _is_ready(video):
            return super().__call__({"video": video, "instruction": instruction}, **kwargs)
        self._check_alone(instruction)
        return super().__call__(video, **kwargs)


__all__ = ["ChangeCaptioningPipeline", "VideoSceneClassificationPipeline", "VisualQuestionAnsweringPipeline"]
