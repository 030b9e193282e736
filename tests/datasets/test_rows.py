import numpy as np
import pytest

import taskgroup as tg
from taskgroup.datasets import Dataset


@pytest.fixture(scope="module")
def crystals() -> Dataset:
    return tg.load_dataset("crystals")


def test_a_row_has_density_structure_and_labels(crystals):
    row = crystals[3]
    assert row.id == crystals.ids[3]
    np.testing.assert_array_equal(row.density, crystals.densities([3])[0])
    assert row.structure == crystals.structure(3)
    assert row.labels["volume"] == crystals.targets.column("volume")[3]
    missing = np.isnan(crystals.targets.values[3])
    assert [value is None for value in row.labels.values()] == missing.tolist()
    assert row.id in repr(row)


def test_rows_count_from_the_end_too_and_end(crystals):
    assert crystals[-1].id == crystals.ids[-1]
    assert [row.id for row in crystals[:2]] == list(crystals.ids[:2])
    with pytest.raises(IndexError, match="622 rows"):
        crystals[622]


def test_slices_lists_and_masks_give_subsets(crystals):
    mask = np.array(crystals.formulas) == "Ag"
    assert crystals[mask].formulas == ("Ag",) * mask.sum()
    assert crystals[[5, 2]].ids == (crystals.ids[5], crystals.ids[2])
    assert len(crystals[10:20:3]) == 4


def test_torch_loads_batches_of_rows(crystals):
    from torch.utils.data import DataLoader

    part = crystals.with_targets(["volume", "shear_modulus"])[:5]
    rows = part.torch()
    batch = next(iter(DataLoader(rows, batch_size=5, collate_fn=rows.collate)))
    # The grids of these crystals differ in shape.
    assert [density.shape[1:] for density in batch["density"]] == [tuple(n) for n in part.shapes]
    assert batch["lattice"].shape == (5, 3, 3)
    assert batch["id"] == list(part.ids)
    np.testing.assert_allclose(batch["labels"], part.targets.values.astype(np.float32))
    np.testing.assert_array_equal(rows[-1]["density"], part.densities([4])[0])


def test_batches_of_one_shape_need_no_collating(crystals):
    from torch.utils.data import DataLoader

    cubic = crystals[(crystals.shapes == crystals.shapes[0]).all(axis=1)][:4]
    batch = next(iter(DataLoader(cubic.torch(), batch_size=4)))
    np.testing.assert_array_equal(batch["density"], cubic.densities())


def test_a_dataset_says_what_it_is(crystals):
    assert "622 rows" in repr(crystals)
    assert "bulk_modulus" in crystals._repr_html_()
