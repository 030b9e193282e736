"""A basis of a lattice that does not depend on how the lattice was described.

The basis is a Buerger cell: its vectors are as short as those of any basis (a <= b <= c, the successive minima of the
lattice, which are unique). Among the Buerger cells, as for Niggli, one is taken whose angles are all acute, if there is
one, and otherwise one with no acute angle; then the one nearest to right angles (least sum of squared cosines); then
the one with the largest cosines (of alpha, beta, gamma in this order). It is right-handed. What is still equal differs
by a symmetry of the lattice, and the crystal decides, see ``cell``.
"""

import itertools

import numpy as np

# Relative lengths, and cosines, below which two are equal: text files give five digits or more.
_SAME_LENGTH = 1e-5
_SAME_COSINE = 1e-5
# A lattice that is still not reduced after so many steps has lost its digits.
_MOST_STEPS = 1000


def reduced_bases(lattice: np.ndarray) -> np.ndarray:
    """Return all bases that the rule leaves, as whole-number combinations of the rows of ``lattice``: int [n, 3, 3].

    >>> cubic = np.array([[1.0, 0, 0], [3, 1, 0], [0, -2, 1]])
    >>> bases = reduced_bases(cubic)
    >>> len(bases), bool(np.allclose(np.abs(bases[0] @ cubic).sum(axis=1), 1))
    (24, True)
    """
    start = _shortened(lattice)
    combinations = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    combinations = combinations[combinations.any(axis=1)]
    vectors = combinations @ start @ lattice
    lengths = np.linalg.norm(vectors, axis=1)
    minima = np.sort(np.linalg.norm(start @ lattice, axis=1))
    choices = [np.flatnonzero(np.abs(lengths - least) < _SAME_LENGTH * least) for least in minima]
    triples = np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, 3)
    determinants = np.linalg.det(combinations[triples].astype(float))
    handedness = np.sign(np.linalg.det(start @ lattice))
    triples = triples[np.abs(determinants - handedness) < 0.5]
    cosines = _cosines(vectors[triples])
    best = _preferred(cosines)
    return combinations[triples[best]] @ start


def _shortened(lattice: np.ndarray) -> np.ndarray:
    """Return whole-number combinations of the rows that are a Minkowski-reduced basis: int [3, 3].

    In three dimensions a basis is reduced if no vector becomes shorter by adding or taking away the two others.
    """
    start = np.eye(3, dtype=np.int64)
    for _ in range(_MOST_STEPS):
        changed = False
        for axis in range(3):
            others = [other for other in range(3) if other != axis]
            basis = start @ lattice
            steps = _best_steps(basis, axis, others)
            if steps is not None:
                start[axis] += steps @ start[others]
                changed = True
        if not changed:
            break
    return start


def _best_steps(basis: np.ndarray, axis: int, others: list[int]) -> np.ndarray | None:
    """Return how often to add the two other vectors to make one shorter, or None if that cannot be."""
    pair = basis[others]
    # The nearest lattice point of the plane to the vector's shadow on it, and its neighbours.
    shadow = np.linalg.lstsq(pair.T, -basis[axis], rcond=None)[0]
    around = np.array(list(itertools.product((-1, 0, 1), repeat=2)))
    steps = np.concatenate([np.round(shadow).astype(np.int64) + around, around])
    lengths = np.linalg.norm(basis[axis] + steps @ pair, axis=1)
    best = int(lengths.argmin())
    # Rounding must not make two equal lengths exchange for ever.
    if lengths[best] > (1 - 1e-9) * np.linalg.norm(basis[axis]):
        return None
    return steps[best]


def _cosines(bases: np.ndarray) -> np.ndarray:
    """Return the cosines of alpha, beta and gamma: [n, 3]."""
    unit = bases / np.linalg.norm(bases, axis=2, keepdims=True)
    pairs = ((1, 2), (0, 2), (0, 1))
    return np.stack([(unit[:, i] * unit[:, j]).sum(axis=1) for i, j in pairs], axis=1)


def _preferred(cosines: np.ndarray) -> np.ndarray:
    """Return the rows that the tie-break leaves."""
    rows = np.arange(len(cosines))
    acute = (cosines > _SAME_COSINE).all(axis=1)
    not_acute = (cosines < _SAME_COSINE).all(axis=1)
    rows = rows[acute] if acute.any() else rows[not_acute]
    scores = (-np.square(cosines).sum(axis=1), cosines[:, 0], cosines[:, 1], cosines[:, 2])
    for score in scores:
        rows = rows[score[rows] > score[rows].max() - _SAME_COSINE]
    return rows
