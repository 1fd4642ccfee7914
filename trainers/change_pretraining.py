"""Stage 1: Change Extraction learns under a captioner that is thrown away, by Chg2Cap's recipe."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoProcessor, EvalPrediction, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from ..evaluation.captions import caption_scores, normalise
from ..hub.released_names import CHANGE
from ..modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from ..modeling_unirs.change_extraction_unirs import ChangeExtraction
from .captioner import ChangeCaptioner, Vocabulary
from .data_sets import DataError
from .pair_data import CaptionedPairs, EpochOrder, JoinedPairs, Say, SeenPairs, collate, sights
from .pair_tower import PairTower
from .progress import Lines, draw_curve
from .recipe import ChangePretraining, exactly
from .recipe_data import data_record, make_data_set
from .run_folder import LogFile, RunFolder, begun_from, process_state

WEIGHTS, WORDS, SCORES = "change_extraction.safetensors", "vocabulary.json", "scores.json"
OWN = "change_extraction."  # as `CaptionedChange` calls it
AT_LEAST = {
    "epochs": 1,
    "learning_rate": 0,
    "decay": 0,
    "decay_epochs": 1,
    "longest_caption": 1,
    "heads": 1,
    "workers": 0,
}


@dataclass(frozen=True)
class Settings:
    """The `training` block of a recipe of stage 1. Chg2Cap's epoch shows each of a pair's five captions; ours one.

    Args:
        epochs: Over all pairs.
        batch_size: Pairs for each process. BatchNorm takes its statistics from them, so at least 2.
        learning_rate: Of Adam, multiplied by `decay` every `decay_epochs` epochs (StepLR).
        min_word_count: How often a word must stand in the training captions to be in the vocabulary.
        longest_caption: In words; longer ones are learned up to there.
        heads, dropout: Of the captioner.
        workers: Processes that read pictures, for each process that trains.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    decay: float
    decay_epochs: int
    min_word_count: int
    longest_caption: int
    heads: int
    dropout: float
    workers: int


def pretrain(recipe: ChangePretraining, model: str, resume: bool, say: Say) -> dict[str, Any]:
    """Runs a recipe of stage 1: leaves `change_extraction.safetensors` of the best epoch, for `unirs convert`.

    Under `torchrun` every process calls it; BatchNorm then keeps the statistics of the first process's pairs.

    Args:
        model: Folder of the model whose tower sees and whose Change Extraction is trained further.
        resume: Go on from the newest whole checkpoint of the same run.
        say: Is told, on the main process, what a person wants to read.

    Returns:
        What `scores.json` says: the best epoch with its scores, and all epochs with losses and seconds.
    """
    state = process_state()
    say = say if state.is_main_process else lambda line: None
    # 1. what to train on
    settings = Settings(**exactly(recipe.training, Settings, "training"))
    data, validation = joined(recipe.data, say), joined(recipe.validation, say, "validation ")
    check_settings(data, validation, settings, UniRSConfig.from_pretrained(model).vision_config.hidden_size)
    folder = RunFolder(recipe)
    with folder.held(state.is_main_process):
        with state.main_process_first():
            if state.is_main_process:
                folder.prepare(
                    resume,
                    data_record("data", recipe.data, data.sets)
                    | data_record("validation", recipe.validation, validation.sets),
                )
        checkpoint = folder.last_checkpoint(state.num_processes) if resume else None
        arguments = training_arguments(recipe, settings, folder)
        # 2. words
        captions = [[normalise(caption) for caption in data.captions(index)] for index in range(len(data))]
        words = (caption for of_pair in captions for caption in of_pair)
        vocabulary = Vocabulary.of_captions(words, settings.min_word_count)
        if state.is_main_process:
            vocabulary.save(folder.path / WORDS)
        # 3. what the frozen tower sees
        base = UniRSForConditionalGeneration.from_pretrained(model).model
        image_processor = AutoProcessor.from_pretrained(model).image_processor
        tower = PairTower(base, image_processor, arguments.device)
        kept = Path(recipe.feature_cache).expanduser() if recipe.feature_cache else None
        see, see_validation = sights(tower, (data, validation), kept, state, say)
        # 4. training
        set_seed(recipe.seed)
        captioner = ChangeCaptioner(
            base.config.vision_config.hidden_size,
            len(vocabulary),
            settings.longest_caption,
            settings.heads,
            settings.dropout,
        )
        module = CaptionedChange(base.change_extraction, captioner, tower).to(arguments.device)
        say(f"training {sum(p.numel() for p in module.parameters()):,} weights, {len(vocabulary):,} words")
        order = EpochOrder(len(data), settings.batch_size, recipe.seed)
        references = [validation.captions(index) for index in range(len(validation))]
        steps = steps_per_epoch(order, settings, arguments)
        trainer = PretrainingTrainer(
            order=order,
            model=module,
            args=arguments,
            data_collator=collate,
            train_dataset=CaptionedPairs(see, captions, vocabulary, settings.longest_caption, recipe.seed),
            eval_dataset=SeenPairs(see_validation, len(validation)),
            compute_metrics=lambda prediction: score(prediction, vocabulary, references),
            optimizers=optimizer_and_schedule(module, settings, steps),
            callbacks=[EpochClock(), LogFile(folder.log), Lines(say)],
        )
        trainer.remove_callback(PrinterCallback)
        if resume:
            say(begun_from(checkpoint))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # 5. the best epoch
        scores = summary(trainer, recipe.metric, len(data), len(validation), len(vocabulary))
        if state.is_main_process:
            best = folder.checkpoints / f"checkpoint-{trainer.state.best_global_step}"
            save_change_extraction(best / "model.safetensors", folder.path / WEIGHTS)
            (folder.path / SCORES).write_text(json.dumps(scores, indent=2) + "\n")
            draw_curve(trainer.state.log_history, folder.path / "loss.png", f"{recipe.stage}: {recipe.output}")
        state.wait_for_everyone()
        found, count = scores["best"], len(validation)
        bleu, cider = found["bleu_4"], found["cider_d"]
        say(f"best epoch {found['epoch']}: BLEU-4 {bleu:.1f}, CIDEr-D {cider:.1f} on {count} validation pairs")
        say(f"put it into a model: unirs convert MODEL OUT --change-extraction {folder.path / WEIGHTS}")
        return {"output": str(folder.path), **scores}


