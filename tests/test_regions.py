"""Groups of sources, and sums and maps by group."""

import numpy as np
import pytest

from deconjugate.astro import PSF
from deconjugate.astro.forward import DataModel
from deconjugate.astro.regions import Regions, groups

SHAPE = (23, 31)


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request):
    return DataModel(SHAPE, PSF.gaussian(3.0).fine(request.param, max_size=21), request.param)


@pytest.fixture(scope="module")
def labels():
    rows, columns = np.indices(SHAPE)
    return (rows > 9) + 2 * (columns > 20)


def test_sources_within_reach_go_together_and_the_rest_to_the_nearest():
    sources = np.zeros((40, 60), int)
    sources[10:14, 10:15], sources[10:14, 19:22], sources[30:33, 50:52] = 1, 2, 3
    near, far = groups(sources, 6.0), groups(sources, 3.0)
    assert near[11, 12] == near[11, 20] != near[31, 51]
    assert len({far[11, 12], far[11, 20], far[31, 51]}) == 3
    for found in (near, far):
        np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    assert near[0, 0] == near[11, 12]
    assert near[39, 59] == near[31, 51]
    rows, columns = np.indices(sources.shape)
    lit = np.argwhere(sources)
    distance = np.hypot(rows[..., None] - lit[:, 0], columns[..., None] - lit[:, 1])
    # Of equally near sources either may be taken.
    nearest = np.isclose(distance, distance.min(axis=2, keepdims=True))
    assert (nearest & (near[tuple(lit.T)] == near[..., None])).any(axis=2).all()


def test_a_chain_of_sources_is_one_group():
    sources = np.zeros((9, 60), int)
    sources[4, 2:58:5] = np.arange(1, 13)
    assert not groups(sources, 5.0).any()
    assert groups(sources, 3.0).max() == 11


def test_without_sources_all_is_one_group():
    assert not groups(np.zeros(SHAPE, int), 4.0).any()


def test_sums_are_those_of_each_region(model, labels):
    rng = np.random.default_rng(0)
    regions = Regions(labels, model)
    assert regions.count == 4
    native = rng.standard_normal(SHAPE).astype(np.float32)
    expected = [native[labels == k].sum(dtype=np.float64) for k in range(4)]
    np.testing.assert_allclose(regions.native_sums(native), expected, rtol=1e-12)
    fine = rng.standard_normal(model.domain_shape).astype(np.float32)
    spread = regions.on_fine(np.arange(4))
    assert spread.shape == model.domain_shape
    expected = [fine[spread == k].sum(dtype=np.float64) for k in range(4)]
    np.testing.assert_allclose(regions.fine_sums(fine), expected, rtol=1e-12)
    assert regions.fine_sums(fine).sum() == pytest.approx(fine.sum(dtype=np.float64))


def test_maps_are_the_same_on_both_grids_and_go_on_beyond_the_edges(model, labels):
    regions, numbers, u = Regions(labels, model), np.array([3.0, -1.0, 0.5, 8.0]), model.upsample
    native, fine = regions.on_native(numbers), regions.on_fine(numbers)
    assert native.dtype == fine.dtype == np.float32
    np.testing.assert_array_equal(native, numbers[labels])
    np.testing.assert_array_equal(fine[model.inside], np.repeat(np.repeat(native, u, 0), u, 1))
    assert [fine[0, 0], fine[0, -1], fine[-1, 0], fine[-1, -1]] == numbers[[0, 2, 1, 3]].tolist()


def test_one_region_is_a_scalar(model):
    regions = Regions(np.zeros(SHAPE, int), model)
    values = np.random.default_rng(1).standard_normal(SHAPE)
    assert regions.native_sums(values) == pytest.approx([values.sum()])
    assert regions.fine_sums(np.ones(model.domain_shape, np.float32)) == [np.prod(model.domain_shape)]
    assert regions.on_native([2.5]) == regions.on_fine([2.5]) == np.float32(2.5)
    assert np.ndim(regions.on_fine([2.5])) == 0
