"""Verbs on bundles: export, predict, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskgroup.cli._options import BATCH_SIZE, CHECK, DEVICE, output_format

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from taskgroup.export import Bundle

# More targets than these are shown below each other instead of side by side.
_MOST_COLUMNS = 8


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["safetensors", "pt2", "onnx"]),
    default=["safetensors"],
    help="safetensors: the bundle (always); pt2, onnx: also one program per group, in DIR/programs.",
)
@click.option(
    "--register", metavar="NAME", help="Register the bundle in the run's MLflow model registry."
)
@CHECK
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(
    run: Path, out: Path, formats: tuple[str, ...], register: str | None, check: bool, as_json: bool
) -> None:
    """Copy the bundle of a finished run, in further formats where asked."""
    from taskgroup.cli._console import print_json
    from taskgroup.errors import RunError
    from taskgroup.export import load_bundle, save_bundle
    from taskgroup.tracking import find_run

    folder = find_run(run)
    if not (folder / "export").exists():
        raise RunError(
            f"{folder}: has no bundle yet, the study has not ended; go on with: taskgroup resume {folder}"
        )
    bundle = load_bundle(folder / "export", check=check)
    save_bundle(out, bundle.spec, bundle.members, bundle.reference)
    programs = _write_programs(bundle, out, formats)
    model = None
    if register:
        from taskgroup.study.publish import register_model

        model = f"models:/{register}/{register_model(folder, register)}"
    if as_json:
        print_json({"bundle": str(out), "programs": list(map(str, programs)), "model": model})
        return
    click.echo(out)
    for path in programs:
        click.echo(path)
    if model:
        click.echo(f"{model}, alias champion")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="FILE...|FOLDER|ARCHIVE|STORE", nargs=-1, required=True)
@output_format("table", "csv", "json")
@click.option(
    "--coverage",
    type=click.Choice(["0.5", "0.68", "0.9", "0.95"]),
    help="Also give the interval that holds so large a share of true values.",
)
@click.option(
    "--electrons",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="The valence electrons in each file, within 1 %: charged or doped cells, strided cubes.",
)
@click.option(
    "--frame",
    type=int,
    metavar="N",
    help="Which of several configurations in a file: 0 is the first, -1 the last.",
)
@BATCH_SIZE
@DEVICE
@CHECK
def predict(
    bundle: Path,
    inputs: tuple[str, ...],
    form: str,
    coverage: str | None,
    electrons: float | None,
    frame: int | None,
    batch_size: int | None,
    device: str | None,
    check: bool,
) -> int:
    """Predict the properties of densities: files, all files of a folder or an archive, or all rows of a store.

    A file that cannot be used is reported, the others are predicted, and the exit code is 1.
    """
    from taskgroup.cli._console import print_json, print_table
    from taskgroup.export import load_bundle
    from taskgroup.files import csv_text

    refused: list[str] = []

    def on_error(name: str, error: Exception) -> None:
        refused.append(name)
        click.echo(f"Error: {error}", err=True)

    source: Any = inputs
    if len(inputs) == 1 and not Path(inputs[0]).is_file():
        source = inputs[0]
    share = None if coverage is None else float(coverage)
    predicted = load_bundle(bundle, check=check).predict(
        source,
        batch_size=batch_size,
        device=device,
        coverage=share,
        on_error=on_error,
        electrons=electrons,
        frame=frame,
    )
    for name, note in predicted.attrs["notes"].items():
        click.echo(f"{name}: {note}", err=True)
    if form == "json":
        print_json(prediction_rows(predicted))
    elif form == "csv":
        from taskgroup.export.served import with_units

        click.echo(csv_text(with_units(predicted), index=True), nl=False)
    else:
        print_table(_prediction_table(predicted))
    return 1 if refused else 0


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("store")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also rows that the bundle was trained or validated on.",
)
@output_format("table", "json")
@BATCH_SIZE
@DEVICE
@CHECK
def evaluate(
    bundle: Path,
    store: str,
    everything: bool,
    form: str,
    batch_size: int | None,
    device: str | None,
    check: bool,
) -> None:
    """Measure a bundle on the labels of a store (or built-in dataset), on rows it has not seen."""
    from taskgroup.cli._console import print_json, print_table
    from taskgroup.datasets import load_dataset
    from taskgroup.export import evaluate as evaluate_bundle
    from taskgroup.export import load_bundle

    loaded = load_bundle(bundle, check=check)
    dataset = load_dataset(store)
    rows = range(len(dataset)) if everything else None
    result = evaluate_bundle(loaded, dataset, rows, batch_size=batch_size, device=device)
    if form == "json":
        print_json(result)
        return
    print_table(_metric_table(result["targets"], loaded.units))
    seen = "none of them seen in training"
    if result["seen_rows"]:
        seen = f"{result['seen_rows']} of them seen in training"
    click.echo(
        f"{result['rows']} rows of {result['dataset']['name']}, {seen}. "
        "Skill with its 95 % interval; R2 as learnt."
    )


def prediction_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return ``[{id, predictions: {target: {value, unit, std}}}]``, with ``low`` and ``high`` where there are any."""
    units = frame.attrs["units"]
    rows = []
    for name, row in frame.iterrows():
        predictions = {target: _prediction(row, target, unit) for target, unit in units.items()}
        rows.append({"id": name, "predictions": predictions})
    return rows


