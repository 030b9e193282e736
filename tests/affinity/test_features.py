"""Transferability metrics against published fixtures, closed forms, second implementations and nasty inputs."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, spearmanr

from taskgroup.affinity.features import (
    METRICS,
    cka,
    h_score,
    knn_probe,
    leep,
    linear_cka,
    logme,
    nce,
    nleep,
    ridge_probe,
    rsa,
    shrunk_h_score,
    transfer_matrix,
    transrate,
)
from taskgroup.affinity.features._logme import maximum_evidence
from taskgroup.datasets import Target, TargetTable
from taskgroup.errors import InputError

FEATURE_METRICS = sorted(name for name, metric in METRICS.items() if metric.takes == "features")
SCALE_FREE = sorted(set(FEATURE_METRICS) - {"logme"})
KINDS = ("regression", "classification")


def logme_example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    features = rng.randn(50, 5)
    return features, features @ [1, -2, 0.5, 0, 0] + 0.3 * rng.randn(50)


def learnable(seed: int, n: int = 120, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Anisotropic features, as networks have them, and a target they explain."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) * np.geomspace(4, 0.25, d)
    return features, features[:, 0] - 2 * features[:, 1] + 0.2 * rng.normal(size=n)


def labels_of(target: np.ndarray, kind: str) -> np.ndarray:
    return target if kind == "regression" else (target > np.median(target)).astype(float)


class TestLogME:
    def test_the_regression_fixture_with_its_alpha_and_beta(self):
        features, target = logme_example()
        assert logme(features, target) == pytest.approx(-0.5884058433, abs=1e-9)
        _, alpha, beta = maximum_evidence(features, target[:, None])
        assert alpha[0] == pytest.approx(0.949345, abs=2e-6)
        assert beta[0] == pytest.approx(9.780263, abs=2e-6)

    def test_the_classification_fixture(self):
        features, _ = logme_example()
        assert logme(features, features[:, 0] > 0, "classification") == pytest.approx(
            -0.9668035646, abs=1e-9
        )

    @pytest.mark.parametrize("shape", [(30, 4), (12, 20)])
    def test_it_is_the_largest_marginal_likelihood_of_the_explicit_gaussian(self, shape):
        rng = np.random.default_rng(3)
        features = rng.normal(size=shape)
        target = features[:, 0] + 0.5 * rng.normal(size=shape[0])

        def minus_evidence(log_precisions):
            alpha, beta = np.exp(log_precisions)
            covariance = np.eye(shape[0]) / beta + features @ features.T / alpha
            return -multivariate_normal(cov=covariance).logpdf(target) / shape[0]

        best = min(
            minimize(minus_evidence, (a, b), method="Nelder-Mead").fun
            for a in (-2, 1)
            for b in (0, 3)
        )
        assert logme(features, target) == pytest.approx(-best, abs=1e-5)

    def test_a_perfect_fit_stays_finite_and_beats_a_noisy_one(self):
        features, _ = logme_example()
        perfect, noisy = (
            features[:, 0],
            features[:, 0] + 0.1 * np.random.default_rng(0).normal(size=50),
        )
        assert np.isfinite(logme(features, perfect))
        assert logme(features, perfect) > logme(features, noisy)

    def test_features_that_know_nothing_give_the_evidence_of_pure_noise(self):
        target = np.random.default_rng(0).normal(size=40)
        alone = -0.5 * (np.log(2 * np.pi * (target**2).mean()) + 1)
        assert logme(np.zeros((40, 3)), target) == pytest.approx(alone)


class TestHScore:
    def test_the_fixture(self):
        features = [[0, 0], [0, 2], [2, 0], [2, 2], [1, 1], [3, 1]]
        assert h_score(features, [0, 0, 1, 1, 0, 1]) == pytest.approx(0.8181818182)

    @pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
    def test_two_balanced_gaussian_classes_give_the_closed_form(self, d):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1], 20000)
        features = rng.normal(size=(40000, 1)) + d * (2 * labels[:, None] - 1)
        assert h_score(features, labels) == pytest.approx(d**2 / (1 + d**2), abs=0.01)
        assert shrunk_h_score(features, labels) == pytest.approx(d**2 / (1 + d**2), abs=0.01)

    def test_it_is_the_trace_formula_with_a_pseudo_inverse(self):
        features, target = learnable(0)
        features = np.column_stack([features, features[:, 0] - features[:, 2]])
        codes = np.digitize(target, [-3, 0, 3])
        means = np.stack([features[codes == c].mean(axis=0) for c in codes])
        expected = np.trace(np.linalg.pinv(np.cov(features.T), rcond=1e-10) @ np.cov(means.T))
        assert h_score(features, codes) == pytest.approx(expected)

    def test_it_does_not_change_under_an_invertible_map_of_the_features(self):
        features, target = learnable(1)
        labels, mix = target > 0, np.random.default_rng(2).normal(size=(6, 6))
        assert h_score(features @ mix + 5, labels) == pytest.approx(h_score(features, labels))

    def test_shrinking_keeps_more_columns_than_rows_from_saturating(self):
        rng = np.random.default_rng(0)
        noise, labels = rng.normal(size=(40, 100)), np.arange(40) % 2
        assert h_score(noise, labels) == pytest.approx(1.0)
        assert shrunk_h_score(noise, labels) < 0.3

    def test_the_shrunk_score_is_its_published_formula(self):
        from sklearn.covariance import ledoit_wolf

        features, target = learnable(4, n=40, d=10)
        codes = (target > 0).astype(int)
        centred = features - features.mean(axis=0)
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
        means = np.stack([centred[codes == c].mean(axis=0) for c in codes])
        expected = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, means.T @ means / 40))
        assert shrunk_h_score(features, codes) == pytest.approx(expected)


class TestLeepAndNce:
    def test_the_leep_fixture(self):
        theta = [[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]]
        assert leep(theta, [0, 0, 1, 1]) == pytest.approx(-0.4625593230, abs=1e-9)

    def test_the_nce_fixture_and_its_equality_with_leep_of_one_hot_labels(self):
        z, labels = np.array([0, 0, 0, 1, 1, 1, 1, 1]), [0, 0, 1, 1, 1, 1, 0, 1]
        assert nce(z, labels) == pytest.approx(-0.5514443278, abs=1e-9)
        assert leep(np.eye(2)[z], labels) == pytest.approx(nce(z, labels))

    def test_nce_is_minus_the_conditional_entropy(self):
        rng = np.random.default_rng(0)
        z, y = rng.integers(4, size=300), rng.integers(3, size=300)
        joint = np.histogram2d(z, y, bins=(4, 3))[0] / 300
        entropy = -(joint * np.log(joint / joint.sum(axis=1, keepdims=True))).sum()
        assert nce(z, y) == pytest.approx(-entropy)

    def test_leep_is_never_above_zero(self):
        rng = np.random.default_rng(0)
        theta = rng.dirichlet(np.ones(3), size=200)
        assert leep(theta, rng.integers(2, size=200)) <= 0

    def test_rows_that_are_no_probabilities_are_refused(self):
        with pytest.raises(InputError, match="sum to 1"):
            leep([[0.7, 0.7], [0.5, 0.5], [0.1, 0.9]], [0, 1, 0])

    def test_nleep_finds_classes_that_are_clusters(self):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1, 2], 50)
        clusters = rng.normal(size=(150, 3)) + 8 * np.eye(3)[labels]
        assert nleep(clusters, labels, "classification") > -0.05
        assert nleep(rng.normal(size=(150, 3)), labels, "classification") < -0.5


class TestTransRate:
    def test_it_is_the_published_formula(self):
        features, target = learnable(0)
        codes = np.digitize(target, [-2, 2])
        z = features - features.mean(axis=0)
        z = z / np.sqrt((z**2).sum() / len(z))

        def rate(part):
            return (
                0.5 * np.linalg.slogdet(np.eye(z.shape[1]) + part.T @ part / (1e-4 * len(part)))[1]
            )

        expected = rate(z) - sum((codes == c).mean() * rate(z[codes == c]) for c in range(3))
        assert transrate(features, codes) == pytest.approx(expected)

    def test_classes_in_orthogonal_directions_give_the_closed_form(self):
        features = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]] * 5, dtype=float)
        labels = np.array([0, 0, 1, 1] * 5)
        expected = np.log1p(0.5e4) - 0.5 * np.log1p(1e4)
        assert transrate(features, labels) == pytest.approx(expected)

    def test_it_does_not_depend_on_the_scale_of_the_features(self):
        features, target = learnable(1)
        assert transrate(1e6 * features, target > 0) == pytest.approx(
            transrate(features, target > 0)
        )


class TestSimilarity:
    def test_cka_is_one_for_a_rotated_scaled_and_shifted_copy(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 6))
        q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        assert linear_cka(x, 3 * x @ q + 7) == pytest.approx(1.0)

    @pytest.mark.parametrize(("j", "k"), [(1, 4), (2, 3), (5, 5)])
    def test_cka_of_the_first_j_of_k_independent_dimensions(self, j, k):
        x = np.random.default_rng(0).normal(size=(50000, k))
        assert linear_cka(x, x[:, :j]) == pytest.approx(np.sqrt(j / k), abs=0.01)

    def test_cka_is_the_normalised_hilbert_schmidt_inner_product_of_the_kernels(self):
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(15, 30)), rng.normal(size=(15, 4))
        centre = np.eye(15) - 1 / 15
        k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
        expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
        assert linear_cka(x, y) == pytest.approx(expected)

    def test_rsa_is_the_spearman_correlation_of_the_dissimilarities(self):
        features, target = learnable(0, n=25)
        pairs = np.triu_indices(25, 1)
        near = np.linalg.norm(features[:, None] - features, axis=-1)[pairs]
        assert rsa(features, target) == pytest.approx(
            spearmanr(near, np.abs(target[:, None] - target)[pairs])[0]
        )
        codes = np.digitize(target, [-2, 2])
        other = (codes[:, None] != codes)[pairs]
        assert rsa(features, codes, "classification") == pytest.approx(spearmanr(near, other)[0])

    def test_rsa_of_a_target_with_itself_is_one(self):
        target = np.random.default_rng(0).normal(size=30)
        assert rsa(target[:, None], target) == pytest.approx(1.0)
        assert cka(target[:, None], target) == pytest.approx(1.0)


class TestProbes:
    def test_the_ridge_probe_recovers_a_linear_target_and_knn_a_step(self):
        features, _ = learnable(0, n=200)
        assert ridge_probe(features, features @ np.arange(6)) > 0.999
        assert knn_probe(features[:, :1], features[:, 0] > 0, "classification") > 0.95

    @pytest.mark.parametrize("probe", [knn_probe, ridge_probe])
    @pytest.mark.parametrize("kind", KINDS)
    def test_shuffled_labels_have_no_skill(self, probe, kind):
        features, target = learnable(0, n=400)
        shuffled = np.random.default_rng(1).permutation(target)
        assert probe(features, labels_of(shuffled, kind), kind) < 0.15

    def test_twins_of_one_key_do_not_answer_for_each_other(self):
        rng = np.random.default_rng(0)
        keys = np.repeat(np.arange(60), 6)
        features, target = rng.normal(size=(60, 8))[keys], rng.normal(size=60)[keys]
        assert knn_probe(features, target, k=2) > 0.9
        assert knn_probe(features, target, k=2, groups=keys) < 0.1

    def test_keys_keep_step_with_rows_that_have_no_label(self):
        features, target = learnable(0)
        keys = np.arange(120) // 3
        holes = target.copy()
        holes[::5] = np.nan
        kept = ~np.isnan(holes)
        whole = ridge_probe(features[kept], target[kept], groups=keys[kept])
        assert ridge_probe(features, holes, groups=keys) == pytest.approx(whole)

    def test_one_key_for_all_rows_is_refused(self):
        with pytest.raises(InputError, match="two groups"):
            knn_probe(np.eye(6), np.arange(6), groups=["NaCl"] * 6)


@pytest.mark.parametrize("name", FEATURE_METRICS)
class TestEveryMetric:
    @pytest.mark.parametrize("kind", KINDS)
    def test_informative_features_score_higher_than_noise_and_within_the_bounds(self, name, kind):
        metric = METRICS[name]
        features, target = learnable(0)
        noise = np.random.default_rng(9).normal(size=features.shape) * features.std(axis=0)
        good, bad = (metric.function(x, labels_of(target, kind), kind) for x in (features, noise))
        assert metric.higher_is_better
        assert good > bad
        assert metric.bounds[0] - 1e-9 <= bad
        assert good <= metric.bounds[1] + 1e-9

    @pytest.mark.parametrize("kind", KINDS)
    def test_several_targets_at_once_equal_one_at_a_time_with_missing_rows_dropped(
        self, name, kind
    ):
        features, target = learnable(0)
        columns = np.column_stack([labels_of(target, kind), labels_of(-features[:, 1], kind)] * 2)
        columns[::4, 1] = columns[1::7, 2] = np.nan
        function = METRICS[name].function
        together = function(features, columns, kind)
        for column, value in zip(columns.T, together, strict=True):
            kept = ~np.isnan(column)
            assert value == pytest.approx(function(features[kept], column[kept], kind), rel=1e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_too_many_duplicated_and_constant_columns_give_a_finite_number(self, name, kind):
        rng = np.random.default_rng(0)
        features, target = learnable(0, n=30)
        nasty = np.column_stack(
            [features, features, np.ones(30), np.full(30, 1e15), rng.normal(size=(30, 60))]
        )
        nasty[:, -1] *= 1e-12
        assert np.isfinite(METRICS[name].function(nasty, labels_of(target, kind), kind))

    def test_targets_that_cannot_be_judged_are_nan(self, name):
        features, target = learnable(0, n=20)
        sparse = np.where(np.arange(20) < 2, target, np.nan)
        answers = METRICS[name].function(
            features, np.column_stack([np.ones(20), sparse, target * np.nan]), "regression"
        )
        assert np.isnan(answers).all()

    def test_bad_input_is_named(self, name):
        function = METRICS[name].function
        with pytest.raises(InputError, match="share n"):
            function(np.ones((4, 2)), np.ones(5), "regression")
        with pytest.raises(InputError, match="finite"):
            function([[1.0], [np.inf], [2.0]], [1, 2, 3], "regression")
        with pytest.raises(InputError, match="kind"):
            function(np.eye(3), [1, 2, 3], "ranking")


@pytest.mark.parametrize("name", SCALE_FREE)
def test_the_unit_of_a_regression_target_does_not_matter(name):
    features, target = learnable(0)
    function = METRICS[name].function
    assert function(features, 1e3 * target + 50, "regression") == pytest.approx(
        function(features, target, "regression")
    )


@pytest.mark.parametrize(
    "name", sorted(set(FEATURE_METRICS) - {"knn", "ridge", "nleep"})
)  # these draw folds or starts
def test_the_order_of_the_rows_does_not_matter(name):
    features, target = learnable(0)
    order = np.random.default_rng(1).permutation(len(target))
    function = METRICS[name].function
    shuffled = function(features[order], target[order], "regression")
    assert shuffled == pytest.approx(function(features, target, "regression"))


class TestTransferMatrix:
    def table(self, n: int = 90) -> tuple[dict[str, np.ndarray], TargetTable]:
        features, target = learnable(0, n=n)
        other = np.random.default_rng(5).normal(size=(n, 6)) * np.geomspace(4, 0.25, 6)
        values = np.column_stack([10**target, other[:, 0], target > 0])
        values[::6, 1] = np.nan
        specs = (
            Target("gap", transform="log10"),
            Target("charge"),
            Target("metal", "classification"),
        )
        return {"gap": features, "charge": other}, TargetTable(
            specs, tuple(map(str, range(n))), values
        )

    @pytest.mark.parametrize("measure", FEATURE_METRICS)
    def test_the_source_that_holds_a_target_serves_it_best(self, measure):
        sources, table = self.table()
        transfer = transfer_matrix(sources, table, measure)
        assert transfer.sources == ("gap", "charge")
        assert transfer.targets == ("gap", "charge", "metal")
        assert transfer.values.argmax(axis=0).tolist() == [0, 1, 0]
        assert transfer.n.tolist() == [[90, 75, 90]] * 2
        assert transfer.frame().loc["gap", "metal"] == transfer.values[0, 2]

    def test_source_classes_and_probabilities_are_taken_by_nce_and_leep(self):
        _, table = self.table()
        classes = table.column("metal").astype(int)
        assert transfer_matrix({"metal": classes}, table, "nce").values[0, 2] == pytest.approx(0)
        soft = 0.9 * np.eye(2)[classes] + 0.05
        assert -0.4 < transfer_matrix({"metal": soft}, table, "leep").values[0, 2] < 0

    def test_a_target_without_labels_is_nan(self):
        sources, table = self.table()
        values = table.values.copy()
        values[:, 1] = np.nan
        bare = TargetTable(table.specs, table.ids, values)
        assert (
            np.isnan(transfer_matrix(sources, bare, "ridge").values).tolist()
            == [[False, True, False]] * 2
        )

    def test_single_target_sources_give_a_directed_affinity(self):
        sources, table = self.table()
        transfer = transfer_matrix(sources, table.select(["gap", "charge"]), "ridge")
        affinity = transfer.affinity()
        assert affinity.measure == "ridge"
        assert affinity.value("charge", "gap") == transfer.values[1, 0]
        with pytest.raises(InputError, match="one source a target"):
            transfer_matrix(sources, table, "ridge").affinity()

    def test_an_unknown_measure_names_the_nearest(self):
        sources, table = self.table()
        with pytest.raises(InputError, match="did you mean 'logme'"):
            transfer_matrix(sources, table, "logm")

    def test_no_source_is_refused(self):
        with pytest.raises(InputError, match="at least one group"):
            transfer_matrix({}, self.table()[1])
