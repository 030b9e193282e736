"""Which strategy finds the best assembly of networks with the fewest trained? A replay on published tables.

    python benchmarks/grouping_replay.py [--seeds 50] [--json FILE] [--plot FILE] [--synthetic]

Every strategy sees the validation losses of the networks it trains and nothing else; the table is the black box.
Regret is of the honest test total: the networks are chosen and each task is given to one of them on validation, the
test loss of that choice is compared with that of the choice from the full validation table. It may be negative.
Networks count one each, whatever their cost; one stopped at 20 % counts 0.2, going on with it 0.8. Besides what a
strategy looks at, the networks of the final assembly must have been trained: they are counted too.

- random: the network of all tasks, then networks at random; the best assembly of these.
- HOA: singles and pairs at random (15 are all of them), larger sets by the means of their pairs; the best predicted
  assembly is trained. "HOA, half-cost too" is given the results of the half-cost networks besides, 5 more.
- ESA: networks at random stopped at 20 %; the assembly best by these values is trained to the end.
- TAG: the published affinities of the same five tasks (one joint run); the best predicted assembly is trained.
- ours: `NextSets` of `taskgroup.grouping`, all defaults; "no screening" leaves the pairs out.

Tables: Standley et al., ICML 2020 (MIT), Fifty et al., NeurIPS 2021 (Apache-2.0).
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from taskgroup.grouping import Candidate, NextSets, evaluate, read_table, solve
from taskgroup.grouping.predict import (
    BoostedAffinity,
    EarlyStopping,
    GainPredictor,
    PairMeans,
    RidgeOnSets,
    SetProcess,
    SubsetMeans,
    score_predictor,
)

DATA = Path(__file__).resolve().parents[2] / "shared/data/grouping_tables"
BUDGETS = (2, 2.5, 3, 3.5, 4, 4.5, 5)
NETWORKS = (6, 8, 10, 12, 15)
PLANS = {
    "HOA": (8, 10, 12, 15), "HOA, half-cost too": (15,), "ESA": (8, 10, 12), "TAG": (6,),
    "ours, no screening": (10, 15),
}  # fmt: skip
EARLY = 0.2
SCORES = ("pearson", "spearman", "mae", "within_1", "within_2")
TAG_NAMES = {"ss_l": "a", "depth_l": "b", "norm_l": "c", "key_l": "d", "edge2d_l": "e"}


@dataclass(frozen=True, eq=False)
class Setting:
    """One black box: every network's validation and test losses, and those of networks stopped early where known."""

    name: str
    validation: list[Candidate]
    test: list[Candidate]
    early: list[Candidate]
    tag: list[Candidate]

    def measured(self, networks: list[Candidate]) -> list[Candidate]:
        """The validation results of networks."""
        found = {(c.tasks, c.cost): c for c in self.validation}
        return [found[c.tasks, c.cost] for c in networks]


# a strategy: (setting, cost budget of the assembly, networks to train, seed) -> trained networks, networks counted
Strategy = Callable[[Setting, float, int, int], tuple[list[Candidate], float]]


def random_sets(
    setting: Setting, budget: float, n: int, seed: int
) -> tuple[list[Candidate], float]:
    """The network of all tasks and n - 1 others."""
    whole = max(setting.validation, key=lambda c: len(c.tasks))
    others = [c for c in setting.validation if c is not whole]
    drawn = np.random.default_rng(seed).permutation(len(others))[: n - 1]
    return [whole, *(others[i] for i in drawn)], n


def higher_order(
    setting: Setting, budget: float, n: int, seed: int, half: Sequence[Candidate] = ()
) -> tuple[list[Candidate], float]:
    """n of the singles and pairs (a single or pair of each task first), then the assembly they predict."""
    rng = np.random.default_rng(seed)
    small = [c for c in setting.validation if len(c.tasks) <= 2 and c.cost == 1]
    small = [small[i] for i in rng.permutation(len(small))]
    looked: list[Candidate] = []
    while len(looked) < min(n, len(small)):
        seen = {task for c in looked for task in c.tasks}
        looked.append(
            max((c for c in small if c not in looked), key=lambda c: len(set(c.tasks) - seen))
        )
    space = [c for c in setting.validation if c.cost == 1]
    expected = PairMeans().fit(looked).predict(space)
    predicted = _as_candidates(space, expected.mean, expected.tasks)
    chosen = _chosen(setting, [*predicted, *half], budget)
    return chosen, len({(c.tasks, c.cost) for c in [*looked, *half, *chosen]})


