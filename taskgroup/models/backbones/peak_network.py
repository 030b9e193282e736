"""A network on the peaks of a density: an embedding of each, then pooled, so that their order does not matter."""

import torch
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES
from taskgroup.models.backbones.base import Backbone
from taskgroup.models.config import ModelConfig
from taskgroup.models.lattice import volume
from taskgroup.models.neighbours import DISTANCES
from taskgroup.models.peak_finding import NEAR
from taskgroup.models.views.rows import PreparedRows

_HEADS = 8
_ROUNDS = 1  # of messages between neighbours
_WORDS = 32  # numbers in a message
_DENSE, _ROOM = 32, 20.0  # numbers a peak adds up per volume; Å^3 of a usual atom
_BINS, _LOWEST, _HIGHEST = 32, -2.0, 4.0  # of each number that tells the element; in deviations
_ELEMENT_WIDTH = 128
_FARTHEST = 5.0  # deviations; a rare surrounding must not throw a prediction off
_LEAST_VARIANCE = 1e-4  # a column that hardly varies says nothing
_LARGEST_SCORE = 20.0  # of attention: its exponential stays finite
_ABSENT = -1e4  # below every feature
_VANISHING = 30.0  # exp(-30) is nothing beside 1; far smaller numbers are denormal, and processors slow at them


class PeakScale(nn.Module):
    """Columns brought to mean 0 and variance 1 over the peaks seen in training, and cut off at ``_FARTHEST``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))

    def forward(self, peaks: Tensor, present: Tensor) -> Tensor:
        """[R, columns], present (1 or 0) [R, 1] -> the same shape."""
        if self.training:
            with torch.no_grad():
                count = present.sum()
                self.seen += count
                total = self.seen.clamp_min(1)
                self.mean += ((peaks * present).sum(0) - count * self.mean) / total
                self.square += ((peaks.square() * present).sum(0) - count * self.square) / total
        deviation = (self.square - self.mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()
        return ((peaks - self.mean) / deviation).clamp(-_FARTHEST, _FARTHEST)


class ElementNetwork(nn.Module):
    """Which element a peak is, in as many numbers as there are ``PROPERTIES``, from its height and near shape alone.

    Each of its columns goes through soft bins, since one element differs from the next by little. Pre-training makes
    the numbers the properties of the element, standardised; without it they are what the targets make of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bins", torch.linspace(_LOWEST, _HIGHEST, _BINS), persistent=False)
        self.net = nn.Sequential(
            nn.Linear((2 + NEAR) * (1 + _BINS), _ELEMENT_WIDTH), nn.SiLU(),
            nn.Linear(_ELEMENT_WIDTH, _ELEMENT_WIDTH), nn.SiLU(),
            nn.Linear(_ELEMENT_WIDTH, len(PROPERTIES)),
        )  # fmt: skip

    def forward(self, scaled: Tensor) -> Tensor:
        """Scaled columns [R, columns] -> [R, len(PROPERTIES)]."""
        near = scaled[:, 1 : 3 + NEAR]
        distance = (near[:, :, None] - self.bins) * ((_BINS - 1) / (_HIGHEST - _LOWEST))
        binned = torch.exp(-distance.square().clamp_max(_VANISHING)).flatten(1)
        return self.net(torch.cat([near, binned], dim=1))


