"""Trains `unirs-tiny`, the checkpoint inside the package: about an hour on two CPU cores.

    python -m unirs.trainers.tiny --real ../shared/data/rsscn7 --output runs/unirs-tiny

The world is generated (scene_tasks.py); RSSCN7's training scenes join where they are at hand. Nothing is pretrained,
so the vision tower first learns to name the land cover of every patch, and Change Extraction to mark the patches that
changed (heads thrown away); then TRL's `SFTTrainer` tunes projector and language model on all three input types.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput
from trl import SFTConfig, SFTTrainer

from ..modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from ..processing import UniRSImageProcessor, UniRSProcessor, prepare_tokenizer
from ..processing.prompts_unirs import DEFAULT_INSTRUCTIONS, ERA_CLASSES, SYSTEM_PROMPT, TASK_TAGS
from ..processing.tokenizer import MARKERS
from .tiny_data import FRAMES, GRID, REAL_CLASSES, SIZE, load_scenes, make_scenes
from .tiny_patches import pixels, pretrain_patches

COUNTS = {"single": 9000, "pair": 6000, "video": 2500}
PATCH = SIZE // GRID
VOCABULARY = 1472
REAL_QUESTION = f"Which scene is this? Classes: {', '.join(REAL_CLASSES)}."
ERA_NAME = {name.lower(): name for name in ERA_CLASSES}
CLIP_QUESTIONS = (
    DEFAULT_INSTRUCTIONS["video"],
    "What is happening in this video?",
    "Classify the scene of this clip.",
)
PAIR_QUESTIONS = (
    DEFAULT_INSTRUCTIONS["pair"],
    "Please describe the change.",
    "What has changed between the two dates?",
)


# -- model -----------------------------------------------------------------------------------------------------------
def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-fallback BPE of LLaMA's kind on the words of the mixture."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKERS), special_tokens=specials, initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    # The trainer made the byte pieces special; as ordinary vocabulary they only serve the byte fallback.
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    backend = Tokenizer.from_str(json.dumps(state))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        model_max_length=2048,
    )
    return prepare_tokenizer(tokenizer)


def build(texts: list[str]) -> tuple[UniRSForConditionalGeneration, UniRSProcessor]:
    """A UniRS of 7 million weights: the paper's parts in small, with a 9x9 grid and 25 tokens for a picture."""
    tokenizer = train_tokenizer(texts)
    image_processor = UniRSImageProcessor(size={"height": SIZE, "width": SIZE})
    processor = UniRSProcessor(image_processor, tokenizer, patch_size=PATCH, num_frames=FRAMES)
    config = UniRSConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 8 + 1,  # layer -2 of nine: eight are built
            "num_attention_heads": 6,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "max_position_embeddings": 2048,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
        image_token_id=processor.image_token_id,
        change_token_id=processor.change_token_id,
        frame_token_ids=processor.frame_token_ids,
    )
    model = UniRSForConditionalGeneration(config)
    # No marker and no row of padding may ever be said.
    silent = [config.image_token_id, config.change_token_id, *config.frame_token_ids]
    silent += range(len(tokenizer), config.text_config.vocab_size)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=64,
        suppress_tokens=sorted(silent),
    )
    return model, processor


