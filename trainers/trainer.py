"""TRL's `SFTTrainer` with an order of samples that survives a restart, and a log that tells the tasks apart."""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from .collator import TRAINER_KEYS
from .data_sets import DataError
from .mixture import EpochSampler
from .packing import NO_TASK
from .rows import TASKS


class UniRSTrainer(SFTTrainer):
    """Trains on batches of `Collator`.

    Beside TRL's, the log holds `loss_single`, `loss_pair`, `loss_video`, `loss_text` (cross-entropy of an answer token
    of that task since the last log), `tokens_per_second`, `samples_per_second`, `padding` (share of the batches'
    tokens), `skipped` (rows left out so far) and `memory_gb` (peak of the GPU, or of the process without one).
    `eval_loss` is the cross-entropy of an answer token too, over the whole validation set; `eval_skipped` are its rows
    that were left out.

    Args:
        sampler: Order of the training samples.
    """

    def __init__(self, *args: Any, sampler: EpochSampler | None = None, **kwargs: Any):
        self.sampler = sampler
        super().__init__(*args, **kwargs)
        if sampler is not None:
            self.add_callback(_TellEpoch(sampler))
        network = self.accelerator.unwrap_model(self.model)
        network = network.get_base_model() if hasattr(network, "get_base_model") else network
        network.register_forward_hook(self._keep_log_probs)
        self._log_probs: torch.Tensor | None = None
        self._eval_sums = torch.zeros(4, dtype=torch.float64)  # answer tokens, sum of losses, rows used, rows skipped
        self._start_counting()

    def _start_counting(self) -> None:
        # answer tokens and the sum of their losses by task; then tokens, all slots, samples, skipped rows
        self._sums = torch.zeros(2 * len(TASKS) + 4, dtype=torch.float64)
        self._since = time.monotonic()

    def _get_train_sampler(self, train_dataset=None):
        return self.sampler

    def _keep_log_probs(self, module, inputs, output) -> None:
        log_probs = getattr(output, "log_probs", None)  # `(rows, tokens - 1)`, zero where no answer is
        self._log_probs = None if log_probs is None else log_probs.detach()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        token_tasks, rows = (inputs.pop(name) for name in TRAINER_KEYS)
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._log_probs is None:
            return found
        answers = inputs["labels"][:, 1:] >= 0
        if not self.model.training:
            self._eval_sums += torch.stack([answers.sum(), -self._log_probs.sum(), *rows]).double().cpu()
        else:
            losses = [
                torch.stack([chosen.sum(), -self._log_probs[chosen].sum()])
                for chosen in (answers & (token_tasks[:, 1:] == task) for task in range(len(TASKS)))
            ]
            tokens = (token_tasks != NO_TASK).sum()
            counts = torch.stack([tokens, torch.tensor(token_tasks.numel(), device=tokens.device), *rows])
            self._sums += torch.cat([*losses, counts]).double().cpu()
        return found

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """With the loss of an answer token over all rows: the Trainer's is a mean of the batches' means.

        Raises:
            DataError: No row can be read.
        """
        self._eval_sums.zero_()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        sums = self._eval_sums.float().to(self.accelerator.device)
        tokens, loss, used, skipped = self.accelerator.reduce(sums, "sum").double().tolist()
        if skipped and not used:
            raise DataError(
                f"none of the {skipped:.0f} validation rows can be read; mend them, or set training.eval_strategy=no"
            )
        if tokens:
            output.metrics[f"{metric_key_prefix}_loss"] = loss / tokens
        if skipped:
            output.metrics[f"{metric_key_prefix}_skipped"] = int(skipped)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            device = self.accelerator.device
            sums = self.accelerator.reduce(self._sums.float().to(device), "sum").double().tolist()
            seconds = max(time.monotonic() - self._since, 1e-9)
            *losses, tokens, slots, samples, skipped = sums
            for number, task in enumerate(TASKS):
                count, total = losses[2 * number : 2 * number + 2]
                if count:
                    logs[f"loss_{task}"] = total / count
            before = (line["skipped"] for line in reversed(self.state.log_history) if "skipped" in line)
            logs["tokens_per_second"] = tokens / seconds
            logs["samples_per_second"] = samples / seconds
            logs["padding"] = 1 - tokens / max(slots, 1)
            logs["skipped"] = next(before, 0.0) + skipped
            logs["memory_gb"] = peak_memory() / 1e9
            self._start_counting()
        super().log(logs, start_time)
        if "loss" in logs and not math.isfinite(sum(losses)):
            self.check_weights()

    def check_weights(self) -> None:
        """Raises `DataError` if what is trained is no numbers any more: no further step would mend it."""
        for name, weight in self.model.named_parameters():
            own = weight.to_local() if isinstance(weight, DTensor) else weight  # of FSDP2: this process's part
            if weight.requires_grad and not own.isfinite().all():
                raise DataError(
                    f"the weights are no numbers after step {self.state.global_step} ({name}); lower "
                    "training.learning_rate, or clip by training.max_grad_norm, and start anew with another output"
                )


class _TellEpoch(TrainerCallback):
    def __init__(self, sampler: EpochSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.epoch = int(state.epoch + 1e-6)  # a sum of steps' shares: 2.9999999 is the third epoch's end


def peak_memory() -> int:
    """Bytes: of the GPU, or the process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
