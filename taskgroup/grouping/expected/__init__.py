"""The assembly of networks that is expected to be best with new seeds, how sure that is, and what to train next.

>>> from taskgroup.grouping.expected import expected_assembly, verdict
>>> from taskgroup.grouping.predict import Network, Observation, SkillModel
>>> alone, other, pair = Network(("a",)), Network(("b",)), Network(("a", "b"))
>>> results = []
>>> for seed in range(6):
...     noise = 0.01 * (-1) ** seed
...     results.append(Observation(alone, {"a": 0.50 + noise}, seed))
...     results.append(Observation(other, {"b": 0.60 - noise}, seed))
...     results.append(Observation(pair, {"a": 0.70 + noise, "b": 0.50 + noise}, seed))
>>> posterior = SkillModel().fit(results).posterior([alone, other, pair])
>>> assembly = expected_assembly(posterior)
>>> print(assembly.grouping())
{a + b} | {b}
>>> assembly.probabilities["singles"] > 0.95
True
>>> verdict(assembly).startswith("Learning {a, b} together is expected to gain +.1")
True
"""

from taskgroup.grouping.expected.assembly import (
    Assembled,
    ExpectedAssembly,
    expected_assembly,
    hoped_assembly,
)
from taskgroup.grouping.expected.proposals import Proposal
from taskgroup.grouping.expected.verdict import certainty, verdict

__all__ = [
    "Assembled",
    "ExpectedAssembly",
    "Proposal",
    "certainty",
    "expected_assembly",
    "hoped_assembly",
    "verdict",
]