# -- data ------------------------------------------------------------------------------------------------------------
def load_real(folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one split of RSSCN7 `(n, SIZE, SIZE, 3)` and their class numbers; none without a folder.

    RSSCN7 (Zou et al., 2015): 2,800 scenes of 400x400 pixels from Google Earth at four scales, seven classes. A split
    is a folder of JPEG files for each class: grass, field, industry, river-lake, forest, residential, parking.
    """
    if folder is None:
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0, np.int64)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give --real the folder of RSSCN7 that holds train/")
    pictures, labels = [], []
    for name in sorted(one.name for one in folder.iterdir() if one.is_dir()):
        for path in sorted((folder / name).glob("*.jpg")):
            pictures.append(np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
            labels.append(real_class(name))
    return np.stack(pictures), np.array(labels)


def real_class(folder: str) -> int:
    """RSSCN7's folder names to places in `REAL_CLASSES`."""
    return ("grass", "field", "industry", "river-lake", "forest", "residential", "parking").index(folder)


def clip_answer(name: str) -> str:
    return ERA_NAME.get(name, name)


class Mixture:
    """All training pictures in memory, and the conversation of each row."""

    def __init__(self, scenes: Path, real: Path | None, seed: int):
        self.scenes = {task: load_scenes(scenes, task) for task in ("single", "pair", "video")}
        self.real_pictures, self.real_labels = load_real(real)
        self.rng = np.random.default_rng(seed)

    def rows(self) -> list[dict]:
        rows = [{"task": task, "row": row} for task, (_, words) in self.scenes.items() for row in range(len(words))]
        return rows + [{"task": "real", "row": row} for row in range(len(self.real_labels))]

    def texts(self) -> list[str]:
        """What the tokenizer is trained on."""
        texts = [SYSTEM_PROMPT, "USER: ASSISTANT: Clue:", REAL_QUESTION, *CLIP_QUESTIONS, *PAIR_QUESTIONS]
        texts += [*TASK_TAGS.values(), *DEFAULT_INSTRUCTIONS.values(), *REAL_CLASSES] * 50
        for _, words in self.scenes.values():
            for word in words:
                texts += [word["clue"]]
                texts += [text for q in word["questions"] for text in (q["question"], q["answer"])]
        return texts

    def conversation(self, task: str, row: int) -> list[dict]:
        """Messages of one row, with pictures as arrays; drawn anew each time it is asked for."""
        rng = self.rng
        if task == "real":
            picture = self.real_pictures[row]
            name = REAL_CLASSES[self.real_labels[row]]
            return turns([{"type": "image", "image": picture}], [(REAL_QUESTION, name)])
        arrays, words = self.scenes[task]
        pictures, word = arrays["pictures"][row], words[row]
        clue = word["clue"] if rng.random() < 0.25 else ""
        if task == "video":
            question = CLIP_QUESTIONS[rng.integers(len(CLIP_QUESTIONS))]
            return turns([{"type": "video", "video": pictures}], [(question, clip_answer(word["label"]))], clue)
        if task == "pair":
            caption, flag = word["questions"]
            question = PAIR_QUESTIONS[rng.integers(len(PAIR_QUESTIONS))]
            pairs = [(question, str(rng.choice(caption["references"]))), (flag["question"], flag["answer"])]
            if rng.random() < 0.3:
                pairs.reverse()
            return turns([{"type": "image", "image": picture} for picture in pictures], pairs, clue)
        pairs = [(q["question"], q["answer"]) for q in word["questions"]]
        rng.shuffle(pairs)
        if rng.random() < 0.4:
            pairs.insert(0, (DEFAULT_INSTRUCTIONS["single"], word["clue"]))
            clue = ""
        return turns([{"type": "image", "image": pictures[0]}], pairs, clue)


def turns(visuals: list[dict], pairs: list[tuple[str, str]], clue: str = "") -> list[dict]:
    """A conversation: pictures and clue in its first turn, then question and answer by turns."""
    messages: list[dict] = []
    for number, (question, answer) in enumerate(pairs):
        content: list[dict] = [{"type": "text", "text": str(question)}]
        if number == 0:
            content = [*visuals, *content, *([{"type": "clue", "text": clue}] if clue else [])]
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": str(answer)}]
    return messages


# -- stage 2: words --------------------------------------------------------------------------------------------------
class KeptFeatures(nn.Module):
    """Stands in for the frozen tower: its "pixels" `(n, 1, patches, dim)` are features that were computed before."""

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=pixel_values[:, 0])


@torch.no_grad()
def keep_features(model: UniRSForConditionalGeneration, mixture: Mixture) -> dict[str, torch.Tensor]:
    """Vision features of every training picture: `(samples, pictures, 1, patches, dim)` by task, half precision."""
    model.eval()
    stacks = {task: arrays["pictures"] for task, (arrays, _) in mixture.scenes.items()}
    stacks["real"] = mixture.real_pictures[:, None]
    kept = {}
    for task, stack in stacks.items():
        chunks = [
            model.model.encode_pixels(pixels(stack[start : start + 64]).flatten(0, 1)).half()
            for start in range(0, len(stack), 64)
        ]
        if chunks:
            kept[task] = torch.cat(chunks).unflatten(0, (len(stack), -1)).unsqueeze(2)
    return kept


