import numpy as np
from numpy.typing import ArrayLike

from taskgroup.affinity.features._inputs import checked, classes, evaluate, one_hot, orthonormal
from taskgroup.errors import InputError


def leep(
    probabilities: ArrayLike, labels: ArrayLike, kind: str = "classification"
) -> float | np.ndarray:
    r"""Log expected empirical prediction: mean log likelihood of the labels through the source model's own classes.

    .. math:: \tfrac1n \sum_i \log \sum_z \hat P(y_i\,|\,z)\,\theta_i(z)

    with the joint distribution :math:`\hat P(y, z)` counted on the same rows. At most 0. A regression target is cut at
    its quantiles. Nguyen et al., 2020, arXiv:2002.12462.

    Args:
        probabilities: source class probabilities ``[n, Z]``, rows sum to 1.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """
    theta, _ = checked(probabilities, labels, kind)
    if theta.min(initial=0.0) < 0 or not np.allclose(theta.sum(axis=1), 1, atol=1e-4):
        raise InputError("LEEP needs source probabilities: rows must be non-negative and sum to 1")

    def core(source: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([_log_likelihood(source, classes(column, kind)) for column in y.T])

    return evaluate(core, theta, labels, kind)


def nce(
    source_labels: ArrayLike, labels: ArrayLike, kind: str = "classification"
) -> float | np.ndarray:
    r"""Negative conditional entropy :math:`-H(Y\,|\,Z)` of the labels given the source task's labels, in nats.

    At most 0; equals `leep` of the one-hot source labels. Tran, Nguyen and Hassner, 2019, arXiv:1908.08142.

    Args:
        source_labels: source classes ``[n]`` or ``[n, 1]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """
    z = np.asarray(source_labels)
    if z.size != len(z):
        raise InputError(f"NCE needs one source class a row, but got an array of shape {z.shape}")
    return leep(one_hot(np.unique(z.ravel(), return_inverse=True)[1]), labels, kind)


def nleep(
    features: ArrayLike, labels: ArrayLike, kind: str = "classification", seed: int = 0
) -> float | np.ndarray:
    """LEEP for features without a classifier: their Gaussian mixture components stand for the source classes.

    The features are whitened and reduced to at most ten principal directions, then a mixture with five components a
    class (and at least ten rows a component) gives the probabilities. Li et al., 2021, arXiv:2011.11200.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
        seed: of the mixture's initialisation.
    """
    from sklearn.mixture import GaussianMixture

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        basis = orthonormal(x)[:, :10] * np.sqrt(len(x))
        scores = []
        for column in y.T:
            codes = classes(column, kind)
            most_components = 5 * (codes.max() + 1)
            n_components = int(np.clip(len(x) // 10, 1, most_components))
            # One component, or constant features, say nothing: every row has the same source class.
            source = np.ones((len(x), 1))
            if n_components > 1 and basis.shape[1]:
                mixture = GaussianMixture(
                    n_components, covariance_type="diag", reg_covar=1e-3, random_state=seed
                )
                source = _fit_quietly(mixture, basis)
            scores.append(_log_likelihood(source, codes))
        return np.array(scores)

    return evaluate(core, features, labels, kind)


def _fit_quietly(mixture: object, rows: np.ndarray) -> np.ndarray:
    """Return probabilities of a mixture, without warnings: an unfinished fit is still a usable soft clustering."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(rows).predict_proba(rows)


def _log_likelihood(theta: np.ndarray, codes: np.ndarray) -> float:
    joint = one_hot(codes).T @ theta
    mass = joint.sum(axis=0)
    conditional = joint / np.where(mass > 0, mass, 1.0)
    return float(np.log((conditional[codes] * theta).sum(axis=1)).mean())