def higher_order_and_half(
    setting: Setting, budget: float, n: int, seed: int
) -> tuple[list[Candidate], float]:
    """The same with the half-cost networks of the tasks alone."""
    return higher_order(setting, budget, n, seed, [c for c in setting.validation if c.cost < 1])


def early_stopping(
    setting: Setting, budget: float, n: int, seed: int
) -> tuple[list[Candidate], float]:
    """As many networks stopped early as leave room to train the chosen ones on."""
    going_on = int(2 * budget) * (1 - EARLY)  # half-cost networks only: the most that may be chosen
    count = int((n - min(going_on, 5 * (1 - EARLY))) / EARLY + 1e-9)
    order = np.random.default_rng(seed).permutation(len(setting.early))
    whole = max(range(len(setting.early)), key=lambda i: len(setting.early[i].tasks))
    looked = [setting.early[i] for i in [whole, *(i for i in order if i != whole)][: max(count, 1)]]
    chosen = _chosen(setting, looked, budget)
    return chosen, len(looked) * EARLY + len(chosen) * (1 - EARLY)


def task_affinity(
    setting: Setting, budget: float, n: int, seed: int
) -> tuple[list[Candidate], float]:
    """As many groups as full networks fit the budget, best by the published affinities."""
    solution = solve(setting.tag, groups=int(budget), higher_is_better=True)
    chosen = setting.measured([Candidate(group.tasks, {}) for group in solution.groups])
    return chosen, 1 + len(chosen)


def ours(
    setting: Setting, budget: float, n: int, seed: int, **options: float
) -> tuple[list[Candidate], float]:
    """`NextSets` with a plan of n networks."""
    search = NextSets(setting.validation, planned=n, budget=budget, seed=seed, **options)
    for _ in range(n):
        search.tell(setting.measured(search.ask()))
    return search.trained, n


def ours_no_screening(
    setting: Setting, budget: float, n: int, seed: int
) -> tuple[list[Candidate], float]:
    """`NextSets` that starts with expected improvement at once."""
    return ours(setting, budget, n, seed, screening=0.0)


STRATEGIES: dict[str, Strategy] = {
    "random": random_sets,
    "HOA": higher_order,
    "HOA, half-cost too": higher_order_and_half,
    "ESA": early_stopping,
    "TAG": task_affinity,
    "ours": ours,
    "ours, no screening": ours_no_screening,
}


def _as_candidates(
    networks: list[Candidate], values: np.ndarray, tasks: tuple[str, ...]
) -> list[Candidate]:
    return [
        Candidate(
            c.tasks, {t: v for t, v in zip(tasks, row, strict=True) if np.isfinite(v)}, c.cost
        )
        for c, row in zip(networks, values.tolist(), strict=True)
    ]


def _chosen(setting: Setting, predicted: list[Candidate], budget: float) -> list[Candidate]:
    solution = solve(predicted, budget=budget)
    return setting.measured([Candidate(group.tasks, {}, group.cost) for group in solution.groups])


def regret(setting: Setting, trained: list[Candidate], budget: float) -> tuple[float, float]:
    """Regret against the choice from the full validation table, and against the best test total there is."""
    total = evaluate(solve(trained, budget=budget), setting.test).total
    known, best = references(setting, budget)
    return total - known, total - best


@cache
def references(setting: Setting, budget: float) -> tuple[float, float]:
    """Test total of the choice from the full validation table, and the best test total there is."""
    known = evaluate(solve(setting.validation, budget=budget), setting.test).total
    return known, solve(setting.test, budget=budget).total


