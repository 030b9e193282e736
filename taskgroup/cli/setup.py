"""Verbs before a study: init, schema, doctor, plugins."""

from dataclasses import asdict
from pathlib import Path

import click

from taskgroup.cli._options import output_format
from taskgroup.errors import InputError, printable

# Exit code where a bundle no longer predicts what it did.
_BUNDLE_CHANGED = 2
# Exit code where a run folder is damaged and was not repaired.
_DAMAGED_RUN = 2


@click.command()
@click.argument("path", default="study.yaml", type=click.Path(dir_okay=False))
@click.option(
    "--dataset", default="crystals", show_default=True, help="A built-in dataset or a store folder."
)
def init(path: str, dataset: str) -> None:
    """Write a study file to start from: the quick start's, with your dataset."""
    from taskgroup.spec.config import find_config

    target = Path(path)
    if target.exists():
        raise InputError(f"{path}: exists; choose another name")
    template = find_config("quickstart", "studies").read_text(encoding="utf-8")
    lines = []
    for line in template.splitlines():
        if line.startswith("name:"):
            line = f"name: {target.stem.replace(' ', '_')}"
        elif line.startswith("dataset:"):
            line = f"dataset: {dataset}"
        elif line.startswith("targets:") and dataset != "crystals":
            # The targets of the quick start are those of its own dataset.
            continue
        lines.append(line)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    click.echo(f"Wrote {path}. Run it with: taskgroup run {path}")
    _print_label_notes(dataset)


def _print_label_notes(dataset: str) -> None:
    """Print what is odd about the labels of a dataset; one that is not there yet has no notes."""
    from taskgroup.datasets import load_dataset
    from taskgroup.datasets.quality import all_label_notes

    try:
        opened = load_dataset(dataset)
    except InputError:
        return
    for note in all_label_notes(opened):
        click.echo(printable(f"note: {note}"), err=True)


@click.command()
@output_format("table", "json")
def spaces(form: str) -> None:
    """List the search spaces that a study may name, with rows, targets, device and time they are made for.

    Try a space on a study with: taskgroup run STUDY --set space=NAME
    """
    from taskgroup.cli._console import plain_table, print_json, print_table
    from taskgroup.spec.space_check import ABOUT_FIELDS
    from taskgroup.spec.spaces import named_spaces

    found = named_spaces()
    if form == "json":
        print_json([{**asdict(space), "path": str(space.path)} for space in found])
        return
    table = plain_table("space", *ABOUT_FIELDS, ">recipes")
    for space in found:
        cells = [space.about.get(name, "") for name in ABOUT_FIELDS]
        recipes = "a range" if space.recipes is None else str(space.recipes)
        table.add_row(space.name, *cells, recipes)
    print_table(table)


@click.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from taskgroup.cli._console import print_json
    from taskgroup.spec.config import study_schema

    print_json(study_schema())


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Mend a run folder: remove what can be made again.")
@output_format("text", "json")
def doctor(bundle: Path | None, repair: bool, form: str) -> int:
    """Show what this machine offers; with a BUNDLE, whether it still predicts what it did; with a RUN, its damage.

    The exit code is 2 where a bundle predicts other numbers, or a run is damaged and was not repaired.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.cli._doctor import bundle_findings, bundle_lines, machine_findings

    if repair and bundle is None:
        raise InputError(
            "--repair: name the run folder to mend, like 'taskgroup doctor RUN --repair'"
        )
    if bundle is not None and (repair or (bundle / "study.json").exists()):
        return _examine(bundle, repair, form)
    if bundle is None:
        findings = machine_findings()
        if form == "json":
            print_json(findings)
            return 0
        width = max(map(len, findings))
        for name, finding in findings.items():
            click.echo(f"{name:{width}}  {finding}")
        return 0
    comparison = bundle_findings(bundle)
    if form == "json":
        print_json(comparison)
    else:
        for line in bundle_lines(bundle, comparison):
            click.echo(line)
    return 0 if comparison["holds"] else _BUNDLE_CHANGED


def _examine(run: Path, repair: bool, form: str) -> int:
    """Print the damage of a run folder."""
    from taskgroup.cli._console import print_json
    from taskgroup.study.repair import examine_run
    from taskgroup.tracking import find_run

    folder = find_run(run)
    findings = examine_run(folder, repair=repair)
    if form == "json":
        print_json({"run": str(folder), "damage": findings, "repaired": repair})
    else:
        for finding in findings:
            click.echo(finding)
        click.echo(_advice(folder, len(findings), repair))
    return 0 if repair or not findings else _DAMAGED_RUN


def _advice(folder: Path, n_findings: int, repair: bool) -> str:
    if n_findings == 0:
        return f"{folder}: nothing is damaged."
    if repair:
        return f"Mended; go on with: taskgroup resume {folder}"
    return f"Mend it with: taskgroup doctor {folder} --repair"


@click.command()
@output_format("table", "json")
def plugins(form: str) -> None:
    """List readers, measures, clusterers, backbones, balancers and executors, and where each comes from."""
    from taskgroup.cli._console import plain_table, print_json, print_table
    from taskgroup.cli._plugins import registered

    rows = registered()
    if form == "json":
        print_json(rows)
        return
    table = plain_table("kind", "name", "from", "version")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["distribution"], row["version"])
    print_table(table)
