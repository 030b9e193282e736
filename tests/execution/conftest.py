"""Jobs of the small dataset, and waiting for what other processes do."""

import time
from collections.abc import Callable

import pytest

from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.training import GroupJob


@pytest.fixture
def jobs(make_config) -> Callable[..., list[GroupJob]]:
    """Makes one job per argument, of the targets joined in it by ``+``."""

    def make(*targets: str, epochs: int = 3, seed: int = 0) -> list[GroupJob]:
        config = make_config(f"space.training.epochs={epochs}")
        _, model, training = settings_of(config.space.baseline())
        data = StudyData(config)
        recipe = Recipe(model, training)
        return [data.job(target.split("+"), recipe, seed, 1) for target in targets]

    return make


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Waits until a condition holds."""

    def wait(condition: Callable[[], bool], seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.05)

    return wait
