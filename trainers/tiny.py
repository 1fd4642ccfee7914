"""Trains `unirs-tiny`, the checkpoint inside the package: about 50 minutes on two CPU cores.

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
import torch.nn.functional as F
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
from .scene_tasks import CLIP_CLASSES, single_questions
from .scenes import LAND_CLASSES
from .tiny_data import FRAMES, GRID, SIZE, load_scenes, make_scenes

COUNTS = {"single": 9000, "pair": 6000, "video": 2500}
PATCH = SIZE // GRID
VOCABULARY = 1472
REAL_CLASSES = ("grass", "field", "industry", "river or lake", "forest", "residential area", "parking lot")
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
        vocab_size=VOCABULARY - 66, special_tokens=specials, initial_alphabet=letters, show_progress=False
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
    """RSSCN7 pictures `(n, SIZE, SIZE, 3)` and class numbers; empty where the folder is not there."""
    if folder is None or not folder.is_dir():
        return np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros(0, np.int64)
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


def flip(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the eight ways to lay a square picture; seen from above, all are as good."""
    picture = np.rot90(picture, int(rng.integers(4)))
    return np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)


def turns(visuals: list[dict], pairs: list[tuple[str, str]], clue: str = "") -> list[dict]:
    """A conversation: pictures and clue in its first turn, then question and answer by turns."""
    messages: list[dict] = []
    for number, (question, answer) in enumerate(pairs):
        content: list[dict] = [{"type": "text", "text": str(question)}]
        if number == 0:
            content = [*visuals, *content, *([{"type": "clue", "text": clue}] if clue else [])]
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": str(answer)}]
    return messages


# -- stage 1: patches ------------------------------------------------------------------------------------------------
def pixels(pictures: np.ndarray) -> torch.Tensor:
    """`(..., H, W, 3)` bytes to `(..., 3, H, W)` in -1..1, as the image processor does for square pictures."""
    return torch.from_numpy(pictures).movedim(-1, -3).float() / 127.5 - 1


def movers(words: list[dict]) -> torch.Tensor:
    """Whether single scenes hold vehicles and boats, which land cover does not show: `(samples, 2)`."""
    plans = [single_questions(word["seed"])[0] for word in words]
    return torch.tensor([[plan.vehicles > 0, plan.boats > 0] for plan in plans]).float()


def pretrain_patches(model: UniRSForConditionalGeneration, mixture: Mixture, minutes: float, seed: int) -> None:
    """Tower and Change Extraction learn land cover and change patch by patch, with heads that are thrown away."""
    base, rng = model.model, np.random.default_rng(seed)
    dim = model.config.vision_config.hidden_size
    sizes = {"land": len(LAND_CLASSES), "movers": 2, "change": 1, "real": len(REAL_CLASSES), "clip": len(CLIP_CLASSES)}
    heads = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in sizes.items()})
    weights = [*base.vision_tower.parameters(), *base.change_extraction.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    singles, pairs, clips = (mixture.scenes[task][0] for task in ("single", "pair", "video"))
    mover_truth = movers(mixture.scenes["single"][1])
    clip_truth = torch.tensor([CLIP_CLASSES.index(word["label"]) for word in mixture.scenes["video"][1]])
    started, step = time.time(), 0
    model.train()
    while (passed := (time.time() - started) / 60) < minutes:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 50) * max(0.03, 1 - passed / minutes)
        # 1. a batch of every kind, all through the tower at once
        one = rng.integers(len(singles["pictures"]), size=24)
        two = rng.integers(len(pairs["pictures"]), size=16)
        clip = rng.integers(len(clips["pictures"]), size=6)
        real = rng.integers(len(mixture.real_labels), size=16 if len(mixture.real_labels) else 0)
        parts = [
            pixels(singles["pictures"][one, 0]),
            pixels(pairs["pictures"][two]).flatten(0, 1),
            pixels(clips["pictures"][clip]).flatten(0, 1),
            *([pixels(np.stack([flip(mixture.real_pictures[row], rng) for row in real]))] if len(real) else []),
        ]
        features = base.encode_pixels(torch.cat(parts)).split([len(part) for part in parts])  # (n, patches, dim) each
        dates = features[1].unflatten(0, (-1, 2))  # (pairs, 2, patches, dim)
        similarity = base.change_extraction.similarity(dates)  # (pairs, patches)
        # 2. what each head should have said
        shares = np.concatenate([singles["land"][one, 0], pairs["land"][two].reshape(-1, *pairs["land"].shape[2:])])
        land_truth = torch.from_numpy(shares).float().transpose(1, 2)  # (pictures, patches, classes)
        change_truth = torch.from_numpy(pairs["change"][two]).float()  # (pairs, patches)
        land = heads["land"](torch.cat(features[:2]))
        changed = heads["change"](base.change_extraction(dates))[..., 0]
        moving = heads["movers"](features[0]).amax(1)  # one patch with a boat is enough
        losses = {
            "land": F.cross_entropy(land.flatten(0, 1), land_truth.flatten(0, 1)),
            "movers": 0.5 * F.binary_cross_entropy_with_logits(moving, mover_truth[one]),
            "change": F.binary_cross_entropy_with_logits(
                changed, (change_truth > 0.1).float(), pos_weight=torch.tensor(3.0)
            ),
            # The same cosine is the change map: same land should look alike at both dates, changed land should not.
            "map": F.mse_loss(similarity, 1 - (change_truth * 2).clamp(0, 1)),
            "clip": 0.3
            * F.cross_entropy(heads["clip"](features[2].mean(1)), clip_truth[clip].repeat_interleave(FRAMES)),
        }
        if len(real):
            truth = torch.from_numpy(mixture.real_labels[real])
            losses["real"] = 0.3 * F.cross_entropy(heads["real"](features[3].mean(1)), truth)
        # 3. one step
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        if step % 20 == 0:
            shown = {name: round(loss.item(), 4) for name, loss in losses.items()}
            print(f"stage 1 {passed:.1f} min, step {step}", shown, flush=True)


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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path, default=Path("runs/scenes/train"))
    parser.add_argument("--real", type=Path, default=None, help="RSSCN7 with train/ and test/")
    parser.add_argument("--output", type=Path, default=Path("runs/unirs-tiny"))
    parser.add_argument("--minutes-stage-1", type=float, default=20)
    parser.add_argument("--steps", type=int, default=1100)
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
        pretrain_patches(model, mixture, args.minutes_stage_1, args.seed)
        model.save_pretrained(args.output / "stage-1")
    log = tune(model, processor, mixture, args)
    model.to(torch.bfloat16).save_pretrained(args.output)
    processor.save_pretrained(args.output)
    record = {"seed": args.seed, "minutes": round((time.time() - started) / 60, 1), "log": log}
    (args.output / "training.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
