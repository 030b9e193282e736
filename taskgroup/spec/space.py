"""Search spaces: what a trial may choose, read from ``search_spaces/*.yaml``.

A space has three sections, ``grouping`` (how the target graph is made and clustered), ``model`` (fields of ModelConfig)
and ``training`` (fields of TrainConfig). A parameter is a value (fixed), ``{choices: [...]}`` or
``{low:, high:, step:, log:}``; ``default:`` is what baselines use (else the first choice, or the middle);
``when: {method: [spectral]}`` makes it conditional on another parameter of its section.

Settings of a backbone stand below its name, and each may be searched:

    model:
      backbone: {name: {choices: [peaks, msa3dcnn]}, stages: {choices: [1, 2]}}

They are parameters with dotted names, here ``backbone.name`` and ``backbone.stages``. One that the chosen backbone does
not have is not asked for. In their ``when:`` they name each other without the dot.

A section ``about`` says what the space is for; ``taskgroup spaces`` shows it.

Values are best kept discrete: a group that comes again with equal hyper-parameters costs nothing.

``proposal`` in ``grouping`` says who makes the groups of a trial: ``cluster`` cuts a target graph, ``expected`` takes
the assembly that a model of everything trained so far expects to gain most. All other settings of the section belong
to ``cluster`` and are asked for with it only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import optuna
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from taskgroup.affinity import find_measure
from taskgroup.affinity.gradients import JOINT_AFFINITIES
from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping.cluster import find_clusterer
from taskgroup.grouping.graph import SPARSIFIERS
from taskgroup.models import ModelConfig
from taskgroup.spec.dotted import BACKBONE, BACKBONE_NAME, backbone_has, dotted, nested, sibling
from taskgroup.spec.parameter import Parameter, Value, encode
from taskgroup.training import TrainConfig

MEASURED_IN_TRAINING = tuple(JOINT_AFFINITIES)
"""Names of the affinities that one joint run of all targets gives."""
SECTIONS = ("grouping", "model", "training")

PROPOSAL = "proposal"
CLUSTER = "cluster"
EXPECTED = "expected"


class GroupingSettings(BaseModel):
    """How a trial makes its grouping."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    proposal: Literal["cluster", "expected"] = Field(
        CLUSTER,
        description="who makes the groups: cluster (of the target graph), or expected: the assembly that a model of "
        "all networks trained so far expects to gain most, untrained ones included",
    )
    affinity: str = Field(
        "spearman",
        description="between targets: a measure of their labels (taskgroup.affinity), or measured in one joint run: "
        "gradient (cosines), look_ahead (what a step on one does to another), projected (estimated pairwise gains)",
    )
    sparsifier: str = Field(
        "threshold", description="which edges stay, see taskgroup.grouping.target_graph"
    )
    threshold: float = Field(
        0.2, ge=0, le=1, description="least |weight| of the threshold sparsifier"
    )
    neighbours: int = Field(
        3, ge=1, description="strongest edges a target keeps, of the knn sparsifier"
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="false discovery rate of the fdr sparsifier")
    method: str = Field("louvain", description="clusterer, see taskgroup.grouping.cluster")
    resolution: float = Field(1.0, gt=0, description="of louvain and greedy modularity")
    k: int | None = Field(None, ge=1, description="number of groups where the method takes one")
    seed: int = Field(0, ge=0, description="seed of the clusterer")

    @field_validator("affinity")
    @classmethod
    def _known_affinity(cls, name: str) -> str:
        if name not in MEASURED_IN_TRAINING:
            _check_name(find_measure, name, MEASURED_IN_TRAINING)
        return name

    @field_validator("sparsifier")
    @classmethod
    def _known_sparsifier(cls, name: str) -> str:
        if name not in SPARSIFIERS:
            raise ValueError(f"no sparsifier '{name}'; {did_you_mean(name, SPARSIFIERS)}")
        return name

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        _check_name(find_clusterer, name)
        return name


def _check_name(find: Callable[[str], Any], name: str, others: Iterable[str] = ()) -> None:
    """Look a name up; raise ValueError, which pydantic reports, and say which names are known here besides."""
    try:
        find(name)
    except GroupingError as error:
        also = f" (here also: {', '.join(others)})" if others else ""
        raise ValueError(f"{error}{also}") from None


