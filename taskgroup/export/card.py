"""The model card of a bundle, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskgroup.export.bundle import Members
from taskgroup.export.spec import BundleSpec
from taskgroup.grouping import Group
from taskgroup.models import MultiTaskNetwork
from taskgroup.settings_text import common_and_own, in_words, recipe_settings


def model_card(spec: BundleSpec, members: Members) -> str:
    """Return a card: what the bundle predicts, how well, from what it was trained, and how to use it."""
    sections = [
        _head(spec, members),
        _use(spec),
        _targets(spec),
        _metrics(spec),
        _networks(spec, members),
        _data(spec),
        _limits(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


# What a network sees, by its setting ``model.atoms``.
_SOURCES = {
    "density": "its electron density alone",
    "structure": "its electron density with the atoms that travel with it: species and positions are taken from the "
    "file, not found in the density",
    "structure_alone": "its atoms and cell, without its electron density (a yardstick for what the density adds)",
}


def _head(spec: BundleSpec, members: Members) -> str:
    modes = {network.config.atoms for networks in members.values() for network in networks}
    source = "; other targets from ".join(_SOURCES[mode] for mode in sorted(modes))
    parts = [
        f"# {spec.name}",
        f"Predicts {len(spec.targets)} properties of a crystal from {source}.",
    ]
    verdict = spec.provenance.get("verdict")
    parts.append(verdict or f"Grouping: `{spec.grouping}`")
    return "\n\n".join(parts)


def _use(spec: BundleSpec) -> str:
    source = "STRUCTURE.cif" if spec.density.kind == "promolecule" else "CHGCAR"
    lines = [
        "## Use",
        "",
        f"    taskgroup predict . {source}",
        "",
        "```python",
        "import taskgroup as tg",
        "",
        f'tg.load_bundle(".").predict(["{source}"])  # a DataFrame, units in .attrs',
        "```",
    ]
    return "\n".join(lines)


def _targets(spec: BundleSpec) -> str:
    rows = [[t.name, t.kind, t.unit or "–", t.transform, t.description] for t in spec.targets]
    return "## Targets\n\n" + _table(["target", "kind", "unit", "learnt as", "meaning"], rows)


def _metrics(spec: BundleSpec) -> str:
    if not spec.metrics:
        return ""
    parts = [
        "## How well",
        "Skill is 0 for a constant predictor and 1 for a perfect one: R2 in the learnt space, or 2 AUC - 1.",
    ]
    for stage, metrics_by_target in spec.metrics.items():
        rows = [_metric_row(name, metrics) for name, metrics in metrics_by_target.items()]
        parts.append(f"### {stage}")
        parts.append(_table(["target", "n", "skill [95 %]", "other metrics"], rows))
    return "\n\n".join(parts)


def _metric_row(name: str, metrics: Mapping[str, Any]) -> list[str]:
    low, high = _number(metrics.get("low")), _number(metrics.get("high"))
    skill = f"{_number(metrics.get('skill'))} [{low}, {high}]"
    others = []
    for metric, value in metrics.items():
        if metric not in ("skill", "low", "high", "n"):
            others.append(f"{metric} {_number(value)}")
    return [name, str(metrics.get("n", "–")), skill, ", ".join(others)]


def _networks(spec: BundleSpec, members: Members) -> str:
    """Return one row per group with the hyper-parameters in which the groups differ, and a line with all others."""
    groups = spec.grouping.groups
    common, own = common_and_own([_settings(spec, group, members[group][0]) for group in groups])
    rows = []
    for group, settings in zip(groups, own, strict=True):
        networks = members[group]
        n_parameters = sum(parameter.numel() for parameter in networks[0].parameters())
        hyper_parameters = in_words(settings) or "–"
        rows.append([str(group), hyper_parameters, str(len(networks)), f"{n_parameters:,}"])
    header = ["group (+ helpers)", "hyper-parameters", "members", "parameters each"]
    return f"## Networks\n\n{_table(header, rows)}\n\nAll of them: {in_words(common)}."


def _settings(spec: BundleSpec, group: Group, network: MultiTaskNetwork) -> dict[str, Any]:
    """Return the hyper-parameters of a group; those of training are known where the bundle is of a study."""
    recipe = {"model": network.config.model_dump(mode="json")}
    for entry in spec.provenance.get("groups", ()):
        if entry["targets"] == list(group.targets):
            recipe["training"] = entry["members"][0]["training"]
    settings = recipe_settings(recipe)
    # The backbone stands first: it decides what the others mean.
    return {"model.backbone": settings.pop("model.backbone")} | settings


def _data(spec: BundleSpec) -> str:
    density, dataset = spec.density, spec.dataset
    channels = "channel" if density.n_channels == 1 else "channels"
    points = f"{density.grid}^3 points"
    if density.spacing is not None:
        points = f"a point every {density.spacing} Å"
    lines = [
        "## Data",
        "",
        f"- dataset {dataset.get('name')} {dataset.get('version', '')}, sha256 `{dataset.get('hash')}`",
        f"- split `{spec.split.get('id')}`; {len(spec.seen_ids)} rows were seen in training or validation",
        f"- densities: {density.kind}, {points}, Gaussian of {density.sigma} Å, "
        f"{density.n_channels} {channels}",
    ]
    return "\n".join(lines)


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
