"""Variances of the skill model by maximum a-posteriori marginal likelihood, all targets together."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

# Standard deviations of the normal priors on logarithms. Noise is what repeats tell best, so its prior is widest.
_PART_WIDTH = 1.5
_SCALE_WIDTH = 0.7
_NOISE_WIDTH = 1.2
_NOISE_MEDIAN = 0.3
_FOLD_MEDIAN = 0.1
# Logarithms are kept within this range: beyond it a part is nothing, or everything.
_LIMIT = 9.0
_ITERATIONS = 60
# Learned logarithms are rounded, so that equal data in another order or unit gives the same model.
_DECIMALS = 2
_JITTER = 1e-8


@dataclass(frozen=True)
class TargetSample:
    """Standardised results of one target: means over the repeats of a network on a fold.

    ``components`` [parts, rows, rows] are those of the kernel, and the last one is 1 where the folds are equal;
    ``within`` is the sum of squares of repeats around their means, over ``freedom`` degrees of freedom.
    """

    components: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    within: float
    freedom: int


@dataclass(frozen=True)
class Variances:
    """``parts`` [parts] (the fold's last), shared by the targets; ``scale`` and ``noise`` [targets].

    The covariance of a target's results is scale * sum of parts + noise / repeats, in standardised units.
    """

    parts: np.ndarray
    scale: np.ndarray
    noise: np.ndarray


def learn_variances(
    samples: list[TargetSample], medians: np.ndarray, start: Variances | None = None
) -> Variances:
    """Return the most probable variances; ``medians`` are the prior's of the kernel's parts, without the fold's."""
    n_parts, n_targets = len(medians) + 1, len(samples)
    centre = np.concatenate(
        [
            np.log([*medians, _FOLD_MEDIAN]),
            np.zeros(n_targets),
            np.full(n_targets, np.log(_NOISE_MEDIAN)),
        ]
    )
    width = np.repeat([_PART_WIDTH, _SCALE_WIDTH, _NOISE_WIDTH], [n_parts, n_targets, n_targets])
    first = centre
    if start is not None and len(start.parts) == n_parts and len(start.scale) == n_targets:
        first = np.log(np.concatenate([start.parts, start.scale, start.noise]))

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.0, np.zeros_like(logs)
        parts = np.exp(logs[:n_parts])
        for target, sample in enumerate(samples):
            at_scale, at_noise = n_parts + target, n_parts + n_targets + target
            scale, noise = np.exp(logs[at_scale]), np.exp(logs[at_noise])
            evidence, by_part, by_scale, by_noise = _log_evidence(sample, parts, scale, noise)
            value -= evidence
            slope[:n_parts] -= by_part
            slope[at_scale] -= by_scale
            slope[at_noise] -= by_noise
        from_centre = (logs - centre) / width
        value += 0.5 * float(from_centre @ from_centre)
        return value, slope + from_centre / width

    bounds = [(-_LIMIT, _LIMIT)] * len(first)
    options = {"maxiter": _ITERATIONS, "ftol": 1e-6}
    found = minimize(
        loss, np.clip(first, -_LIMIT, _LIMIT), jac=True, bounds=bounds, options=options
    )
    logs = found.x.copy()
    # The most probable noise is below the expected one, the more so the fewer repeats there are to tell it from what
    # single networks have of their own. Too little noise takes luck for skill, so the expected noise is used.
    freedom = np.array([sample.freedom for sample in samples])
    logs[n_parts + n_targets :] += 0.5 / (1.0 / _NOISE_WIDTH**2 + freedom / 2.0)
    variances = np.exp(np.round(logs, _DECIMALS))
    return Variances(
        variances[:n_parts],
        variances[n_parts : n_parts + n_targets],
        variances[n_parts + n_targets :],
    )


def _log_evidence(
    sample: TargetSample, parts: np.ndarray, scale: float, noise: float
) -> tuple[float, np.ndarray, float, float]:
    """Return the log marginal likelihood of a target and its slopes by the logarithms of the variances."""
    n = len(sample.values)
    if n == 0:
        return 0.0, np.zeros(len(parts)), 0.0, 0.0
    signal = scale * np.tensordot(parts, sample.components, axes=1)
    covariance = signal + np.diag(noise / sample.counts + _JITTER)
    factor = cho_factor(covariance, lower=True)
    inverse = cho_solve(factor, np.eye(n))
    weighted = inverse @ sample.values
    log_determinant = 2.0 * np.log(np.diag(factor[0])).sum()
    evidence = -0.5 * (sample.values @ weighted + log_determinant)
    evidence -= 0.5 * (sample.freedom * np.log(noise) + sample.within / noise)
    # d evidence / d covariance, Rasmussen and Williams 2006, equation 5.9
    slope = 0.5 * (np.outer(weighted, weighted) - inverse)
    by_part = scale * parts * np.tensordot(sample.components, slope, axes=([1, 2], [0, 1]))
    by_noise = noise * float((np.diag(slope) / sample.counts).sum())
    by_noise += 0.5 * (sample.within / noise - sample.freedom)
    return float(evidence), by_part, float(by_part.sum()), by_noise
