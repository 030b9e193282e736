"""What affinities measured while training cost: a joint run with a hook against the same run without.

    python benchmarks/affinity_cost.py [--targets 3 5 8] [--repeats 3] [--json]

Promised: at most 1.15 times for gradient cosines, (n + 1) / 2 times for look-ahead (TAG). Runs alternate; on a CPU the
process's own time is taken, so that a busy machine does not count. The last columns are one probe of the Gramian by
plain backward passes (ours), by torchjd's autogram engine (with the forward pass it has to hook), and in one vmapped
backward pass (torch), in units of a training step.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from taskgroup.affinity.gradients import gramian
from taskgroup.datasets import Dataset, Target, TargetTable
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, Hook, HookContext, TrainConfig, fit
from taskgroup.training.affinity_hooks import AffinityHook

SPLIT = {"by": "random", "folds": 4, "seed": 0, "test_fold": 0, "validation_fold": 1}
ROWS, GRID, EPOCHS = 512, 16, 8
PROMISES = {"gradient": lambda n: 1.15, "look_ahead": lambda n: (n + 1) / 2}


def synthetic(targets: int) -> Dataset:
    """Random densities and labels: only the time matters."""
    random = np.random.default_rng(0)
    specs = tuple(Target(f"t{i}") for i in range(targets))
    ids = [f"row{i}" for i in range(ROWS)]
    table = TargetTable(specs, ids, random.normal(size=(ROWS, targets)))
    density = random.random((ROWS, 1, GRID, GRID, GRID), dtype=np.float32)
    return Dataset.from_arrays(
        "synthetic", ids, table, density, np.tile(4 * np.eye(3), (ROWS, 1, 1)), ids, ids
    )


class ProbeTimes(Hook):
    """Seconds of one Gramian, three ways, at the third step."""

    def on_step(self, context: HookContext) -> None:
        """Time the probes once."""
        if context.step != 2:
            return
        ours, eye = (
            list(context.shared),
            torch.eye(len(context.losses), device=context.losses.device),
        )
        backbone = context.network.trunk

        def engine() -> Any:
            from torchjd.autogram import Engine

            gramian_engine = Engine(backbone, batch_dim=None)
            features = context.network.heads(
                context.network.features(context.rows, context.lattice)
            )
            losses = context.target_losses(features, context.labels, context.present)
            return gramian_engine.compute_gramian(losses)

        def vmapped() -> Any:
            return torch.autograd.grad(
                context.losses, ours, eye, retain_graph=True, is_grads_batched=True
            )

        self.seconds = {
            "plain": best(lambda: gramian(context.losses, ours)),
            "engine": best(engine),
            "vmap": best(vmapped),
            "step": best(lambda: one_step(context)),
        }


def one_step(context: HookContext) -> None:
    """A forward and a backward pass, as a training step does them."""
    outputs = context.network.heads(context.network.features(context.rows, context.lattice))
    loss = context.target_losses(outputs, context.labels, context.present).mean()
    torch.autograd.grad(loss, list(context.network.parameters()))


def best(function: Callable[[], Any], repeats: int = 3) -> float:
    """Least of a few timings; the first call warms up."""
    function()
    return min(timed(function) for _ in range(repeats))


def timed(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    if not torch.cuda.is_available():
        start = time.process_time()
        function()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(targets: int, repeats: int) -> dict[str, Any]:
    """Ratios of run times, median and spread over repeats, for one number of targets."""
    dataset = synthetic(targets)
    split = dataset.splits(by="random", folds=4, seed=0).split(test_fold=0, validation_fold=1)
    config = TrainConfig(
        epochs=EPOCHS, batch_size=32, precision="float32"
    )  # torchjd's engine knows no mixed precision
    job = GroupJob(
        dataset.targets.names, ModelConfig(), config, 0, "synthetic", dataset.hash, SPLIT
    )

    def run(*hooks: Hook) -> float:
        return timed(lambda: fit(dataset, split, job, hooks=hooks))

    run()
    row: dict[str, Any] = {"targets": targets}
    ratios: dict[str, list[float]] = {name: [] for name in PROMISES}
    for _ in range(repeats):
        plain = run()
        for name, found in ratios.items():
            found.append(run(AffinityHook(name)) / plain)
    for name, found in ratios.items():
        row |= {
            name: float(np.median(found)),
            f"{name}_spread": float(np.std(found)),
            f"{name}_promised": PROMISES[name](targets),
        }
    probe = ProbeTimes()
    run(probe)
    return row | {
        f"probe_{name}": probe.seconds[name] / probe.seconds["step"]
        for name in ("plain", "engine", "vmap")
    }


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, nargs="+", default=[2, 3, 5, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(targets, options.repeats) for targets in options.targets]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("time with / time without, and one probe / one step")
    print(
        f"{'n':>3} {'cosine':>14} {'at most':>8} {'TAG':>14} {'at most':>8} {'plain':>7} {'engine':>7} {'vmap':>7}"
    )
    for r in rows:
        columns = [f"{r['targets']:>3}"]
        for name in PROMISES:
            measured = f"{r[name]:.3f} ± {r[f'{name}_spread']:.3f}"
            columns.append(f"{measured:>14} {r[f'{name}_promised']:8.2f}")
        columns += [f"{r[f'probe_{name}']:7.2f}" for name in ("plain", "engine", "vmap")]
        print(" ".join(columns))


if __name__ == "__main__":
    main()
