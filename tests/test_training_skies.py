"""The skies of the training scenes: light from beyond the frame, sources that its edges cut, small neighbours."""

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.astro import training_skies
from deconjugate.astro.network_input import MARGIN
from deconjugate.astro.training_scenes import BEYOND, SceneData, Scenes
from deconjugate.astro.training_skies import KINDS, add, binned, deep_field, draw_sky

GALAXY = np.exp(-np.hypot(*np.indices((33, 41)) - np.array([16, 20])[:, None, None]) / 3.0).astype(np.float32)


def drawn(kind, count, monkeypatch, galaxies=(GALAXY,)):
    monkeypatch.setattr(training_skies, "KINDS", {kind: 1.0})
    rng = np.random.default_rng(5)
    return [draw_sky(rng, list(galaxies), 66, 32) for _ in range(count)]


def test_the_shares_add_up():
    assert sum(KINDS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("galaxies", [(), (GALAXY,)])
def test_a_sky_has_light_in_its_frame(kind, galaxies, monkeypatch):
    for sky in drawn(kind, 6, monkeypatch, galaxies):
        assert sky.shape == (130, 130)
        assert sky.dtype == np.float32
        assert sky.min() >= 0.0
        if kind == "empty":
            assert not sky.any()
        else:
            assert sky[32:-32, 32:-32].max() >= training_skies.LEAST * sky.max() > 0.0


def test_cut_galaxies_lie_across_an_edge(monkeypatch):
    outside = []
    for sky in drawn("cut", 20, monkeypatch):
        frame = sky[32:-32, 32:-32]
        border = max(side.max() for side in (frame[0], frame[-1], frame[:, 0], frame[:, -1]))
        assert border > 3e-3 * frame.max()
        outside.append(sky.sum() / frame.sum() - 1)
    assert min(outside) > 0.001  # a small galaxy whose middle is 16 pixels inside
    assert np.median(outside) > 0.2


def test_large_galaxies_fill_the_frame(monkeypatch):
    """Their light, above a hundredth of the brightest pixel, spans most of it, and often goes beyond."""
    wide = np.exp(-np.hypot(*np.indices((90, 96)) - np.array([45, 47])[:, None, None]) / 12.0).astype(np.float32)
    for galaxies in ((), (wide,)):
        spans = []
        for sky in drawn("filling", 24, monkeypatch, galaxies):
            frame = scipy.ndimage.gaussian_filter(sky, 1.0)[32:-32, 32:-32]
            lit = frame > 0.01 * frame.max()
            spans.append(max(np.ptp(np.nonzero(lit.any(axis=k))[0]) + 1 for k in (0, 1)) / 66)
        assert np.median(spans) > 0.8


def test_deep_fields_hold_many_small_sources():
    rng = np.random.default_rng(3)
    for galaxies in ([], [GALAXY]):
        sky = deep_field(rng, galaxies, 128)
        highest = scipy.ndimage.maximum_filter(sky, 3)
        peaks = (sky > 0) & (sky == highest)
        assert np.count_nonzero(peaks) >= 10


@pytest.mark.parametrize("place", [(0, 0), (4, 8), (2, 3), (4, 0)])
def test_what_falls_outside_is_cut(place):
    sky, image = np.zeros((5, 9)), 1.0 + np.arange(21.0).reshape(3, 7)
    add(sky, image, place)
    whole = np.zeros((25, 29))
    whole[10 + place[0] - 1 : 10 + place[0] + 2, 10 + place[1] - 3 : 10 + place[1] + 4] = image
    np.testing.assert_array_equal(sky, whole[10:15, 10:19])


def test_binning_keeps_the_light():
    image = np.arange(35.0).reshape(5, 7)
    np.testing.assert_array_equal(binned(image, 2), [[16, 24, 32], [72, 80, 88]])
    assert binned(image[:4, :6], 2).sum() == image[:4, :6].sum()


@pytest.mark.parametrize("upsample", [2, 3])
def test_a_scene_is_what_the_network_sees(upsample):
    """The frame, MARGIN fine pixels around it, and light from beyond."""
    data = SceneData(size=64, upsample=(upsample,), fwhm_pix=(2.0, 3.0), peak_snr=(400, 500))
    side = 64 // upsample * upsample
    for number in range(4):
        scene = Scenes(data).draw(number)
        assert scene.truth.shape == scene.inside.shape == scene.base.shape == (side + 2 * MARGIN,) * 2
        frame = np.pad(np.ones((side, side)), MARGIN)
        np.testing.assert_array_equal(scene.inside, frame)
        assert not scene.truth[frame == 0].any()


def test_light_comes_in_from_beyond_the_frame(monkeypatch):
    def one_outside(rng, galaxies, side, beyond):
        sky = np.zeros((side + 2 * beyond,) * 2, np.float32)
        sky[beyond - 3, beyond + side // 2] = 1.0
        return sky

    monkeypatch.setattr("deconjugate.astro.training_scenes.draw_sky", one_outside)
    data = SceneData(size=64, upsample=(2,), fwhm_pix=(3.0, 3.0), peak_snr=(400, 500))
    scene = Scenes(data).draw(0)
    assert BEYOND > MARGIN
    near = scene.base[MARGIN : MARGIN + 4, scene.base.shape[1] // 2 - 2 : scene.base.shape[1] // 2 + 3]
    assert near.max() > 5 * scene.noise
    assert np.median(np.abs(scene.base[MARGIN + 30 :])) < 2 * scene.noise
