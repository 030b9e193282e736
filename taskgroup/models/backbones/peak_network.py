"""A network on the peaks of a density: an embedding of each, then pooled, so that their order does not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES
from taskgroup.models.backbones.base import Backbone, BackboneSettings
from taskgroup.models.backbones.element_lesson import ElementLesson
from taskgroup.models.backbones.known_elements import N_KNOWN, KnownElements
from taskgroup.models.lattice import volume
from taskgroup.models.peaks.finding import USUAL_PEAKS
from taskgroup.models.peaks.neighbours import DISTANCES
from taskgroup.models.peaks.table import NEAR
from taskgroup.models.views import AtomView, PeakView, PreparedRows, View
from taskgroup.models.views.atoms import NUMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskgroup.models.backbones.base import Lesson
    from taskgroup.models.config import ModelConfig

_HEADS = 8
# Rounds of messages between neighbours, and numbers in a message.
_ROUNDS = 1
_WORDS = 32
# Numbers per peak that are added up and divided by the volume, in units of a usual atom's volume (Å^3).
_DENSE = 32
_ATOM_VOLUME = 20.0
# Soft bins of each number that tells the element, between these deviations from the mean.
_BINS = 32
_LOWEST, _HIGHEST = -2.0, 4.0
_ELEMENT_WIDTH = 128
# Deviations at which columns are cut off: a rare surrounding must not throw a prediction off.
_FARTHEST = 5.0
# A column that varies less says nothing.
_LEAST_VARIANCE = 1e-4
# Limit of attention scores: their exponential stays finite.
_LARGEST_SCORE = 20.0
# Below every feature: what absent peaks bring to a maximum.
_ABSENT = -1e4
# exp(-30) is nothing beside 1; far smaller numbers are denormal, and processors slow at them.
_VANISHING = 30.0


class PeakSettings(BackboneSettings):
    """Settings of the network on peaks: its width."""

    def n_points(self, grid: int) -> int:
        """Return the most peaks of a crystal: there is no grid."""
        return USUAL_PEAKS


class PeakScale(nn.Module):
    """Columns brought to mean 0 and variance 1 over the peaks seen in training, and cut off at ``_FARTHEST``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))

    def forward(self, peaks: Tensor, present: Tensor) -> Tensor:
        """Return peaks [R, columns] scaled; ``present`` [R, 1] is 1 for those that are there, else 0."""
        if self.training:
            self._update(peaks, present)
        variance = self.square - self.mean.square()
        deviation = variance.clamp_min(_LEAST_VARIANCE).sqrt()
        return ((peaks - self.mean) / deviation).clamp(-_FARTHEST, _FARTHEST)

    @torch.no_grad()
    def _update(self, peaks: Tensor, present: Tensor) -> None:
        """Add these peaks to the running means."""
        count = present.sum()
        self.seen += count
        total = self.seen.clamp_min(1)
        self.mean += ((peaks * present).sum(0) - count * self.mean) / total
        self.square += ((peaks.square() * present).sum(0) - count * self.square) / total


