"""Verbs before a study: init, schema, completion, doctor, plugins."""

import re
import shlex
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
@click.argument("store", default="crystals")
@click.option(
    "--out",
    default="study.yaml",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The study file to write.",
)
@output_format("text", "json")
def init(store: str, out: Path, form: str) -> None:
    """Look at a STORE (or built-in dataset) and write a study file for it, in which every line is commented.

    The file has the targets with their ranges, a search space that fits rows and device, and a budget.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.datasets import load_dataset
    from taskgroup.datasets.quality import all_label_notes
    from taskgroup.files import write_text
    from taskgroup.machine import default_device
    from taskgroup.spec.starter import starter_study

    if out.exists():
        raise InputError(f"{out}: exists; choose another name with --out")
    dataset = load_dataset(store)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", out.stem).strip("_.-") or "study"
    write_text(out, starter_study(dataset, store, name, default_device()))
    notes = all_label_notes(dataset)
    if form == "json":
        print_json({"study": str(out), "name": name, "notes": notes})
        return
    click.echo(f"Wrote {out}. Run it with: taskgroup run {shlex.quote(str(out))}")
    for note in notes:
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
@click.option("--json", "as_json", is_flag=True, help="Accepted for uniformity: it is JSON anyway.")
def schema(as_json: bool) -> None:
    """Print the JSON schema of study files, for editors: every key with its meaning, default and limits."""
    from taskgroup.cli._console import print_json
    from taskgroup.spec.schema import study_schema

    print_json(study_schema())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@output_format("text", "json")
def completion(shell: str, form: str) -> None:
    """Print the script that completes verbs and options in a shell.

    Let the shell read it at its start, with this line in ~/.bashrc (or, with zsh, in ~/.zshrc):
    eval "$(taskgroup completion bash)". For fish, save it as ~/.config/fish/completions/taskgroup.fish.
    """
    from click.shell_completion import get_completion_class

    from taskgroup.cli import cli
    from taskgroup.cli._console import print_json

    script = get_completion_class(shell)(cli, {}, "taskgroup", "_TASKGROUP_COMPLETE").source()
    if form == "json":
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)


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
