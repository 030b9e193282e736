"""The result of a search in English."""

from typing import TYPE_CHECKING

from taskgroup.intervals import Interval

if TYPE_CHECKING:
    from taskgroup.grouping.expected.assembly import Assembled, ExpectedAssembly

_ALTERNATIVES = {"singles": "one network per property", "together": "one network for all"}


def verdict(assembly: "ExpectedAssembly") -> str:
    """Return one sentence: which targets gain by being learned together, and by how much.

    A gain is named where its 95 % interval lies above zero. Gains are differences of skill to the best network of the
    target alone.
    """
    if not assembly.gains:
        return "No gain can be stated, because some property has no network of its own to compare with."
    clauses = []
    for group in assembly.groups:
        gaining = [task for task in group.serves if _is_sure(assembly.gains[task])]
        if gaining:
            clauses.append(_clause(group, gaining, assembly.gains))
    if not clauses:
        return (
            "No property is expected to gain surely by being learned together with others: "
            "one network per property is as good."
        )
    sentence = ", and ".join(clauses)
    n_gaining = sum(_is_sure(gain) for gain in assembly.gains.values())
    if n_gaining < len(assembly.gains):
        sentence += "; otherwise one network per property is as good"
    return sentence[0].upper() + sentence[1:] + "."


def certainty(assembly: "ExpectedAssembly") -> str:
    """Return one sentence: how probably the assembly is better than each alternative."""
    parts = []
    for name, probability in assembly.probabilities.items():
        label = _ALTERNATIVES.get(name, f"the {name} grouping")
        parts.append(f"{label} with probability {_decimal(probability, 2)}")
    if not parts:
        return "There is nothing to compare the choice with."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"The choice is better than {listed}."


def _clause(group: "Assembled", gaining: list[str], gains: dict[str, Interval]) -> str:
    stated = [f"{_signed(gains[task])} for {task}" for task in gaining]
    return f"learning {{{', '.join(group.network.tasks)}}} together is expected to gain {' and '.join(stated)}"


def _is_sure(gain: Interval) -> bool:
    return gain.low is not None and gain.low > 0


def _signed(gain: Interval) -> str:
    mean = _decimal(gain.mean, 3)
    return f"+{mean} [{_decimal(gain.low, 3)}, {_decimal(gain.high, 3)}]"


def _decimal(value: float, digits: int) -> str:
    """Return a number below one as .031, the way skills are written here."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