class ElementNetwork(nn.Module):
    """Properties of the element at a peak (``PROPERTIES``, standardised), from its height and near shape alone.

    Each of its columns goes through soft bins, since one element differs from the next by little. A lesson teaches the
    properties; without it the numbers are what the targets make of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins", torch.linspace(_LOWEST, _HIGHEST, _BINS), persistent=False)
        self.net = nn.Sequential(
            nn.Linear((2 + NEAR) * (1 + _BINS), _ELEMENT_WIDTH),
            nn.SiLU(),
            nn.Linear(_ELEMENT_WIDTH, _ELEMENT_WIDTH),
            nn.SiLU(),
            nn.Linear(_ELEMENT_WIDTH, len(PROPERTIES)),
        )

    def forward(self, scaled: Tensor) -> Tensor:
        """Return properties [R, len(PROPERTIES)] of scaled columns [R, columns]."""
        # height, curvature and the mean density on the near spheres
        near = scaled[:, 1 : 3 + NEAR]
        bins_per_deviation = (_BINS - 1) / (_HIGHEST - _LOWEST)
        distance = (near[:, :, None] - self.bins) * bins_per_deviation
        binned = torch.exp(-distance.square().clamp_max(_VANISHING)).flatten(1)
        return self.net(torch.cat([near, binned], dim=1))


class PeakNetwork(Backbone):
    """A perceptron embeds each peak by element and surroundings, neighbours tell it theirs; then all are pooled.

    With ``atoms: structure`` the peaks are the atoms of the structure, and their elements are known.

    Pooled are mean, deviation, maximum, attention and number per volume. Sets of any size (Zaheer et al.,
    arXiv:1703.06114), with attention over the peaks (Ilse et al., arXiv:1802.04712) and messages between them by
    distance (Schütt et al., doi:10.1063/1.5019779).
    """

    Settings = PeakSettings
    version = 1
    autocast = False
    takes_atoms = True

    def __init__(self, config: ModelConfig, view: PeakView | AtomView) -> None:
        super().__init__(config, view)
        width = 8 * config.backbone.width
        self.scale = PeakScale(view.n_columns)
        self.knows_elements = view.uses_atoms
        self.element = KnownElements() if self.knows_elements else ElementNetwork()
        n_element = N_KNOWN if self.knows_elements else len(PROPERTIES)
        self.embed = nn.Sequential(
            nn.Linear(view.n_columns + n_element, width),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.rounds = nn.ModuleList(Messages(width, config.dropout) for _ in range(_ROUNDS))
        self.score = nn.Linear(width, _HEADS)
        self.dense = nn.Linear(width, _DENSE)
        self.n_plain = _DENSE + 2
        self.n_features = 4 * width + self.n_plain

    @classmethod
    def view_class(cls, config: ModelConfig) -> type[View]:
        """Return the view of the peaks, or of the atoms where they are given."""
        return PeakView if config.atoms == "density" else AtomView

    def lessons(self) -> Sequence[Lesson]:
        """Return the lesson on the elements at the peaks; known elements need none."""
        if self.knows_elements:
            return ()
        return (ElementLesson(self.element, self.scale),)

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of peaks, the first column 1 for those that are there, and how near they are."""
        listed = _ListedPeaks(rows)
        scaled = self.scale(listed.columns, listed.present)
        element = self._elements(listed.columns, scaled)
        embedded = self.embed(torch.cat([scaled, element], dim=1)).float()
        for messages in self.rounds:
            embedded = messages(embedded, listed)
        count = listed.totals(listed.present).clamp_min(1)
        pooled = self._pooled(embedded, listed, count)
        plain = self._sums_per_volume(embedded, listed, count, lattice)
        return torch.cat([*pooled, *plain], dim=1)

    def _elements(self, columns: Tensor, scaled: Tensor) -> Tensor:
        """Return numbers of the elements [R, W] of listed columns [R, columns], and of the same scaled."""
        if self.knows_elements:
            return self.element(columns[:, NUMBER])
        return self.element(scaled)

    def _pooled(self, embedded: Tensor, listed: _ListedPeaks, count: Tensor) -> list[Tensor]:
        """Return mean, deviation, maximum and attention over the peaks of each crystal, [B, W] each."""
        bounded_score = (self.score(embedded).float() / _LARGEST_SCORE).tanh()
        share = (_LARGEST_SCORE * bounded_score).exp()
        heads = (embedded.unflatten(1, (_HEADS, -1)) * share[:, :, None]).flatten(1)
        weight = listed.totals(share).clamp_min(1e-30)
        mean = listed.totals(embedded) / count
        spread = (embedded - mean[listed.owner]).square()
        # a crystal of one peak has a gradient too
        deviation = (listed.totals(spread) / count + 1e-6).sqrt()
        attended = listed.totals(heads).unflatten(1, (_HEADS, -1)) / weight[:, :, None]
        return [mean, deviation, listed.maxima(embedded), attended.flatten(1)]

    def _sums_per_volume(
        self, embedded: Tensor, listed: _ListedPeaks, count: Tensor, lattice: Tensor
    ) -> list[Tensor]:
        """Return sums over the peaks per volume, volume per peak, and the logarithm of peaks per volume."""
        cell = volume(lattice).abs()[:, None] / _ATOM_VOLUME
        dense = listed.totals(self.dense(embedded).float()) / cell
        return [dense, cell / count, (count / cell).log()]


class Messages(nn.Module):
    """Each peak learns, for each distance, the sum of what its neighbours say."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.say = nn.Linear(width, _WORDS)
        self.hear = nn.Sequential(
            nn.Linear(width + len(DISTANCES) * _WORDS, width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )

    def forward(self, embedded: Tensor, listed: _ListedPeaks) -> Tensor:
        """Return listed peaks [R, W] with what they heard added."""
        places = embedded.new_zeros(listed.crystals, listed.near.shape[2], _WORDS)
        messages = self.say(embedded).float() * listed.present
        said = places.index_put((listed.owner, listed.slot), messages)
        heard = listed.near @ said[listed.owner]
        return embedded + self.hear(torch.cat([embedded, heard.flatten(1)], dim=1)).float()


class _ListedPeaks:
    """All R peaks of a batch, one below the other.

    ``columns`` [R, columns]; ``near`` [R, distances, K]; ``present`` [R, 1], 1 for those that are there; ``owner`` [R],
    the crystal of each; ``slot`` [R], its place there; ``crystals``, B.

    On a CPU only those that are there are listed, a third or less of all. Elsewhere all are: to count them the host
    would wait for the device, and a traced program may not depend on the number.
    """

    def __init__(self, rows: PreparedRows) -> None:
        peaks, nearness = rows["peaks"], rows["nearness"]
        self.crystals, places = peaks.shape[:2]
        present = peaks[:, :, 0] > 0.5
        self.columns, self.near = peaks.flatten(0, 1), nearness.flatten(0, 1)
        if peaks.is_cpu and not torch.compiler.is_compiling():
            (number,) = present.flatten().nonzero(as_tuple=True)
            self.columns = self.columns.index_select(0, number)
            self.near = self.near.index_select(0, number)
            self.present = peaks.new_ones(len(number), 1)
            self.owner, self.slot = number // places, number % places
            return
        crystal = torch.arange(self.crystals, device=peaks.device)[:, None]
        place = torch.arange(places, device=peaks.device)
        self.owner = crystal.expand(present.shape).flatten()
        self.slot = place.expand(present.shape).flatten()
        self.present = present.flatten()[:, None].to(peaks.dtype)

    def totals(self, values: Tensor) -> Tensor:
        """Return sums [B, W] over the peaks of each crystal of values [R, W]."""
        zeros = values.new_zeros(self.crystals, values.shape[1])
        return zeros.index_add(0, self.owner, values * self.present)

    def maxima(self, values: Tensor) -> Tensor:
        """Return maxima [B, W] over the peaks of each crystal of values [R, W]."""
        lowest = values.new_full((self.crystals, values.shape[1]), _ABSENT)
        owner = self.owner[:, None].expand_as(values)
        return lowest.scatter_reduce(0, owner, values + (1 - self.present) * _ABSENT, "amax")
