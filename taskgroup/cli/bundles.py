"""Verbs on bundles: export, predict, evaluate."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_DEVICE = click.option(
    "--device", help="Where to compute, cpu or cuda; default: a GPU if there is one."
)
_COLUMNS = 8  # targets shown beside each other
_BATCH = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Densities at a time; default: 32, on a GPU 128.",
)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["safetensors", "pt2", "onnx"]), default=["safetensors"],
    help="safetensors: the bundle (always); pt2, onnx: also one program a group, in DIR/programs.",
)  # fmt: skip
@click.option(
    "--register", metavar="NAME", help="Register the bundle in the run's MLflow model registry."
)
def export(run: Path, out: Path, formats: tuple[str, ...], register: str | None) -> None:
    """Copy the bundle of a finished run, in further formats where asked."""
    from taskgroup.errors import RunError
    from taskgroup.export import load_bundle, save_bundle
    from taskgroup.export.formats import export_programs, register_bundle
    from taskgroup.tracking import find_run, tracking_uri

    folder = find_run(run)
    if not (folder / "export").exists():
        raise RunError(
            f"{folder}: has no bundle yet, the study has not ended; go on with: taskgroup resume {folder}"
        )
    bundle = load_bundle(folder / "export")
    click.echo(save_bundle(out, bundle.spec, bundle.members))
    for form in formats:
        if form != "safetensors":
            for path in export_programs(bundle, out / "programs", form):
                click.echo(path)
    if register:
        version = register_bundle(out, register, tracking_uri(folder), folder / "mlartifacts")
        click.echo(f"models:/{register}/{version}, alias champion")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="FILE...|STORE", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)
@click.option(
    "--coverage", type=click.Choice(["0.5", "0.68", "0.9", "0.95"]),
    help="Also give the interval that holds so large a share of true values.",
)  # fmt: skip
@_BATCH
@_DEVICE
def predict(
    bundle: Path,
    inputs: tuple[str, ...],
    form: str,
    coverage: str | None,
    batch_size: int | None,
    device: str | None,
) -> int:
    """Predict the properties of densities: files, or all rows of a store.

    A file that cannot be used is reported, the others are predicted, and the exit code is 2.
    """
    from taskgroup.export import load_bundle

    refused: list[str] = []

    def on_error(name: str, error: Exception) -> None:
        refused.append(name)
        click.echo(f"Error: {error}", err=True)

    loaded = load_bundle(bundle)
    is_store = len(inputs) == 1 and not Path(inputs[0]).is_file()
    source = inputs[0] if is_store else inputs
    share = None if coverage is None else float(coverage)
    frame = loaded.predict(
        source, batch_size=batch_size, device=device, coverage=share, on_error=on_error
    )
    if form == "json":
        click.echo(json.dumps(prediction_rows(frame), indent=1))
    elif form == "csv":
        click.echo(_with_units(frame).to_csv(), nl=False)
    else:
        _print(_prediction_table(frame))
    return 2 if refused else 0


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("store")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also rows that the bundle was trained or validated on.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@_BATCH
@_DEVICE
def evaluate(
    bundle: Path,
    store: str,
    everything: bool,
    form: str,
    batch_size: int | None,
    device: str | None,
) -> None:
    """Metrics of a bundle on the labels of a store (or built-in dataset), on rows it has not seen."""
    from taskgroup.datasets import load_dataset
    from taskgroup.export import evaluate as evaluate_bundle
    from taskgroup.export import load_bundle

    loaded, dataset = load_bundle(bundle), load_dataset(store)
    rows = range(len(dataset)) if everything else None
    found = evaluate_bundle(loaded, dataset, rows, batch_size=batch_size, device=device)
    if form == "json":
        click.echo(json.dumps(found, indent=1, allow_nan=False))
        return
    _print(_metric_table(found["targets"], loaded.units))
    seen = (
        f", {found['seen_rows']} of them seen in training"
        if found["seen_rows"]
        else ", none of them seen in training"
    )
    click.echo(
        f"{found['rows']} rows of {found['dataset']['name']}{seen}. Skill with its 95 % interval; R2 as learnt."
    )


def prediction_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """``[{id, predictions: {target: {value, unit, std}}}]``, with ``low`` and ``high`` where there are intervals."""
    units = frame.attrs["units"]

    def one(row: Any, target: str) -> dict[str, Any]:
        found = {
            "value": float(row[target]),
            "unit": units[target],
            "std": float(row[f"{target}_std"]),
        }
        if f"{target}_low" in frame:
            found |= {bound: float(row[f"{target}_{bound}"]) for bound in ("low", "high")}
        return found

    return [
        {"id": name, "predictions": {t: one(row, t) for t in units}}
        for name, row in frame.iterrows()
    ]


def _with_units(frame: "pd.DataFrame") -> "pd.DataFrame":
    units = {
        f"{target}{of}": u
        for target, u in frame.attrs["units"].items()
        for of in ("", "_std", "_low", "_high")
    }
    return frame.rename(
        columns=lambda column: f"{column} [{units[column]}]" if units[column] else column
    )


def _prediction_table(frame: "pd.DataFrame") -> "Table":
    """A row a density while that fits, else a row a target; files without their folder where that tells them apart."""
    rows, units = prediction_rows(frame), frame.attrs["units"]
    names = [Path(row["id"]).name for row in rows]
    names = names if len(set(names)) == len(rows) else [row["id"] for row in rows]
    cells = [
        {target: _with_uncertainty(found) for target, found in row["predictions"].items()}
        for row in rows
    ]
    if len(units) <= _COLUMNS:
        table = _table("id", *(f">{target}\n{unit}" for target, unit in units.items()))
        for name, values in zip(names, cells, strict=True):
            table.add_row(name, *values.values())
        return table
    table = _table("id", "target", ">value", "unit")
    for name, values in zip(names, cells, strict=True):
        for i, (target, value) in enumerate(values.items()):
            table.add_row("" if i else name, target, value, units[target])
        table.add_section()
    return table


def _with_uncertainty(found: dict[str, Any]) -> str:
    if "low" in found:
        return f"{found['value']:.4g} [{found['low']:.3g}, {found['high']:.3g}]"
    return f"{found['value']:.4g} ± {found['std']:.2g}"


def _metric_table(targets: dict[str, dict[str, Any]], units: dict[str, str]) -> "Table":
    table = _table(
        "target", ">n", ">skill", "95 %", ">R2", ">MAE", ">RMSE", "unit", ">in 90 %", ">AUC"
    )
    for name, metrics in targets.items():
        bounds = f"[{_number(metrics['low'])}, {_number(metrics['high'])}]"
        cells = [_number(metrics.get(key)) for key in ("r2", "mae", "rmse")]
        inside = f"{metrics['coverage_90']:.0%}" if "coverage_90" in metrics else ""
        skill, auc = _number(metrics["skill"]), _number(metrics.get("auc"))
        table.add_row(name, str(metrics["n"]), skill, bounds, *cells, units[name], inside, auc)
    return table


def _table(*headers: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        justify = "right" if header.startswith(">") else "left"
        table.add_column(
            header.removeprefix(">"), justify=justify, no_wrap=header != "id", overflow="fold"
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _print(table: "Table") -> None:
    from taskgroup.cli._console import make_console

    make_console().print(table)
