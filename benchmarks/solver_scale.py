"""How long the solver takes: random tables of 27 tasks and 3,000 sets, every number of networks from 1 to 27.

    OMP_NUM_THREADS=1 python benchmarks/solver_scale.py [--tasks 27] [--sets 3000]

Three kinds of tables: noise only, directed effects of helpers that add up, and small sets (two or three tasks). Each
starts with every task alone. Seconds are of one processor core, so that a busy machine tells the same.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from taskgroup.errors import InfeasibleError
from taskgroup.grouping import Candidate, solve

KINDS = {"noise": (0.0, 14), "helpers": (0.03, 14), "small sets": (0.0, 3)}


def random_table(n_tasks: int, n_sets: int, effect: float, largest: int) -> list[Candidate]:
    """Losses around 1 of every task alone and of random sets of two to ``largest`` tasks."""
    rng = np.random.default_rng(0)
    helps = rng.normal(0, effect, (n_tasks, n_tasks))
    sets = [(i,) for i in range(n_tasks)]
    while len(sets) < n_sets:
        sets.append(
            tuple(rng.choice(n_tasks, rng.integers(2, largest + 1), replace=False).tolist())
        )
    return [
        Candidate(
            tuple(f"t{i:02d}" for i in s),
            {
                f"t{i:02d}": 1 + helps[i, list(s)].sum() / len(s) ** 0.5 + 0.05 * rng.normal()
                for i in s
            },
        )
        for s in sets
    ]


def main() -> None:
    """Time every K on each kind of table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=27)
    parser.add_argument("--sets", type=int, default=3000)
    options = parser.parse_args()
    table = Table(
        "table", "K proven best", "K without a choice", "slowest K", "its seconds", "seconds in all"
    )
    for kind, (effect, largest) in KINDS.items():
        candidates = random_table(options.tasks, options.sets, effect, min(largest, options.tasks))
        seconds, proven, impossible = {}, 0, 0
        for k in range(1, options.tasks + 1):
            started = time.process_time()
            try:
                proven += solve(candidates, groups=k).gap == 0
            except InfeasibleError:
                impossible += 1
            seconds[k] = time.process_time() - started
        slowest = max(seconds, key=lambda k: seconds[k])
        times = f"{seconds[slowest]:.2f}", f"{sum(seconds.values()):.1f}"
        table.add_row(kind, str(proven), str(impossible), str(slowest), *times)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
