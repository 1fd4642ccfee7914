"""How sure a model was of an answer: the probabilities of the tokens that it chose."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, LogitsProcessorList


class ChosenProbabilities(LogitsProcessor):
    """Watches greedy generation and notes, step by step, how probable the chosen tokens were.

    It stands behind all other processors, so that what it sees is what is chosen from: the largest is the choice. One
    number for each row and step is kept; `output_scores` would keep the whole vocabulary's.
    """

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def as_list(self) -> LogitsProcessorList:
        return LogitsProcessorList([self])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores.float().log_softmax(-1).amax(-1))  # (rows,)
        return scores

    def scores(self, tokens: torch.Tensor, ends: int | list[int] | None) -> list[float]:
        """Geometric mean of each answer's probabilities, 0 to 1; what lies behind its end does not count.

        Args:
            tokens: The generated ids `(rows, steps)`.
            ends: Ids that end an answer; they count too, for ending is a choice.
        """
        chosen = torch.stack(self.steps, 1)  # (rows, steps)
        end_ids = torch.tensor([ends] if isinstance(ends, int) else ends or [], device=tokens.device)
        is_end = torch.isin(tokens, end_ids)
        before = is_end.cumsum(1) - is_end.long()  # ends in front of each token
        counts = (before == 0).to(chosen.device)
        mean = chosen.masked_fill(~counts, 0).sum(1) / counts.sum(1)  # behind an end there may be no numbers
        return mean.exp().tolist()
