"""Lessons of a backbone: tasks that part of it learns before the targets, each in a short training of its own."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskgroup.models.backbones.base import Lesson

# Share of the steps in which the learning rate rises.
_WARMUP = 0.1
# Least deviation of a label: one that does not vary is not divided by zero.
_LEAST_DEVIATION = 1e-6


def learn_lesson(
    lesson: Lesson, inputs: Tensor, labels: NDArray[np.float32], generator: torch.Generator
) -> bool:
    """Train the pupils of a lesson to give its standardised labels; return False where there is nothing to learn.

    Parameters
    ----------
    lesson, inputs, labels: as ``Lesson.examples`` gives them.
    generator: of the CPU; draws the batches.

    Nothing is learnt where no example exists, or all have the same first label.
    """
    if len(np.unique(labels[:, 0])) < 2:
        return False
    deviation = np.maximum(np.nanstd(labels, 0), _LEAST_DEVIATION)
    standardised = (labels - np.nanmean(labels, 0)) / deviation
    wanted = torch.from_numpy(np.nan_to_num(standardised)).to(inputs)
    weight = torch.from_numpy(~np.isnan(standardised)).to(inputs)
    lesson.begin(inputs)
    optimizer = torch.optim.AdamW(lesson.parameters(), lr=lesson.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lesson.lr, total_steps=lesson.steps, pct_start=_WARMUP
    )
    for _ in range(lesson.steps):
        batch = torch.randint(len(inputs), (lesson.batch_size,), generator=generator).to(
            inputs.device
        )
        predicted = lesson.predict(inputs[batch])
        error = nn.functional.huber_loss(predicted, wanted[batch], reduction="none")
        optimizer.zero_grad()
        (error * weight[batch]).mean().backward()
        optimizer.step()
        schedule.step()
    return True
