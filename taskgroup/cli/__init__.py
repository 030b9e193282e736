"""The command line: one verb a job, each in the module of its family; verbs parse, call and print, nothing else.

``_VERBS`` names the module that defines each command; it is imported when the command is called, so that
``taskgroup --help`` answers at once.
"""

import sys
from importlib import import_module

import click

from taskgroup import __version__
from taskgroup.errors import InputError, TaskgroupError

_VERBS = {
    "run": ("studies", "Run a study: search, assemble, test once, export."),
    "resume": ("studies", "Go on with an interrupted run."),
    "worker": ("studies", "Help a run that another process conducts, here or on another machine."),
    "data": ("datasets", "Make and look at datasets."),
    "affinity": (
        "grouping",
        "Print and draw how strongly properties are related; nothing is trained.",
    ),
    "group": ("grouping", "Cluster the target graph, print and draw it; nothing is trained."),
    "solve": ("solve", "Choose the best networks out of a table of set results, exactly."),
    "leaderboard": ("results", "Show trials, baselines and assembled groupings, best first."),
    "transfer": ("analysis", "Tell who helped whom in a run, and what foretold it."),
    "learning-curve": ("analysis", "Tell what more training rows would buy."),
    "report": ("results", "Write one self-contained HTML file about a run."),
    "ui": ("results", "Serve MLflow and the Optuna dashboard of a run, on this machine only."),
    "export": ("bundles", "Copy the bundle of a run, in further formats where asked."),
    "predict": ("bundles", "Predict the properties of densities with a bundle."),
    "evaluate": ("bundles", "Measure a bundle on the labels of a store."),
    "init": ("studies", "Write a commented study file to start from."),
    "schema": ("studies", "Print the JSON schema of study files."),
    "doctor": ("studies", "Say what this machine offers."),
}


class _LazyGroup(click.Group):
    """A click group whose commands are imported when called; help texts come from the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        module, _ = _VERBS[name]
        return getattr(import_module(f"taskgroup.cli.{module}"), name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taskgroup")
def cli() -> None:
    """Which properties of a material should one network learn together?"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted."""
    try:
        code = cli.main(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except InputError as error:
        click.echo(f"Error: {error}", err=True)
        code = 2
    except TaskgroupError as error:
        click.echo(f"Failed: {error}", err=True)
        code = 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
