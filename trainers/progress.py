"""What a person sees of a run: a line for each log, and the loss curve at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from transformers.trainer_callback import TrainerCallback

from .rows import TASKS

SHOWN = (
    ("loss", "loss {:.4f}"),
    *((f"loss_{task}", f"{task} {{:.3f}}") for task in TASKS),
    ("tokens_per_second", "{:.0f} tokens/s"),
    ("samples_per_second", "{:.1f} samples/s"),
    ("padding", "padding {:.1%}"),
    ("memory_gb", "{:.1f} GB"),
    ("eval_loss", "validation loss {:.4f}"),
    ("eval_skipped", "validation rows skipped: {}"),
    ("eval_bleu_4", "BLEU-4 {:.1f}"),
    ("eval_cider_d", "CIDEr-D {:.1f}"),
)


class Lines(TrainerCallback):
    """`step 20/120 | loss 2.3104 | single 1.201 | ... | 4 min left`, on the main process."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first = time.monotonic(), state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        shown = [text.format(logs[name]) for name, text in SHOWN if name in logs]
        if not shown:
            return
        done = state.global_step - self.first
        left = (time.monotonic() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        if done and left:
            shown.append(f"{duration(left)} left")
        self.say(" | ".join([f"step {state.global_step}/{state.max_steps}", *shown]))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def draw_curve(history: list[dict[str, float]], file: Path, title: str) -> None:
    """Loss, loss by task and validation over the steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    curves = [("loss", "all answers", "black", "-"), ("eval_loss", "validation", "tab:red", "o-")]
    curves += [(f"loss_{task}", task, f"C{number}", "-") for number, task in zip((0, 1, 2, 4), TASKS, strict=True)]
    for name, label, colour, line in curves:
        points = [(log["step"], log[name]) for log in history if name in log]
        if points:
            narrow = name.startswith("loss_")
            axes.plot(*zip(*points, strict=True), line, label=label, color=colour, lw=1 if narrow else 2, ms=4)
    axes.set(xlabel="step", ylabel="cross-entropy of an answer token", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