class PeakNetwork(Backbone):
    """A perceptron embeds each peak by element and surroundings, neighbours tell it theirs; then all are pooled.

    Pooled are mean, deviation, maximum, attention and number per volume. Sets of any size (Zaheer et al.,
    arXiv:1703.06114), with attention over the peaks (Ilse et al., arXiv:1802.04712) and messages between them by
    distance (Schütt et al., doi:10.1063/1.5019779).
    """

    sees = "peaks"

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        width = 8 * config.width
        self.columns = in_channels
        self.scale = PeakScale(in_channels)
        self.element = ElementNetwork()
        self.embed = nn.Sequential(
            nn.Linear(in_channels + len(PROPERTIES), width), nn.SiLU(), nn.Dropout(config.dropout),
            nn.Linear(width, width), nn.SiLU(),
        )  # fmt: skip
        self.rounds = nn.ModuleList(Messages(width, config.dropout) for _ in range(_ROUNDS))
        self.score = nn.Linear(width, _HEADS)
        self.dense = nn.Linear(width, _DENSE)
        self.n_plain = _DENSE + 2
        self.n_features = 4 * width + self.n_plain

    def elements(self, peaks: Tensor) -> Tensor:
        """What ``ElementNetwork`` says of peaks [R, columns] that are all there."""
        return self.element(self.scale(peaks, peaks.new_ones(len(peaks), 1)))

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of peaks, the first column 1 for those that are there, and how near they are."""
        crystals = rows["peaks"].shape[0]
        listed, near, present, owner, slot = _listed(rows)
        scaled = self.scale(listed, present)
        found = self.embed(torch.cat([scaled, self.element(scaled)], dim=1)).float()
        for messages in self.rounds:
            found = messages(found, near, present, owner, slot, crystals)
        share = (_LARGEST_SCORE * (self.score(found).float() / _LARGEST_SCORE).tanh()).exp()
        heads = (found.unflatten(1, (_HEADS, -1)) * share[:, :, None]).flatten(1)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(crystals, values.shape[1]).index_add(0, owner, values * present)

        number = total(present)
        count, weight = number.clamp_min(1), total(share).clamp_min(1e-30)
        mean = total(found) / count
        deviation = (total((found - mean[owner]).square()) / count + 1e-6).sqrt()
        highest = found.new_full((crystals, found.shape[1]), _ABSENT)
        highest = highest.scatter_reduce(
            0, owner[:, None].expand_as(found), found + (1 - present) * _ABSENT, "amax"
        )
        attended = total(heads).unflatten(1, (_HEADS, -1)) / weight[:, :, None]
        room = volume(lattice).abs()[:, None] / _ROOM
        dense = total(self.dense(found).float()) / room
        plain = [dense, room / count, (count / room).log()]
        return torch.cat([mean, deviation, highest, attended.flatten(1), *plain], dim=1)


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

    def forward(
        self,
        found: Tensor,
        near: Tensor,
        present: Tensor,
        owner: Tensor,
        slot: Tensor,
        crystals: int,
    ) -> Tensor:
        """Listed peaks [R, W] -> the same shape; ``near`` [R, distances, K] is how near to each its crystal's are."""
        room = found.new_zeros(crystals, near.shape[2], _WORDS)
        said = room.index_put((owner, slot), self.say(found).float() * present)
        heard = near @ said[owner]
        return found + self.hear(torch.cat([found, heard.flatten(1)], dim=1)).float()


def _listed(rows: PreparedRows) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All peaks of a batch one below the other.

    Returns their columns [R, columns], nearness [R, distances, K], present [R, 1], whose and which [R] they are. On a
    CPU only those that are there, a third or less of all. Elsewhere all: to count them the host would wait for the
    device, and a traced program may not depend on the number.
    """
    peaks, nearness = rows["peaks"], rows["nearness"]
    crystals, places = peaks.shape[:2]
    present = peaks[:, :, 0] > 0.5
    if peaks.is_cpu and not torch.compiler.is_compiling():
        (number,) = present.flatten().nonzero(as_tuple=True)
        columns = peaks.flatten(0, 1).index_select(0, number)
        near = nearness.flatten(0, 1).index_select(0, number)
        return columns, near, columns.new_ones(len(number), 1), number // places, number % places
    owner = torch.arange(crystals, device=peaks.device)[:, None].expand(present.shape).flatten()
    slot = torch.arange(places, device=peaks.device).expand(present.shape).flatten()
    there = present.flatten()[:, None].to(peaks.dtype)
    return peaks.flatten(0, 1), nearness.flatten(0, 1), there, owner, slot
