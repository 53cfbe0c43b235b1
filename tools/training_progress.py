"""Training for a number of seconds, on cores that others use too, that can be put down and taken up again."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

logger = logging.getLogger("train_checkpoint")

SAVE_EVERY_S = 60.0
WARM_UP_STEPS = 200
WORKERS = 2


@dataclass
class Progress:
    """A training that can be put down and taken up: weights, optimiser and the seconds already spent."""

    path: Path
    model: nn.Module
    optimiser: torch.optim.Optimizer
    budget_s: float
    spent_s: float = 0.0
    steps: int = 0
    average: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.pool = ThreadPoolExecutor(WORKERS)
        self.peak_rates = [group["lr"] for group in self.optimiser.param_groups]
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.spent_s, self.steps = state["spent_s"], state["steps"]

    def save(self) -> None:
        """Write the state, through a second file: a crash never leaves half of one."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "spent_s": self.spent_s,
            "steps": self.steps,
        }
        torch.save(state, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)

    def run(self, batches: Iterator[Tensor], loss_of: Callable[[Tensor], Tensor]) -> None:
        """Take steps until the budget is spent; ``loss_of`` gets the rows of the training set to learn from."""
        losses: list[float] = []
        saved_s = self.spent_s
        while self.spent_s < self.budget_s:
            started = time.monotonic()
            losses.append(self._step(next(batches), loss_of))
            self.spent_s += time.monotonic() - started
            if self.steps % 100 == 0:
                loss, losses = sum(losses) / len(losses), []
                logger.info("%s step %d, %.0f s, loss %.4f", self.path.stem, self.steps, self.spent_s, loss)
            if self.spent_s - saved_s > SAVE_EVERY_S:
                self.save()
                saved_s = self.spent_s
        self.save()

    def _step(self, rows: Tensor, loss_of: Callable[[Tensor], Tensor]) -> float:
        self._set_learning_rate()
        parameters = list(self.model.parameters())

        def gradients(part: Tensor) -> tuple[Tensor, ...]:
            loss = loss_of(part)
            return (loss.detach(), *torch.autograd.grad(loss, parameters))

        # One operator on two threads waits, spinning, for the slower of them: on cores shared with others that costs
        # up to twenty times the work itself. Half a batch on each of two threads does not wait inside an operator.
        parts = list(self.pool.map(gradients, rows.chunk(WORKERS)))
        loss, *summed = [torch.stack(tensors).mean(0) for tensors in zip(*parts, strict=True)]
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimiser.step()
        self.steps += 1
        self._update_average()
        return loss.item()

    def _set_learning_rate(self) -> None:
        left = max(0.0, 1 - self.spent_s / self.budget_s)
        rate = min(1.0, (self.steps + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * math.sin(left * math.pi / 2) ** 2)
        for group, peak in zip(self.optimiser.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * rate

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average follows closely at first, or it would remember the untrained weights for long.
        keep = min(0.999, (1 + self.steps) / (20 + self.steps))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)


def batches_of(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield row numbers, ``size`` at a time, in a new order for every pass over ``count`` rows; never ends."""
    rng = np.random.default_rng(seed)
    while True:
        order = torch.from_numpy(rng.permutation(count))
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))