def _prediction(row: "pd.Series", target: str, unit: str) -> dict[str, Any]:
    prediction = {"value": float(row[target]), "unit": unit, "std": float(row[f"{target}_std"])}
    if f"{target}_low" in row:
        prediction["low"] = float(row[f"{target}_low"])
        prediction["high"] = float(row[f"{target}_high"])
    return prediction


def _write_programs(bundle: "Bundle", out: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write the programs of every format but the bundle's own; return all files."""
    from taskgroup.export.formats import export_programs

    paths = []
    for form in formats:
        if form != "safetensors":
            paths += export_programs(bundle, out / "programs", form)
    return paths


def _prediction_table(frame: "pd.DataFrame") -> "Table":
    """Return one row per density while its targets fit side by side, else one row per target."""
    from taskgroup.cli._console import plain_table

    units = frame.attrs["units"]
    rows = prediction_rows(frame)
    names = _short_names([row["id"] for row in rows])
    if len(units) <= _MOST_COLUMNS:
        headers = [f">{target}\n{unit}" for target, unit in units.items()]
        table = plain_table("id", *headers)
        for name, row in zip(names, rows, strict=True):
            table.add_row(name, *map(_with_uncertainty, row["predictions"].values()))
        return table
    table = plain_table("id", "target", ">value", "unit")
    for name, row in zip(names, rows, strict=True):
        shown_name = name
        for target, prediction in row["predictions"].items():
            table.add_row(shown_name, target, _with_uncertainty(prediction), units[target])
            # The name stands at the first of its rows only.
            shown_name = ""
        table.add_section()
    return table


def _short_names(ids: list[str]) -> list[str]:
    """Return file names without their folders where they still tell the rows apart."""
    names = [Path(name).name for name in ids]
    if len(set(names)) == len(ids):
        return names
    return ids


def _with_uncertainty(prediction: dict[str, Any]) -> str:
    value = prediction["value"]
    if "low" in prediction:
        return f"{value:.4g} [{prediction['low']:.3g}, {prediction['high']:.3g}]"
    return f"{value:.4g} ± {prediction['std']:.2g}"


def _metric_table(targets: dict[str, dict[str, Any]], units: dict[str, str]) -> "Table":
    from taskgroup.cli._console import plain_table

    table = plain_table(
        "target", ">n", ">skill", "95 %", ">R2", ">MAE", ">RMSE", "unit", ">in 90 %", ">AUC"
    )
    for name, metrics in targets.items():
        inside = ""
        if "coverage_90" in metrics:
            inside = f"{metrics['coverage_90']:.0%}"
        table.add_row(
            name,
            str(metrics["n"]),
            _number(metrics["skill"]),
            f"[{_number(metrics['low'])}, {_number(metrics['high'])}]",
            _number(metrics.get("r2")),
            _number(metrics.get("mae")),
            _number(metrics.get("rmse")),
            units[name],
            inside,
            _number(metrics.get("auc")),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