class Space(BaseModel):
    """The three sections of a search space; each maps a parameter to a fixed value or a Parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    grouping: dict[str, Parameter | Value] = Field(
        default_factory=dict, description="how a trial makes its grouping of the targets"
    )
    model: dict[str, Parameter | Value] = Field(
        default_factory=dict, description="what the networks of a trial see and how they are built"
    )
    training: dict[str, Parameter | Value] = Field(
        default_factory=dict, description="how the networks of a trial are trained"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_dotted_names(cls, content: Any) -> Any:
        """Bring nested settings of the backbone to dotted names."""
        if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
            return content
        return dict(content) | {"model": dotted(content["model"])}

    @model_validator(mode="after")
    def _baselines_can_cluster(self) -> "Space":
        if CLUSTER not in self._ways_of_proposing:
            raise ValueError(
                f"grouping.{PROPOSAL} must leave '{CLUSTER}' to choose, which makes the first groupings, like "
                f"{{choices: [{EXPECTED}, {CLUSTER}]}}, found {list(self._ways_of_proposing)}"
            )
        return self

    @property
    def _ways_of_proposing(self) -> tuple[Any, ...]:
        proposal = self.grouping.get(PROPOSAL, CLUSTER)
        return proposal.values if isinstance(proposal, Parameter) else (proposal,)

    def parameters(self) -> dict[str, Parameter]:
        """Return ``section.name`` -> Parameter, without the fixed values."""
        found = {}
        for section in SECTIONS:
            for name, parameter in getattr(self, section).items():
                if isinstance(parameter, Parameter):
                    found[f"{section}.{name}"] = parameter
        return found

    def baseline(self) -> dict[str, dict[str, Any]]:
        """Return the settings that baselines use, by section."""
        # Baselines are what a method without a model gives, so they cluster.
        clusters = {f"grouping.{PROPOSAL}": CLUSTER}
        return self._walk(lambda parameter, name: clusters.get(name, parameter.baseline()))

    def suggest(self, trial: optuna.Trial) -> dict[str, dict[str, Any]]:
        """Return the settings of a trial, by section."""
        return self._walk(lambda parameter, name: parameter.suggest(trial, name))

    def encode(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return settings as Optuna parameters, for ``enqueue_trial``."""
        parameters = self.parameters()
        encoded = {}
        for section, values in settings.items():
            for name, value in values.items():
                if f"{section}.{name}" in parameters:
                    encoded[f"{section}.{name}"] = encode(value)
        return encoded

    def _walk(self, choose: Callable[[Parameter, str], Any]) -> dict[str, dict[str, Any]]:
        """Return all settings, each parameter chosen by a function of itself and its full name."""
        settings = {}
        for section in SECTIONS:
            chosen: dict[str, Any] = {}
            for name, parameter in _in_order(getattr(self, section)):
                if not backbone_has(name, chosen) or _belongs_to_another_way(name, chosen):
                    continue
                if not isinstance(parameter, Parameter):
                    chosen[name] = parameter
                elif _is_asked_for(parameter, name, chosen):
                    chosen[name] = choose(parameter, f"{section}.{name}")
            settings[section] = chosen
        return settings

    @property
    def learns(self) -> bool:
        """Whether trials may propose what a model of everything trained expects to gain most."""
        return EXPECTED in self._ways_of_proposing

    def with_methods(self, methods: tuple[str, ...]) -> "Space":
        """Return this space with further clustering methods to choose from (those the baselines need)."""
        method = self.grouping.get("method", "louvain")
        choices = list(method.choices) if isinstance(method, Parameter) else [method]
        default = method.baseline() if isinstance(method, Parameter) else method
        choices += [name for name in methods if name not in choices]
        parameter = Parameter(choices=tuple(choices), default=default)
        return self.model_copy(update={"grouping": {**self.grouping, "method": parameter}})


def settings_of(
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[GroupingSettings, ModelConfig, TrainConfig]:
    """Return the three settings objects of a trial, checked."""
    return (
        GroupingSettings(**settings["grouping"]),
        ModelConfig.model_validate(nested(settings["model"])),
        TrainConfig(**settings["training"]),
    )


def _in_order(section: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return parameters with those that others depend on first."""

    def rank(item: tuple[str, Any]) -> tuple[bool, bool, bool]:
        name, parameter = item
        is_conditional = isinstance(parameter, Parameter) and bool(parameter.when)
        is_of_backbone = name.startswith(f"{BACKBONE}.") and name != BACKBONE_NAME
        return name != PROPOSAL, is_conditional, is_of_backbone

    return sorted(section.items(), key=rank)


def _belongs_to_another_way(name: str, chosen: Mapping[str, Any]) -> bool:
    """Return whether a setting says how to cluster, in a trial whose groups are not made by clustering."""
    return name != PROPOSAL and chosen.get(PROPOSAL, CLUSTER) != CLUSTER


def _is_asked_for(parameter: Parameter, name: str, chosen: Mapping[str, Any]) -> bool:
    """Return whether the conditions of a parameter hold."""
    for key, wanted in parameter.when.items():
        value = chosen.get(sibling(key, name, chosen))
        matches = value in wanted if isinstance(wanted, list | tuple) else value == wanted
        if not matches:
            return False
    return True


__all__ = ["GroupingSettings", "Parameter", "Space", "settings_of"]
