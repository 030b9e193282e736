"""The answer of a study in one sentence, the same wherever a person reads it."""

from collections.abc import Mapping, Sequence

from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval
from taskgroup.tracking.record import FinalRecord

_ALTERNATIVES = {"singles": "one network per property", "together": "one network for all"}
# Probabilities beyond are not told apart: draws and model are not that exact.
_ALMOST = 0.99


def verdict_sentence(final: FinalRecord) -> str:
    """Return which grouping a study chose, what it gains on test rows over one network per property, how sure it is."""
    return grouping_verdict(final.grouping, final.test_gain, final.probabilities)


def grouping_verdict(
    grouping: Grouping,
    test_gain: Interval | None,
    probabilities: Mapping[str, float] | None = None,
) -> str:
    """Return the verdict on a grouping whose mean skill on test rows was compared with one network per property.

    ``probabilities`` that it is better than other groupings, by what is expected of new seeds, make a clause of it.
    """
    head = f"{grouping}: {_networks(len(grouping))} for {_properties(len(grouping.targets))}"
    if probabilities:
        head += f", {_odds(probabilities)}"
    if all(len(group.targets) == 1 for group in grouping.groups):
        return f"{head}, each alone; joining is not shown to help here."
    if test_gain is None or test_gain.mean is None:
        return f"{head}; what it gains over one network per property was not measured as a whole."
    gain = f"{interval_in_words(test_gain, '+.3f')} mean skill on test rows"
    compared = "compared with one network per property"
    if not test_gain.excludes_zero():
        return f"{head}; {gain} {compared}: joining is not shown to help here."
    if test_gain.mean > 0:
        return f"{head}; {gain} {compared}: joining helps."
    return f"{head}; {gain} {compared}: joining hurts here, although it looked best on validation rows."


def _odds(probabilities: Mapping[str, float]) -> str:
    """Return how probably a grouping beats others, for example ``expected to beat one network for all (97 %)``."""
    parts = []
    for name, probability in probabilities.items():
        label = _ALTERNATIVES.get(name, f"the {name} grouping")
        parts.append(f"{label} ({_percent(probability)})")
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"expected to beat {listed}"


def _percent(probability: float) -> str:
    """Return a probability in per cent; the ends of the range are never certain."""
    if probability > _ALMOST:
        return "over 99 %"
    if probability < 1 - _ALMOST:
        return "under 1 %"
    return f"{probability:.0%}".replace("%", " %")


def gain_in_a_word(gain: Interval) -> str:
    """Return ``helped``, ``hurt``, or ``within seed noise`` where the interval of a gain holds zero."""
    if not gain.excludes_zero():
        return "within seed noise"
    return "helped" if gain.low > 0 else "hurt"


def mean_gain_in_words(gains: Mapping[str, float | None]) -> str:
    """Return mean gain and how many targets lost, for example ``+0.0130, 2 lose``; empty where nothing was compared."""
    values = [gain for gain in gains.values() if gain is not None]
    if not any(values):
        return ""
    n_losers = sum(gain < 0 for gain in values)
    verb = "loses" if n_losers == 1 else "lose"
    return f"{_mean(values):+.4f}, {n_losers} {verb}"


def interval_in_words(value: Interval, form: str = ".3f") -> str:
    """Return a value with its bounds, for example ``0.612 [0.580, 0.640]``; without them where there are none."""
    mean = number_in_words(value.mean, form)
    if value.low is None or value.high is None:
        return mean
    return f"{mean} [{value.low:{form}}, {value.high:{form}}]"


def number_in_words(value: float | None, form: str = ".3f") -> str:
    """Return a number, or a dash where there is none."""
    return "–" if value is None else f"{value:{form}}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _networks(count: int) -> str:
    return "1 network" if count == 1 else f"{count} networks"


def _properties(count: int) -> str:
    return "1 property" if count == 1 else f"{count} properties"