def joined(entries: dict[str, dict[str, Any]], say: Say, kind: str = "") -> JoinedPairs:
    given = {name: entry for name, entry in entries.items() if entry is not None}
    for name, entry in given.items():
        if isinstance(entry, dict) and entry.get("repeat", 1) != 1:
            part = kind.strip() or "data"
            raise DataError(
                f"{part}.{name}: stage 1 shows each pair once an epoch; leave repeat out, and raise epochs"
            )
    sets = [make_data_set(name, entry) for name, entry in given.items()]
    for data in sets:
        say(f"{kind}data: {data.name}, {len(data):,} pairs")
    return JoinedPairs(sets)


# -- what is trained -------------------------------------------------------------------------------------------------
class CaptionedChange(nn.Module):
    """Change Extraction and captioner; the tower is held outside of the weights that are trained and saved."""

    def __init__(self, change_extraction: ChangeExtraction, captioner: ChangeCaptioner, tower: PairTower):
        super().__init__()
        # In single precision whatever the checkpoint's type is: Adam's steps of 1e-4 vanish in bfloat16.
        self.change_extraction = copy.deepcopy(change_extraction).float().requires_grad_(True)
        self.captioner = captioner
        self.tower = tower

    def fuse(
        self, features: torch.Tensor | None = None, pixel_values_pairs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features `(pairs, 2, tokens, dim)`, or pictures `(pairs, 2, 3, H, W)`, to `(pairs, tokens, dim)`."""
        if pixel_values_pairs is not None:
            features = self.tower.encode(pixel_values_pairs)
        return self.change_extraction(features)

    def forward(self, words: torch.Tensor, **seen: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.captioner.loss(self.fuse(**seen), words)}

    # The Trainer would take `**seen` for a wish to divide the loss itself.
    accepts_loss_kwargs = False


class PretrainingTrainer(Trainer):
    """Fixed order of the data, and validation by greedy captions."""

    def __init__(self, order: EpochOrder, **kwargs: Any):
        self.order = order
        super().__init__(**kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self.order

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self.args.world_size > 1:  # as they will be saved: BatchNorm's statistics of the first process
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        return super().evaluate(*args, **kwargs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """No loss; words `(pairs, longest)`; the pairs' numbers `(pairs,)`."""
        inputs = self._prepare_inputs(inputs)
        pair = inputs.pop("pair")
        with torch.no_grad():
            return None, self.model.captioner.caption(self.model.fuse(**inputs)), pair


class EpochClock(TrainerCallback):
    """Writes the seconds of an epoch's training, without its validation, beside its loss."""

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.start

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            state.log_history[-1]["seconds"] = round(self.seconds, 2)


def training_arguments(recipe: ChangePretraining, settings: Settings, folder: RunFolder) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder.checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        max_grad_norm=0,  # Chg2Cap does not clip
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_total_limit=2,  # the last one to go on from, and the best one
        metric_for_best_model=recipe.metric,
        greater_is_better=True,
        seed=recipe.seed,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.accelerator.is_available(),
    )
    # One process takes one device: nn.DataParallel would leave the tower on the first.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def optimizer_and_schedule(
    module: nn.Module, settings: Settings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam, and StepLR told in optimiser steps, since the Trainer asks after each; `steps` make an epoch."""
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: settings.decay ** (step // steps // settings.decay_epochs)
    )
    return optimizer, schedule


# -- before and after ------------------------------------------------------------------------------------------------
def check_settings(data: JoinedPairs, validation: JoinedPairs, settings: Settings, dim: int) -> None:
    """Before anything is made.

    Args:
        dim: Channels of the tower, which are the captioner's too.

    Raises:
        DataError: Training by these settings would fail; names one.
    """
    for name, least in AT_LEAST.items():
        if not getattr(settings, name) >= least:  # as .nan is not
            raise DataError(f"training.{name} is {getattr(settings, name)}; give {least} or more")
    if dim % settings.heads:
        raise DataError(f"training.heads is {settings.heads}; give a number that divides the tower's {dim} channels")
    if not 0 <= settings.dropout < 1:
        raise DataError(f"training.dropout is {settings.dropout}; give 0 or more, below 1")
    if settings.batch_size < 2 or len(data) < 2:
        raise DataError(
            f"BatchNorm needs at least 2 pairs in a batch; batch_size is {settings.batch_size}, there are {len(data)}"
        )
    if len(validation) == 0:
        raise DataError("no validation pairs; they decide which epoch is kept")


def steps_per_epoch(order: EpochOrder, settings: Settings, arguments: TrainingArguments) -> int:
    batches = -(-len(order) // settings.batch_size)
    return -(-batches // arguments.world_size)


def score(prediction: EvalPrediction, vocabulary: Vocabulary, references: list[list[str]]) -> dict[str, float]:
    """Over all pairs by their numbers: several processes give them in another order."""
    said = dict(zip(prediction.label_ids.tolist(), prediction.predictions.tolist(), strict=True))
    return caption_scores([vocabulary.decode(said[index]) for index in range(len(references))], references)


def save_change_extraction(checkpoint: Path, file: Path) -> None:
    """Of a checkpoint's weights those of Change Extraction, by the names that they have in a UniRS model."""
    weights = {
        CHANGE + name.removeprefix(OWN): weight
        for name, weight in load_file(checkpoint).items()
        if name.startswith(OWN)
    }
    if broken := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise DataError(
            f"the weights of the best epoch are no numbers ({broken[0]}); lower training.learning_rate and start anew "
            "with another output"
        )
    save_file(weights, file, metadata={"format": "pt"})


def summary(trainer: Trainer, metric: str, training_pairs: int, validation_pairs: int, words: int) -> dict[str, Any]:
    """Epoch by epoch, and the best one again at the top."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in trainer.state.log_history:
        if "loss" in entry or f"eval_{metric}" in entry:
            kept = ("loss", "learning_rate", "seconds", "bleu_", "rouge_l", "cider_d")
            named = {name.removeprefix("eval_"): value for name, value in entry.items()}
            line = {name: value for name, value in named.items() if name.startswith(kept)}
            epochs.setdefault(entry["step"], {"epoch": round(entry["epoch"])}).update(line)
    return {
        "best": epochs[trainer.state.best_global_step],
        "chosen_by": metric,
        "seed": trainer.args.seed,
        "training_pairs": training_pairs,
        "validation_pairs": validation_pairs,
        "words": words,
        "epochs": list(epochs.values()),
    }