def settings() -> list[Setting]:
    """The two published settings."""
    tag = [
        Candidate(
            tuple(TAG_NAMES[t] for t in c.tasks), {TAG_NAMES[t]: v for t, v in c.scores.items()}
        )
        for c in read_table(DATA / "tag/taskonomy5_TAG.json", "tag").candidates
    ]
    found = []
    for number, name in enumerate(("results", "results_large"), start=1):
        parts = [
            list(read_table(DATA / f"standley/{name}{p}.txt", "standley").candidates)
            for p in ("", "_test", "_20")
        ]
        found.append(Setting(f"setting {number}", *parts, tag))
    return found


def synthetic(tails: float | None, seed: int) -> Setting:
    """Five tasks whose helpers add up, with noise of each set's own: normal, or of heavy ``tails`` (Student's t)."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, 0.06, (5, 5))
    validation, test = [], []
    for size in range(1, 6):
        for members in combinations(range(5), size):
            own = 0.02 * (rng.normal(size=5) if tails is None else rng.standard_t(tails, size=5))
            values = {
                "abcde"[i]: 1 + effect[i, [j for j in members if j != i]].sum() + own[i]
                for i in members
            }
            validation.append(Candidate(tuple(values), values))
            test.append(
                Candidate(tuple(values), {t: v + 0.002 * rng.normal() for t, v in values.items()})
            )
    return Setting("", validation, test, [], [])


@dataclass(frozen=True)
class Cell:
    """Mean regret of a strategy at one number of networks and one budget, with its 95 % bootstrap interval."""

    setting: str
    strategy: str
    planned: int
    budget: float
    trained: float
    mean: float
    low: float
    high: float
    against_best_test: float


def replay(job: tuple[list[Setting], str, str, int, float, int]) -> Cell:
    """One cell; with several settings each seed has its own."""
    boxes, name, strategy, n, budget, seeds = job
    found = []
    for seed in range(seeds):
        box = boxes[seed % len(boxes)]
        trained, counted = STRATEGIES[strategy](box, budget, n, seed)
        found.append((*regret(box, trained, budget), counted))
    values, best, counted = (np.array(part) for part in zip(*found, strict=True))
    low, high = np.quantile(_bootstrap(values), [0.025, 0.975])
    return Cell(
        name,
        strategy,
        n,
        budget,
        counted.mean(),
        values.mean(),
        float(low),
        float(high),
        best.mean(),
    )


def _bootstrap(values: np.ndarray, draws: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).choice(values, (draws, len(values))).mean(axis=1)


def jobs(
    seeds: int, with_synthetic: bool
) -> Iterator[tuple[list[Setting], str, str, int, float, int]]:
    """All cells of the replay; strategies without chance need one seed."""
    for setting in settings():
        for strategy in STRATEGIES:
            for n in PLANS.get(strategy, NETWORKS):
                certain = (
                    strategy == "TAG"
                    or ("HOA" in strategy and n == 15)
                    or (strategy == "ESA" and n == 12)
                )
                for budget in BUDGETS:
                    yield [setting], setting.name, strategy, n, budget, 1 if certain else seeds
    for name, tails in (
        (("synthetic", None), ("synthetic, heavy tails", 2.0)) if with_synthetic else ()
    ):
        boxes = [synthetic(tails, seed) for seed in range(seeds)]
        for strategy in ("random", "HOA", "ours", "ours, no screening"):
            for n in (10, 15):
                for budget in (2, 3, 4, 5):
                    yield boxes, name, strategy, n, budget, seeds


def print_table(cells: list[Cell], name: str) -> None:
    """Mean regrets in 1e-4 with intervals, a row a strategy and number of networks."""
    here = [cell for cell in cells if cell.setting == name]
    budgets = sorted({cell.budget for cell in here})
    table = Table(
        "strategy",
        "planned",
        "trained",
        *(f"budget {b:g}" for b in budgets),
        title=f"{name}: regret in 1e-4",
    )
    rows: dict[tuple[str, int], dict[float, Cell]] = {}
    for cell in here:
        rows.setdefault((cell.strategy, cell.planned), {})[cell.budget] = cell
    for (strategy, n), row in rows.items():
        shown = [
            f"{1e4 * c.mean:.1f} [{1e4 * c.low:.1f}, {1e4 * c.high:.1f}]"
            for c in (row[b] for b in budgets)
        ]
        table.add_row(strategy, str(n), f"{np.mean([c.trained for c in row.values()]):.1f}", *shown)
    Console(width=190).print(table)


def print_predictors(boxes: list[Setting], seeds: int) -> None:
    """How each predictor foretells full-cost networks it was not fitted on: from singles and pairs, or 15 at random."""
    content = json.loads((DATA / "tag/taskonomy5_TAG.json").read_text())["table"]
    affinity = np.array([[row[helper] for helper in content] for row in content.values()])
    names = [TAG_NAMES[name] for name in content]
    table = Table(
        "setting",
        "fitted on",
        "predictor",
        "pearson",
        "spearman",
        "mae",
        "within 1",
        "within 2",
        title="predictors",
    )
    for box in boxes:
        networks = [c for c in box.validation if c.cost == 1]
        makers: list[Callable[[], GainPredictor]] = [
            PairMeans, SubsetMeans, lambda box=box: EarlyStopping(box.early), RidgeOnSets, SetProcess,
            lambda: BoostedAffinity(names, affinity),
        ]  # fmt: skip
        small = [c for c in networks if len(c.tasks) <= 2]
        others = networks[:-1]
        orders = [
            np.random.default_rng(seed).permutation(len(others))[:14] for seed in range(seeds)
        ]
        designs = {
            "singles and pairs": [small],
            "15 at random": [[networks[-1], *(others[i] for i in o)] for o in orders],
        }
        for design, samples in designs.items():
            for make in makers:
                scores = [
                    score_predictor(make(), s, [c for c in networks if c not in s]) for s in samples
                ]
                means = [
                    np.nanmean([getattr(score, field) for score in scores]) for field in SCORES
                ]
                table.add_row(
                    box.name, design, type(make()).__name__, *(f"{mean:.3f}" for mean in means)
                )
    Console(width=120).print(table)


def draw(cells: list[Cell], path: str) -> None:
    """Regret, mean over budgets, against the number of networks trained."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    names = [
        name for name in dict.fromkeys(cell.setting for cell in cells) if name.startswith("setting")
    ]
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.5 * len(names), 3.6), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        for strategy in STRATEGIES:
            here = [cell for cell in cells if (cell.setting, cell.strategy) == (name, strategy)]
            plans = sorted({cell.planned for cell in here})
            groups = [[cell for cell in here if cell.planned == n] for n in plans]
            x, y, low, high = (
                [float(np.mean([getattr(cell, field) for cell in group])) for group in groups]
                for field in ("trained", "mean", "low", "high")
            )
            width = 2.5 if strategy == "ours" else 1.0
            line = axis.plot(x, y, marker="o", markersize=4, linewidth=width, label=strategy)[0]
            axis.fill_between(x, low, high, alpha=0.15, color=line.get_color())
        axis.set(title=name, xlabel="networks trained", ylabel="regret of the test total")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_yscale("symlog", linthresh=1e-3)
        axis.set_ylim(bottom=0)
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Replay, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--json", metavar="FILE", help="write every cell of the table")
    parser.add_argument("--plot", metavar="FILE", help="draw regret against networks trained")
    parser.add_argument("--synthetic", action="store_true", help="replay on made-up tables too")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if not DATA.exists():
        parser.error(f"the published tables are not at {DATA}")
    with ProcessPoolExecutor(options.processes) as pool:
        cells = list(pool.map(replay, jobs(options.seeds, options.synthetic)))
    for name in dict.fromkeys(cell.setting for cell in cells):
        print_table(cells, name)
    print_predictors(settings(), options.seeds)
    if options.json:
        Path(options.json).write_text(json.dumps([vars(cell) for cell in cells], indent=1) + "\n")
    if options.plot:
        draw(cells, options.plot)


if __name__ == "__main__":
    main()
