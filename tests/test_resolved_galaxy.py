"""Galaxies drawn from formulas that fill a frame."""

import numpy as np
import pytest

from deconjugate.astro.resolved_galaxy import edge_on_galaxy, spiral_galaxy


@pytest.mark.parametrize("draw", [spiral_galaxy, edge_on_galaxy])
@pytest.mark.parametrize("side", [63, 128])
def test_images_are_galaxies_of_the_size_asked_for(draw, side):
    rng = np.random.default_rng(0)
    for _ in range(12):
        image = draw(rng, side)
        assert image.shape == (side, side)
        assert image.dtype == np.float32
        assert image.min() >= 0.0
        assert image.max() == 1.0
        assert max(image[0].max(), image[-1].max(), image[:, 0].max(), image[:, -1].max()) < 0.05
    np.testing.assert_array_equal(draw(np.random.default_rng(5), side), draw(np.random.default_rng(5), side))


def test_spirals_are_resolved_and_edge_on_discs_are_thin():
    def widths(image):
        y, x = np.indices(image.shape) - (image.shape[0] - 1) / 2
        light = image / image.sum()
        moments = [[(light * a * b).sum() for a in (y, x)] for b in (y, x)]
        return np.sqrt(np.linalg.eigvalsh(moments))

    rng = np.random.default_rng(2)
    spirals = np.array([widths(spiral_galaxy(rng, 128, radius=20.0)) for _ in range(20)])
    discs = np.array([widths(edge_on_galaxy(rng, 128, radius=20.0)) for _ in range(20)])
    assert np.median(spirals[:, 1]) > 15
    assert np.median(spirals[:, 0] / spirals[:, 1]) > 0.4
    assert np.median(discs[:, 0] / discs[:, 1]) < 0.35


def test_arms_and_knots_are_there():
    """Far more structure on a few pixels than a smooth disc of the same profile has."""
    rng = np.random.default_rng(3)
    rough = []
    for _ in range(20):
        image = spiral_galaxy(rng, 128, radius=20.0)
        smooth = sum(np.rot90(image, k) for k in range(4)) / 4
        rough.append(np.square(image - smooth).sum() / np.square(image).sum())
    assert np.median(rough) > 0.05
