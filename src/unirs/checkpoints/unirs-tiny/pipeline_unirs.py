"""Three pipelines beside the stock `image-text-to-text`: one for each kind of sight."""

from typing import Any

from transformers import Pipeline


class UniRSPipeline(Pipeline):
    """Turns inputs into one chat message, asks the model, and returns `{"answer": text}` for each input.

    Further arguments of a call: `clue` (a hint that enters the prompt), `max_new_tokens`, `num_beams`, and
    `generate_kwargs` for the rest of `generate`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _pipeline_calls_generate = True

    def _sanitize_parameters(
        self,
        clue: str | None = None,
        num_frames: int | None = None,
        change_map: bool | None = None,
        max_new_tokens: int | None = None,
        num_beams: int | None = None,
        generate_kwargs: dict | None = None,
    ) -> tuple[dict, dict, dict]:
        preprocess = {name: value for name, value in (("clue", clue), ("num_frames", num_frames)) if value is not None}
        generate = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            generate["max_new_tokens"] = max_new_tokens
        if num_beams is not None:
            generate["num_beams"] = num_beams
        forward: dict[str, Any] = {"generate_kwargs": generate} if generate else {}
        if change_map is not None:
            forward["change_map"] = change_map
        return preprocess, forward, {}

    def content(self, inputs: dict) -> tuple[list[dict], str | None]:
        """Picture items of the message, and its words."""
        raise NotImplementedError

    def preprocess(self, inputs: dict, clue: str | None = None, num_frames: int | None = None) -> dict:
        visuals, words = self.content(inputs)
        content = [*visuals, {"type": "text", "text": words or ""}]
        clue = inputs.get("clue", clue)
        if clue:
            content.append({"type": "clue", "text": clue})
        options = {} if num_frames is None else {"num_frames": num_frames}
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )

    def _forward(self, model_inputs: dict, generate_kwargs: dict | None = None, change_map: bool = False) -> dict:
        output = self.model.generate(**model_inputs, **(generate_kwargs or {}))
        found = {"tokens": output[:, model_inputs["input_ids"].shape[1] :]}
        if change_map:
            found["change_map"] = self.model.get_change_map(model_inputs["pixel_values_pairs"])
        return found

    def postprocess(self, model_outputs: dict) -> dict:
        answer = self.processor.post_process_image_text_to_text(model_outputs["tokens"])[0]
        result = {"answer": answer}
        if "change_map" in model_outputs:
            result["change_map"] = model_outputs["change_map"][0].float().cpu().numpy()  # (grid, grid)
        return result


class VisualQuestionAnsweringPipeline(UniRSPipeline):
    """`pipe(image, question)`, or `pipe([{"image": ..., "question": ...}, ...])`."""

    def __call__(self, image, question: str | None = None, **kwargs):
        inputs = image if question is None else {"image": image, "question": question}
        return super().__call__(inputs, **kwargs)

    def content(self, inputs: dict) -> tuple[list[dict], str | None]:
        return [{"type": "image", "image": inputs["image"]}], inputs["question"]


class ChangeCaptioningPipeline(UniRSPipeline):
    """`pipe(before, after, instruction)`, or `pipe([{"before": ..., "after": ...}, ...])`.

    With `change_map=True` each answer also has `change_map`, `(grid, grid)`: 0 = same, 1 = different.
    """

    def __call__(self, before, after=None, instruction: str | None = None, **kwargs):
        inputs = before if after is None else {"before": before, "after": after, "instruction": instruction}
        return super().__call__(inputs, **kwargs)

    def content(self, inputs: dict) -> tuple[list[dict], str | None]:
        dates = [inputs["before"], inputs["after"]]
        return [{"type": "image", "image": date} for date in dates], inputs.get("instruction")


class VideoSceneClassificationPipeline(UniRSPipeline):
    """`pipe(video, instruction)`, or `pipe([{"video": ...}, ...])`; a video is a file or a list of dated pictures.

    A list of plain paths or pictures is one clip; a list of dicts is several.
    """

    def __call__(self, video, instruction: str | None = None, **kwargs):
        several = isinstance(video, list) and all(isinstance(one, dict) for one in video)
        inputs = video if several or isinstance(video, dict) else {"video": video, "instruction": instruction}
        return super().__call__(inputs, **kwargs)

    def content(self, inputs: dict) -> tuple[list[dict], str | None]:
        return [{"type": "video", "video": inputs["video"]}], inputs.get("instruction")


__all__ = ["ChangeCaptioningPipeline", "VideoSceneClassificationPipeline", "VisualQuestionAnsweringPipeline"]
