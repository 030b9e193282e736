"""`taskgroup import`: results of others as a run."""

from pathlib import Path

import click

from taskgroup.cli._options import output_format


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="Name of the run.")
@click.option(
    "--from",
    "kind",
    default="csv",
    show_default=True,
    help="What SOURCE is: csv, standley, tag or mtgnet (a table of set results), or optuna.",
)
@click.option("--study", help="Of an Optuna storage that holds several, which one.")
@click.option(
    "--lower-is-better/--higher-is-better",
    "lower",
    default=None,
    help="Of a table: losses (default) or scores (default of tag and mtgnet).",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: runs/NAME.")
@output_format("text", "json")
def import_(
    source: str, kind: str, name: str, study: str | None, lower: bool | None, out: Path | None, form: str
) -> None:  # fmt: skip
    """Make a run of a table of set results, or of a plain Optuna study; nothing is trained.

    SOURCE is a file (docs/solve.md says what a table looks like), or the URL or file of an Optuna storage. The run has
    a leaderboard, a report and, of a table, who helped whom. Trials of Optuna say which targets they learnt together
    by a user attribute "grouping" or by parameters group_TARGET.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.errors import ConfigError, did_you_mean
    from taskgroup.study.imported import FORMATS, OPTUNA, import_optuna, import_sets

    if kind not in FORMATS:
        raise ConfigError(f"--from: unknown format '{kind}'; {did_you_mean(kind, FORMATS)}")
    if kind == OPTUNA:
        imported = import_optuna(source, study, name, folder=out)
    else:
        imported = import_sets(source, name, kind, lower_is_better=lower, folder=out)
    if form == "json":
        print_json(
            {
                "run": str(imported.folder),
                "records": imported.n_records,
                "values": imported.values,
            }
        )
        return
    click.echo(f"{imported.folder}: {imported.n_records} groupings; values are {imported.values}")
    click.echo(f"Go on with: taskgroup leaderboard {imported.folder}")