class Collator:
    """Rows `{"task", "row"}` to model inputs with `labels` of shape `(batch, tokens)`, -100 outside answers.

    Pixels are replaced by the kept features of the same pictures, in the same order.
    """

    def __init__(self, mixture: Mixture, processor: UniRSProcessor, features: dict[str, torch.Tensor]):
        self.mixture, self.processor, self.features = mixture, processor, features

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        conversations = [self.mixture.conversation(row["task"], row["row"]) for row in rows]
        batch = dict(
            self.processor.apply_chat_template(
                conversations,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                return_assistant_tokens_mask=True,
                processor_kwargs={"padding": True, "padding_side": "right"},
            )
        )
        mask = torch.as_tensor(batch.pop("assistant_masks")).bool()
        batch["labels"] = batch["input_ids"].masked_fill(~mask, -100)
        for name, tasks in (
            ("pixel_values", ("single", "real")),
            ("pixel_values_pairs", ("pair",)),
            ("pixel_values_videos", ("video",)),
        ):
            found = [self.features[row["task"]][row["row"]].float() for row in rows if row["task"] in tasks]
            if found:  # (pairs, 2, 1, patches, dim), else (pictures, 1, patches, dim)
                batch[name] = torch.stack(found) if tasks == ("pair",) else torch.cat(found)
        return batch


def tune(
    model: UniRSForConditionalGeneration, processor: UniRSProcessor, mixture: Mixture, args: argparse.Namespace
) -> list[dict]:
    """Joint tuning by TRL's SFTTrainer on all three input types; tower and Change Extraction are frozen."""
    features = keep_features(model, mixture)
    tower, model.model.vision_tower = model.model.vision_tower, KeptFeatures()
    model.model.change_extraction.requires_grad_(False)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(args.output / "checkpoints"),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch,
            learning_rate=args.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            weight_decay=0.01,
            logging_steps=20,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            disable_tqdm=True,
            seed=args.seed,
        ),
        train_dataset=Dataset.from_list(mixture.rows()),
        processing_class=processor,
        data_collator=Collator(mixture, processor, features),
    )
    trainer.train()
    model.model.vision_tower = tower
    return trainer.state.log_history


# What the model card says of the weights.
PROVENANCE = {
    "note": "Trained by `trainers/tiny.py` on generated scenes and, for scene classes, on RSSCN7's 2,240 training "
    "pictures.",
    "license": "apache-2.0",
    "license_note": "The weights are Apache-2.0. They derive from generated scenes and from RSSCN7 (Zou et al. 2015), "
    "whose pictures were published for research.",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path, default=Path("runs/scenes/train"))
    parser.add_argument("--real", type=Path, default=None, help="RSSCN7 with train/ and test/")
    parser.add_argument("--output", type=Path, default=Path("runs/unirs-tiny"))
    parser.add_argument("--steps-stage-1", type=int, default=670)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--stage-1", type=Path, default=None, help="take the tower of this folder, without stage 1")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.manual_seed(args.seed)
    make_scenes(args.scenes, COUNTS, 0)
    mixture = Mixture(args.scenes, args.real / "train" if args.real else None, args.seed)
    started = time.time()
    model, processor = build(mixture.texts())
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(processor.tokenizer)} tokens", flush=True)
    if args.stage_1:
        model = UniRSForConditionalGeneration.from_pretrained(args.stage_1, dtype=torch.float32)
    else:
        pretrain_patches(model, mixture, args.steps_stage_1, args.seed)
        model.save_pretrained(args.output / "stage-1")
    log = tune(model, processor, mixture, args)
    model.to(torch.bfloat16).save_pretrained(args.output)
    processor.save_pretrained(args.output)
    record = {
        **PROVENANCE,
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "minutes": round((time.time() - started) / 60, 1),
        "log": log,
    }
    (args.output / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
