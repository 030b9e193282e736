"""`taskgroup solve`: the exact solver on any table of set results."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from taskgroup.errors import GroupingError
from taskgroup.grouping import Rescored, SetTable, Solution, evaluate, pareto, read_table
from taskgroup.grouping import solve as solve_table
from taskgroup.grouping.tables import SOURCES

Scored = tuple[Solution, Rescored | None]


@click.command()
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--from", "source", type=click.Choice(SOURCES), default="csv", show_default=True,
    help="Format of TABLE. csv: columns tasks (separated by spaces), cost (default 1), then one a task.",
)  # fmt: skip
@click.option(
    "--lower-is-better/--higher-is-better", "lower", default=None,
    help="Losses (default) or scores (default of tag and mtgnet).",
)  # fmt: skip
@click.option("--budget", type=float, metavar="COST", help="Summed cost of the networks at most.")
@click.option("--groups", type=int, metavar="K", help="Number of networks at most.")
@click.option(
    "--disjoint", is_flag=True, help="A partition; else sets may overlap, with helper tasks."
)
@click.option(
    "--weights",
    metavar="a=2,b=1",
    help="Weights of the tasks (default 1; tag: the mean is solved for).",
)
@click.option("--max-group-size", type=int, metavar="N", help="Only sets of at most N tasks.")
@click.option(
    "--together",
    multiple=True,
    metavar="a,b",
    help="One network must serve these tasks. Repeatable.",
)
@click.option(
    "--apart",
    multiple=True,
    metavar="a,b",
    help="No chosen network may hold two of these. Repeatable.",
)
@click.option(
    "--normalise", is_flag=True, help="Values relative to the best network of the task alone."
)
@click.option("--pareto", "front", is_flag=True, help="The whole front of total against cost.")
@click.option(
    "--evaluate", "other", type=click.Path(exists=True, dir_okay=False), metavar="TABLE2",
    help="Score the choice on another table too, each task at the set that served it in TABLE.",
)  # fmt: skip
@click.option(
    "--time-limit", type=click.FloatRange(min=0), default=60, show_default=True, metavar="SECONDS",
    help="Then the best choice found is given, with its gap (--pareto: of each point).",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "modnet"]), default="table", show_default=True,
    help="For people, for programs, or MODNet's nested list of targets.",
)  # fmt: skip
def solve(
    table: str, source: str, lower: bool | None, weights: str | None, together: tuple[str, ...], apart: tuple[str, ...],
    front: bool, other: str | None, form: str, **options: Any,
) -> None:  # fmt: skip
    """Choose the networks that serve every task best, exactly, out of a TABLE of trained sets."""
    read = read_table(table, source)
    scoring: dict[str, Any] = {
        "weights": {**read.weights, **_weights(weights, read)},
        "higher_is_better": read.higher_is_better if lower is None else not lower,
        "normalise": options.pop("normalise"),
    }
    options["together"] = [_names(text) for text in together]
    options["apart"] = [_names(text) for text in apart]
    if front:
        solutions = pareto(read.candidates, **scoring, **options)
    else:
        solutions = [solve_table(read.candidates, **scoring, **options)]
    scored: list[Scored] = [(solution, None) for solution in solutions]
    if other:
        candidates = read_table(other, source).candidates
        scored = [(s, evaluate(s, candidates, **scoring)) for s in solutions]
    _PRINTERS[form](scored, front)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _weights(text: str | None, table: SetTable) -> dict[str, float]:
    """Return the given weights; where the format brings weights of its own, multiples of them."""
    weights = {}
    for part in _names(text or ""):
        name, _, value = part.partition("=")
        task = name.strip()
        try:
            weights[task] = float(value) * table.weights.get(task, 1.0)
        except ValueError:
            raise GroupingError(f"weights must look like a=2,b=0.5, found '{part}'") from None
    return weights


def _as_dict(solution: Solution, evaluation: Rescored | None) -> dict[str, object]:
    found = solution.to_dict()
    if evaluation:
        found["evaluated"] = {"total": evaluation.total, "per_task": evaluation.per_task}
    return found


def _print_json(scored: list[Scored], front: bool) -> None:
    found = [_as_dict(*pair) for pair in scored]
    click.echo(json.dumps(found if front else found[0], indent=2))


def _print_modnet(scored: list[Scored], front: bool) -> None:
    found = [solution.to_modnet() for solution, _ in scored]
    click.echo(json.dumps(found if front else found[0]))


def _print_table(scored: list[Scored], front: bool) -> None:
    console = Console(highlight=False)
    if front:
        console.print(_front_table(scored))
        return
    solution, evaluation = scored[0]
    networks = Table("network", "serves", "helpers", "cost")
    for group in solution.groups:
        helpers = [task for task in group.tasks if task not in group.serves]
        name = " ".join(filter(None, [*group.tasks, group.key]))
        networks.add_row(name, " ".join(group.serves), " ".join(helpers), f"{group.cost:g}")
    console.print(networks, _task_table(solution, evaluation))
    console.print(f"cost {solution.cost:g}, {_proof(solution)}")


def _task_table(solution: Solution, evaluation: Rescored | None) -> Table:
    table = Table("task", "value")
    if evaluation:
        table.add_column("evaluated")
    for task, value in solution.per_task.items():
        again = evaluation.per_task[task] if evaluation else None
        table.add_row(task, *_numbers(value, again))
    table.add_section()
    table.add_row("total", *_numbers(solution.total, evaluation.total if evaluation else None))
    return table


def _numbers(value: float, again: float | None) -> list[str]:
    """Return the cells of a value and, where there is one, of its evaluation on another table."""
    cells = [f"{value:.6g}"]
    if again is not None:
        cells.append(f"{again:.6g}")
    return cells


def _front_table(scored: list[Scored]) -> Table:
    is_evaluated = scored[0][1] is not None
    values = ["total", "evaluated"] if is_evaluated else ["total"]
    table = Table("cost", *values, "networks", "proof")
    for solution, evaluation in scored:
        again = evaluation.total if evaluation else None
        numbers = _numbers(solution.total, again)
        table.add_row(f"{solution.cost:g}", *numbers, str(solution.grouping()), _proof(solution))
    return table


def _proof(solution: Solution) -> str:
    return "proven best" if solution.gap == 0 else f"gap {solution.gap:.2%} when the time was up"


_PRINTERS = {"table": _print_table, "json": _print_json, "modnet": _print_modnet}
