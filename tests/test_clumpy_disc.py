"""Discs with clumps, drawn from formulas."""

import numpy as np
import pytest

from deconjugate.astro.clumpy_disc import clumpy_disc


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fluxes_are_those_of_a_disc_of_one_and_its_clumps(seed):
    image, clumps = clumpy_disc(np.random.default_rng(seed), side=101, separation=4.0)
    assert image.shape == (101, 101)
    assert image.min() >= 0.0
    assert image.sum() == pytest.approx(1.0 + clumps[:, 2].sum(), rel=1e-6)
    apart = np.hypot(*(clumps[:, None, :2] - clumps[None, :, :2]).transpose(2, 0, 1))
    assert (apart[~np.eye(len(clumps), dtype=bool)] >= 4.0).all()


def test_the_same_disc_without_light_in_its_clumps():
    image, clumps = clumpy_disc(np.random.default_rng(5), side=96)
    disc, faint = clumpy_disc(np.random.default_rng(5), side=96, faintest=1e-12, brightest=1e-12)
    assert np.array_equal(clumps[:, :2], faint[:, :2])
    assert disc.sum() == pytest.approx(1.0, abs=1e-9)
    y, x = np.indices(image.shape)
    for row, column, flux, _ in clumps:
        near = np.hypot(y - row, x - column) < 6
        assert (image - disc)[near].sum() >= 0.99 * flux
