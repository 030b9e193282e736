"""The command line: one verb per job, each in the module of its family; verbs parse, call and print, nothing else.

``_VERBS`` names the module that defines each command; it is imported when the command is called, so that
``taskgroup --help`` answers at once.
"""

import keyword
import sys
from importlib import import_module
from typing import NamedTuple

import click

from taskgroup import __version__
from taskgroup.cli._options import add_json_option
from taskgroup.errors import InputError, TaskgroupError


class _Verb(NamedTuple):
    """Module of a command, its line in the list of verbs, and an example for its help."""

    module: str
    summary: str
    example: str


_VERBS = {
    "run": _Verb(
        "studies",
        "Run a study: search, assemble, test once, export.",
        "taskgroup run quickstart --n-trials 12 --set search.seed=1",
    ),
    "resume": _Verb(
        "studies",
        "Go on with an interrupted run.",
        "taskgroup resume runs/quickstart --time-limit 30m",
    ),
    "worker": _Verb(
        "studies",
        "Join a run that another process conducts, here or on another machine.",
        "taskgroup worker /shared/runs/big --workers 4 --wait 10m",
    ),
    "data": _Verb(
        "datasets",
        "Make and look at datasets.",
        "taskgroup data ingest calcs --properties table.csv --out mydata",
    ),
    "affinity": _Verb(
        "grouping",
        "Print and draw how strongly properties are related; nothing is trained.",
        "taskgroup affinity crystals --measure spearman --plot affinity.pdf",
    ),
    "group": _Verb(
        "grouping",
        "Cluster the target graph, print and draw it; nothing is trained.",
        "taskgroup group crystals --method louvain --plot graph.svg",
    ),
    "solve": _Verb(
        "solve",
        "Choose the best networks out of a table of set results, exactly.",
        "taskgroup solve sets.csv --budget 3",
    ),
    "import": _Verb(
        "importing",
        "Make a run of a table of set results or of a plain Optuna study.",
        "taskgroup import sets.csv --name sets --higher-is-better",
    ),
    "leaderboard": _Verb(
        "results",
        "Show trials, baselines and assembled groupings, best first.",
        "taskgroup leaderboard quickstart --top 10 --sort density",
    ),
    "compare": _Verb(
        "comparison",
        "Compare finished studies on the test rows they share.",
        "taskgroup compare quickstart crystals --format csv",
    ),
    "transfer": _Verb(
        "analysis",
        "Tell which property helped which, and which measure predicted it.",
        "taskgroup transfer quickstart --out transfer",
    ),
    "helpers": _Verb(
        "analysis",
        "Tell which properties help one property, and how sure that is.",
        "taskgroup helpers quickstart band_gap",
    ),
    "learning-curve": _Verb(
        "analysis",
        "Tell what more training rows would give.",
        "taskgroup learning-curve quickstart --share 0.5 --share 1",
    ),
    "report": _Verb(
        "results",
        "Write one self-contained HTML file about a run.",
        "taskgroup report quickstart --figures figures --paper nature",
    ),
    "failures": _Verb(
        "upkeep",
        "List the trainings of a run that failed, and where to read why.",
        "taskgroup failures quickstart",
    ),
    "sync": _Verb(
        "upkeep",
        "Bring MLflow up to date with a run, after a server or a process was killed.",
        "taskgroup sync quickstart",
    ),
    "ui": _Verb(
        "results",
        "Serve MLflow and the Optuna dashboard of a run, on this machine only.",
        "taskgroup ui quickstart --port 5000",
    ),
    "export": _Verb(
        "bundles",
        "Copy the bundle of a run, in further formats where asked.",
        "taskgroup export quickstart --out model --format onnx",
    ),
    "predict": _Verb(
        "bundles",
        "Predict the properties of densities with a bundle.",
        "taskgroup predict model calcs/*/CHGCAR --coverage 0.9 --format csv",
    ),
    "explain": _Verb(
        "explanation",
        "Tell which regions of a density a prediction leans on.",
        "taskgroup explain model calcs/NaCl/CHGCAR --plot slices.pdf --target band_gap",
    ),
    "evaluate": _Verb(
        "bundles",
        "Measure a bundle on the labels of a store.",
        "taskgroup evaluate model crystals",
    ),
    "init": _Verb(
        "setup",
        "Look at a dataset and write a commented study file for it.",
        "taskgroup init crystals --out mine.yaml",
    ),
    "spaces": _Verb(
        "setup",
        "List the search spaces and what each is for.",
        "taskgroup spaces",
    ),
    "schema": _Verb(
        "setup",
        "Print the JSON schema of study files.",
        "taskgroup schema > study.schema.json",
    ),
    "completion": _Verb(
        "setup",
        "Print the script that completes verbs and options in a shell.",
        "taskgroup completion bash > ~/.taskgroup-completion.bash",
    ),
    "doctor": _Verb(
        "setup",
        "Show what this machine offers, or whether a bundle still predicts what it did.",
        "taskgroup doctor runs/quickstart/export",
    ),
    "plugins": _Verb(
        "setup",
        "List what is built in and what plug-ins bring.",
        "taskgroup plugins --json",
    ),
}


class _LazyGroup(click.Group):
    """A click group whose commands are imported when called; help texts come from the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        verb = _VERBS[name]
        module = import_module(f"taskgroup.cli.{verb.module}")
        function = name.replace("-", "_")
        # Python's own words cannot be names of functions.
        command = getattr(module, f"{function}_" if keyword.iskeyword(function) else function)
        # \b keeps click from joining the lines.
        command.epilog = f"\b\nExample:\n  {verb.example}"
        add_json_option(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.summary) for name, verb in _VERBS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taskgroup")
def cli() -> None:
    """Find out which properties of a material one network should learn together.

    Exit codes: 0 done, 1 failed while running, 2 bad input (one line says what and why), 130 interrupted.
    """


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
