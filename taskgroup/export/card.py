"""The model card of a bundle, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskgroup.export.spec import BundleSpec
from taskgroup.grouping import Group
from taskgroup.models import MultiTaskNetwork


def model_card(spec: BundleSpec, members: Mapping[Group, Sequence[MultiTaskNetwork]]) -> str:
    """What the bundle predicts, how well, from what it was trained, and how to use it."""
    sections = [
        _head(spec),
        _use(spec),
        _targets(spec),
        _metrics(spec),
        _networks(spec, members),
        _data(spec),
        _limits(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(spec: BundleSpec) -> str:
    about = f"Predicts {len(spec.targets)} properties of a crystal from its electron density."
    return f"# {spec.name}\n\n{about}\n\nGrouping: `{spec.grouping}`"


def _use(spec: BundleSpec) -> str:
    source = "STRUCTURE.cif" if spec.density.kind == "promolecule" else "CHGCAR"
    lines = [
        "import taskgroup as tg",
        "",
        f'tg.load_bundle(".").predict(["{source}"])  # a DataFrame, units in .attrs',
    ]
    python = "\n".join(["```python", *lines, "```"])
    return f"## Use\n\n    taskgroup predict . {source}\n\n{python}"


def _targets(spec: BundleSpec) -> str:
    rows = [[t.name, t.kind, t.unit or "–", t.transform, t.description] for t in spec.targets]
    return "## Targets\n\n" + _table(["target", "kind", "unit", "learnt as", "meaning"], rows)


def _metrics(spec: BundleSpec) -> str:
    parts = []
    for stage, targets in spec.metrics.items():
        rows = []
        for name, metrics in targets.items():
            skill = f"{_number(metrics.get('skill'))} [{_number(metrics.get('low'))}, {_number(metrics.get('high'))}]"
            others = ", ".join(
                f"{k} {_number(v)}"
                for k, v in metrics.items()
                if k not in ("skill", "low", "high", "n")
            )
            rows.append([name, str(metrics.get("n", "–")), skill, others])
        parts.append(
            f"### {stage}\n\n" + _table(["target", "n", "skill [95 %]", "other metrics"], rows)
        )
    about = "Skill is 0 for a constant predictor and 1 for a perfect one: R2 in the learnt space, or 2 AUC - 1."
    return f"## How well\n\n{about}\n\n" + "\n\n".join(parts) if parts else ""


def _networks(spec: BundleSpec, members: Mapping[Group, Sequence[MultiTaskNetwork]]) -> str:
    rows = []
    for group in spec.grouping.groups:
        networks = members[group]
        size = sum(parameter.numel() for parameter in networks[0].parameters())
        rows.append([str(group), str(len(networks)), f"{size:,}"])
    return "## Networks\n\n" + _table(["group (+ helpers)", "members", "parameters each"], rows)


def _data(spec: BundleSpec) -> str:
    density, dataset = spec.density, spec.dataset
    return (
        "## Data\n\n"
        f"- dataset {dataset.get('name')} {dataset.get('version', '')}, sha256 `{dataset.get('hash')}`\n"
        f"- split `{spec.split.get('id')}`; {len(spec.seen_ids)} rows were seen in training or validation\n"
        f"- densities: {density.kind}, {density.grid}^3 points, Gaussian of {density.sigma} Å, "
        f"{density.n_channels} channel{'s' if density.n_channels > 1 else ''}"
    )


def _limits() -> str:
    return (
        "## Limits\n\n"
        "The given standard deviation joins the spread of the members with their error on rows they were not trained\n"
        "on; intervals (`--coverage 0.9`) are as wide as these errors ask for. Both know nothing of materials unlike\n"
        "those in the dataset, nor of densities from another functional or other pseudopotentials."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–"
