"""Densities in, properties out, by scikit-learn's manners."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import taskgroup as tg
from taskgroup.datasets import Target
from taskgroup.densities import Density
from taskgroup.errors import ConfigError
from taskgroup.estimators import DensityRegressor

TINY = {"model": {"backbone": "descriptors", "grid": 8, "widths": (0.4,)}, "grid": 8}


@pytest.fixture(scope="module")
def crystals() -> tuple[list[Density], pd.DataFrame]:
    data = tg.load_dataset("crystals")[:30]
    densities = []
    for row in range(len(data)):
        atoms = (data.lattices[row], data.species[row], data.frac_coords[row])
        values = data.densities([row])[0].astype(float)
        densities.append(Density(values, *atoms, "valence", "memory"))
    return densities, data.targets.frame()[["volume", "density"]].reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(crystals) -> DensityRegressor:
    specs = [Target("volume", unit="Å^3", transform="log10"), Target("density", unit="g/cm^3")]
    model = DensityRegressor(targets=specs, training={"epochs": 4}, **TINY)
    return model.fit(*crystals)


def test_it_predicts_labels_with_units_and_deviations(fitted, crystals):
    densities, labels = crystals
    predicted = fitted.predict(densities)
    assert predicted.shape == (30, 2)
    frame = fitted.predict_frame(densities[:2])
    assert frame.attrs["units"] == {"density": "g/cm^3", "volume": "Å^3"}
    assert (frame["volume_std"] > 0).all()
    # Networks compute in float32, and batches of other sizes round differently.
    np.testing.assert_allclose(frame["volume"], predicted[:2, 0], rtol=1e-5)
    assert set(fitted.validation_skills_) == set(labels.columns)


def test_files_predict_as_their_densities_do(fitted):
    from taskgroup.datasets.crystals import data_folder

    file = sorted(data_folder().joinpath("chgcar").iterdir())[0]
    of_file = fitted.predict([file])
    np.testing.assert_allclose(of_file, fitted.predict([tg.read_density(file)]), rtol=1e-6)


def test_one_column_of_labels_gives_one_of_predictions_and_groups_may_be_named(crystals):
    densities, labels = crystals
    model = DensityRegressor("singles", training={"epochs": 1}, **TINY)
    assert model.fit(densities, labels["volume"]).predict(densities[:3]).shape == (3,)
    model.fit(densities, labels)
    assert str(model.grouping_) == "{density} | {volume}"


def test_grids_may_follow_the_cells(crystals):
    densities, labels = crystals
    settings = {"model": TINY["model"], "spacing": 0.5, "training": {"epochs": 1}}
    model = DensityRegressor(**settings).fit(densities, labels["volume"])
    assert model.bundle_.spec.density.spacing == 0.5
    assert np.isfinite(model.predict(densities[:2])).all()


def test_it_is_cloned_and_cross_validated(crystals):
    densities, labels = crystals
    model = DensityRegressor(training={"epochs": 1}, **TINY)
    scores = cross_val_score(clone(model), densities, labels.to_numpy(), cv=2)
    assert np.isfinite(scores).all()


def test_densities_of_several_kinds_or_too_few_labels_are_refused(crystals):
    densities, labels = crystals
    with pytest.raises(ConfigError, match="a row for each of 3 densities, found 30"):
        DensityRegressor(**TINY).fit(densities[:3], labels)
