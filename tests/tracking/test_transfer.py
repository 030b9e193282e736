"""The transfer report on studies whose gains are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from taskgroup.affinity import Affinity
from taskgroup.datasets import Target, TargetTable
from taskgroup.grouping import Grouping
from taskgroup.intervals import percentile_bounds
from taskgroup.tracking import FinalRecord, Interval
from taskgroup.tracking.gains import DRAWS, SetRun, measured_gains
from taskgroup.tracking.transfer_report import transfer_report

NAMES = ("a", "b", "c", "d")
GAIN = np.array(
    [[0, 0.3, 0.1, -0.2], [0.2, 0, -0.1, 0.05], [0.15, -0.3, 0, 0.25], [0.02, 0.12, -0.05, 0]]
)


def study(seeds: int = 4, noise: float = 0.0) -> list[SetRun]:
    """Singles and all pairs; target j gains GAIN[i, j] from i."""
    random = np.random.default_rng(0)
    runs = []
    for seed in range(seeds):
        base = dict(zip(NAMES, 0.5 + 0.1 * random.normal(size=4), strict=True))
        runs += [SetRun((name,), {name: base[name]}, "plain", f"seed {seed}") for name in NAMES]
        for i in range(4):
            for j in range(i):
                pair = (NAMES[j], NAMES[i])
                gains = {NAMES[i]: GAIN[j, i], NAMES[j]: GAIN[i, j]}
                skills = {name: base[name] + gains[name] + noise * random.normal() for name in pair}
                runs.append(SetRun(pair, skills, "plain", f"seed {seed}"))
    return runs


def test_gains_are_paired_by_seed_so_that_the_level_of_a_seed_cancels():
    report = transfer_report(study(), {})
    np.testing.assert_allclose(
        report.pairwise.values[~np.eye(4, dtype=bool)], GAIN[~np.eye(4, dtype=bool)]
    )
    assert np.isnan(np.diag(report.pairwise.values)).all()
    assert {gain.n for gain in report.gains} == {4}


def test_negative_transfers_are_named_worst_first_and_small_gains_are_called_noise():
    report = transfer_report(study(seeds=6, noise=0.02), {})
    assert [(g.target, g.group) for g in report.negative][:2] == [
        ("b", ("b", "c")),
        ("d", ("a", "d")),
    ]
    verdicts = {(g.target, g.group): g.verdict for g in report.gains}
    assert verdicts["b", ("a", "b")] == "gain"
    assert verdicts["a", ("a", "d")] == "noise"


def test_only_runs_of_the_same_recipe_and_repetition_are_compared():
    alone, other = (
        SetRun(("a",), {"a": 0.5}, "small", "seed 0"),
        SetRun(("b",), {"b": 0.4}, "small", "seed 0"),
    )
    group = {"a": 0.7, "b": 0.3}
    gains, unpaired = measured_gains(
        [
            alone,
            other,
            SetRun(("a", "b"), group, "large", "seed 0"),
            SetRun(("a", "b", "c"), group, "small", "seed 1"),
        ],
        None,
        0,
    )
    assert gains == []
    assert unpaired == 2
    gains, unpaired = measured_gains(
        [alone, other, SetRun(("a", "b"), group, "small", "seed 0")], None, 0
    )
    assert {g.target: round(g.mean, 12) for g in gains} == {"a": 0.2, "b": -0.1}
    assert {g.verdict for g in gains} == {"one run"}
    assert unpaired == 0


@pytest.mark.parametrize("n", [3, 5, 20])
def test_the_interval_over_runs_covers_the_truth_as_often_as_promised_even_with_few_runs(n):
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        differences = random.normal(0.1, 0.05, size=n)
        runs = [SetRun(("a",), {"a": 0.0}, "r", str(i)) for i in range(n)]
        runs += [
            SetRun(("a", "b"), {"a": d, "b": None}, "r", str(i)) for i, d in enumerate(differences)
        ]
        (gain,), _ = measured_gains(runs, None, seed=trial)
        covered += gain.low <= 0.1 <= gain.high
    assert 180 <= covered <= 199  # three standard errors around 190


class TestMaterials:
    rows = np.arange(10, 210)

    def table(self) -> TargetTable:
        random = np.random.default_rng(0)
        values = np.column_stack([10 ** random.normal(size=220), random.random(220) > 0.5])
        values[::9, 0] = np.nan
        specs = (Target("gap", transform="log10"), Target("metal", "classification"))
        return TargetTable(specs, tuple(map(str, range(220))), values)

    def run(self, table: TargetTable, targets: tuple[str, ...], noise: float, seed: int) -> SetRun:
        from taskgroup.training import target_metrics

        random = np.random.default_rng(seed)
        columns, skills = [], {}
        for name in targets:
            truth = table.column(name)[self.rows]
            error = noise * random.normal(size=len(truth))
            column = (
                np.nan_to_num(truth, nan=1.0) * 10**error
                if name == "gap"
                else 0.5 * truth + 0.25 + 0.3 * error
            )
            columns.append(column)
            skills[name] = target_metrics(table.spec(name), truth, column)["skill"]
        return SetRun(targets, skills, "r", "seed 0", self.rows, np.column_stack(columns))

    def test_one_seed_gets_an_interval_over_materials_around_the_measured_gain(self):
        table = self.table()
        runs = [self.run(table, ("gap",), 0.8, 1), self.run(table, ("metal",), 0.8, 2)]
        runs.append(self.run(table, ("gap", "metal"), 0.4, 3))
        gains, _ = measured_gains(runs, table, 0)
        for gain in gains:
            assert 0 < gain.low < gain.mean < gain.high
            assert gain.verdict == "one run"  # materials are not all that is uncertain
            assert np.mean(gain.draws) == pytest.approx(gain.mean, abs=0.03)

    def test_the_same_predictions_differ_by_nothing_on_any_draw(self):
        table = self.table()
        single = self.run(table, ("gap",), 0.8, 1)
        twin = SetRun(
            ("gap", "metal"), {"gap": single.skills["gap"], "metal": None}, "r", "seed 0", self.rows
        )
        twin = SetRun(**{**vars(twin), "predictions": np.repeat(single.predictions, 2, axis=1)})
        (gain,), _ = measured_gains([single, twin], table, 0)
        np.testing.assert_allclose(gain.draws, 0, atol=1e-12)


class TestMeasureScores:
    def test_the_truth_itself_ranks_gains_perfectly_and_its_opposite_the_other_way(self):
        truth, opposite = Affinity(NAMES, GAIN), Affinity(NAMES, -GAIN)
        report = transfer_report(study(), {"truth": truth, "opposite": opposite})
        first, last = report.measure_rows()
        assert (first["measure"], first["correlation"], first["pairs"]) == (
            "truth",
            pytest.approx(1),
            12,
        )
        assert (last["measure"], last["correlation"]) == ("opposite", pytest.approx(-1))
        assert first["low"] == pytest.approx(1)

    def test_it_is_spearmans_correlation_over_ordered_pairs_with_an_interval_around_it(self):
        values = GAIN + 0.1 * np.random.default_rng(3).normal(size=(4, 4))
        report = transfer_report(study(noise=0.05), {"noisy": Affinity(NAMES, values)})
        (score,) = report.measures
        off = ~np.eye(4, dtype=bool)
        assert score.correlation == pytest.approx(
            spearmanr(values[off], report.pairwise.values[off])[0]
        )
        assert score.low < score.correlation <= score.high

    def test_noise_has_an_interval_that_holds_zero(self):
        values = np.random.default_rng(5).normal(size=(4, 4))
        (score,) = transfer_report(study(), {"noise": Affinity(NAMES, values)}).measures
        assert score.low < 0 < score.high

    def test_a_measure_that_knows_other_targets_says_nothing(self):
        (score,) = transfer_report(study(), {"other": Affinity(("x", "y"), np.eye(2))}).measures
        assert (score.correlation, score.low, score.pairs) == (None, None, 0)


def test_a_pair_that_was_not_trained_is_read_off_larger_groups():
    singles = [SetRun((name,), {name: 0.5}, "r", "s") for name in NAMES]
    triples = [
        SetRun(("a", "b", "c"), {"a": 0.6, "b": 0.5, "c": 0.5}, "r", "s"),
        SetRun(("a", "b", "d"), {"a": 0.8, "b": 0.5, "d": 0.5}, "r", "s"),
    ]
    pairwise = transfer_report(singles + triples, {}).pairwise
    assert pairwise.value("b", "a") == pytest.approx(0.2)
    assert pairwise.value("c", "a") == pytest.approx(0.1)
    assert np.isnan(pairwise.value("d", "c"))
    pair = SetRun(("a", "b"), {"a": 0.45, "b": 0.5}, "r", "s")
    assert transfer_report([*singles, *triples, pair], {}).pairwise.value(
        "b", "a"
    ) == pytest.approx(-0.05)


def test_the_winners_curse_is_validation_minus_reevaluation():
    final = FinalRecord(
        Grouping.singles(NAMES),
        "best",
        0.8,
        Interval(0.7, 0.6, 0.8, 3),
        Interval(0.65, 0.6, 0.7),
        {},
        {},
    )
    curse = transfer_report(study(), {}, final=final).curse
    assert (curse.validation, curse.reevaluation, curse.test) == (0.8, 0.7, 0.65)
    assert curse.optimism == pytest.approx(0.1)


def test_the_report_is_plain_json():
    import json

    report = transfer_report(study(), {"truth": Affinity(NAMES, GAIN)})
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content.keys() == {"gains", "negative", "measures", "winners_curse", "unpaired"}
    assert content["gains"][0].keys() == {
        "target",
        "group",
        "gain",
        "low",
        "high",
        "runs",
        "verdict",
    }


def test_bounds_hold_the_middle_of_the_draws():
    assert percentile_bounds(np.arange(DRAWS + 1.0)) == pytest.approx(
        (0.025 * DRAWS, 0.975 * DRAWS)
    )
