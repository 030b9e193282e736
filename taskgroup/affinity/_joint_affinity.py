"""Names of the affinities that one joint training run of all targets gives; every room uses this table."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from taskgroup.affinity._accumulate import relative
from taskgroup.affinity.affinity import Affinity


def _unchanged(affinity: Affinity) -> Affinity:
    return affinity


def _relative_to_own_step(affinity: Affinity) -> Affinity:
    return replace(relative(affinity), measure=affinity.measure)


@dataclass(frozen=True)
class JointAffinity:
    """An affinity measured in one joint training run.

    - name: in search spaces, in stored affinities and in reports.
    - meaning: half a sentence for help texts.
    - finish: from the mean over all probes to the number that is compared with a threshold between -1 and 1.
    - probe_distance: default number of steps between two probes, for a number of targets; None where the trained
      network is asked instead.
    """

    name: str
    meaning: str
    finish: Callable[[Affinity], Affinity] = _unchanged
    probe_distance: Callable[[int], int] | None = None


JOINT_AFFINITIES = {
    affinity.name: affinity
    for affinity in (
        # A probe is one backward pass per target: every 6 steps per target it costs a run about 10 %.
        JointAffinity("gradient", "cosines of gradients", probe_distance=lambda n: 6 * n),
        # 10 steps, as the authors of TAG advise (arXiv:2109.04617).
        JointAffinity(
            "look_ahead",
            "what a step on one target does to the loss of another",
            finish=_relative_to_own_step,
            probe_distance=lambda n: 10,
        ),
        JointAffinity("projected", "estimated pairwise gains"),
    )
}
