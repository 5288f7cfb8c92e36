"""Stars behind saturated cores: flux and place from their wings; cores that are none; trails; edges."""

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.explained import SATURATED, take_stars, without_defects
from deconjugate.astro.forward import DataModel
from deconjugate.astro.points import Points, point_image
from deconjugate.astro.saturated_stars import fit_saturated

SHAPE, PROFILE = (61, 74), PSF.moffat(3.5)
PSF_2 = PROFILE.fine(2)
PEAK = 10000.0


def star(place, peak=PEAK, psf=PSF_2, upsample=2, given=PSF_2):
    """A star without noise at (row, column) in native pixels, its flux, and the model for the PSF that is given."""
    made, model = DataModel(SHAPE, psf, upsample), DataModel(SHAPE, given, upsample)
    at = [upsample * (x + s.start) + 0.5 * (upsample - 1) for x, s in zip(place, made.frame)]
    image = point_image(made, Points(*np.array([[at[0]], [at[1]], [1.0]]))).astype(np.float32)
    seen = made.apply(image)[made.frame].astype(np.float64)
    middle = DataModel((81, 81), psf, upsample)  # for a star beyond the frame
    corner = upsample * (40 + middle.frame[0].start) + 0.5 * (upsample - 1)
    whole = middle.apply(point_image(middle, Points(*np.array([[corner], [corner], [1.0]]))).astype(np.float32))
    flux = peak / float(whole.max())
    return flux * seen, flux, model


def clipped(image, level, seed=1):
    """Data with noise of 1, clipped, and where they are."""
    data = image + np.random.default_rng(seed).standard_normal(image.shape)
    core = data >= level
    return np.where(core, level, data).astype(np.float32), core


def fitted(model, data, core, psf=PSF_2, known=True):
    weight = np.where(core, 0.0, 1.0).astype(np.float32)
    return fit_saturated(model, model.embed(data), model.embed(weight), core, psf, core if known else None)


def check(points, model, flux, place, upsample=2, share=0.03, off=0.1):
    assert len(points.flux) == 1
    assert points.flux[0] == pytest.approx(flux, rel=share)
    for x, expected, s in zip(points[:2], place, model.frame):
        assert (x[0] - 0.5 * (upsample - 1)) / upsample - s.start == pytest.approx(expected, abs=off)


@pytest.mark.parametrize("clip", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("place", [(30.0, 36.0), (30.3, 36.46), (29.5, 35.5)])
@pytest.mark.parametrize("peak", [1000.0, 1e4, 1e6])
def test_flux_and_place_come_from_the_wings(clip, place, peak):
    image, flux, model = star(place, peak)
    data, core = clipped(image, clip * image.max())
    points, seen, _variance, refuted = fitted(model, data, core)
    check(points, model, flux, place)
    assert np.abs(seen[model.frame] - image).max() < 0.03 * peak
    assert not refuted.any()


@pytest.mark.parametrize("upsample", [1, 3])
def test_on_other_grids(upsample):
    psf = PROFILE.fine(upsample)
    image, flux, model = star((30.3, 36.46), psf=psf, upsample=upsample, given=psf)
    data, core = clipped(image, 0.4 * PEAK)
    check(fitted(model, data, core, psf)[0], model, flux, (30.3, 36.46), upsample)


@pytest.mark.parametrize(("peak", "clip"), [(1000.0, 0.5), (1e4, 0.1), (1e4, 0.3), (1e4, 0.6), (1e6, 0.2), (1e6, 0.7)])
def test_a_core_that_is_found_is_confirmed_by_its_wings(peak, clip):
    image, flux, model = star((30.3, 36.46), peak)
    data, _core = clipped(image, clip * peak)
    weight, rejected = without_defects(model, PSF_2, data, np.ones(SHAPE, np.float32))
    stars = take_stars(model, PSF_2, model.embed(data), model.embed(weight), rejected == SATURATED)
    assert not stars.refuted.any()
    assert stars.image.sum() == pytest.approx(flux, rel=0.03)
    beside = np.hypot(*(np.indices(SHAPE) - np.array([30.3, 36.46])[:, None, None])) < 12
    left = (stars.data * np.sqrt(stars.weight))[model.frame][beside & (weight > 0)]
    assert np.sqrt(np.mean(left**2)) < 1.2


def test_a_core_too_faint_to_be_judged_is_not_refuted():
    image, _flux, model = star((30.3, 36.46), 1000.0)
    data, core = clipped(image, 100.0)
    core = np.hypot(*(np.indices(SHAPE) - np.array([30.3, 36.46])[:, None, None])) < 6.0  # with the rim, as it is found
    points, _seen, _variance, refuted = fitted(model, data, core, known=False)
    assert not len(points.flux)
    assert not refuted.any()


@pytest.mark.parametrize("height", [300.0, 3000.0, 30000.0])
@pytest.mark.parametrize("kind", ["gaussian", "exponential", "elongated"])
def test_the_flat_core_of_a_galaxy_is_refuted(height, kind):
    rows, columns = np.indices([2 * n for n in SHAPE]) - np.array([60.0, 74.0])[:, None, None]
    sky = {
        "gaussian": np.exp(-0.5 * (rows**2 + columns**2) / 8.0**2),
        "exponential": np.exp(-np.hypot(rows, columns / 1.5) / 5.0),
        "elongated": np.exp(-0.5 * (rows**2 / 4.0**2 + columns**2 / 12.0**2)),
    }[kind]
    scene = simulate(sky, PROFILE, peak_snr=height, seed=1)
    data = scene.data / scene.noise_map
    core = data > 0.6 * data.max()
    data = np.where(core, 0.6 * data.max(), data).astype(np.float32)
    model = DataModel(SHAPE, PSF_2, 2)
    points, seen, _variance, refuted = fitted(model, data, core, known=False)
    assert not len(points.flux)
    assert not seen.any()
    np.testing.assert_array_equal(refuted, core)
    weight = np.where(core, 0.0, 1.0).astype(np.float32)
    stars = take_stars(model, PSF_2, model.embed(data), model.embed(weight), core)
    np.testing.assert_array_equal(stars.refuted, core)


def test_a_galaxy_behind_a_known_core_stays_masked():
    rows, columns = np.indices([2 * n for n in SHAPE]) - np.array([60.0, 74.0])[:, None, None]
    scene = simulate(np.exp(-0.5 * (rows**2 + columns**2) / 8.0**2), PROFILE, peak_snr=3000, seed=1)
    data = (scene.data / scene.noise_map).astype(np.float32)
    core = data > 0.6 * data.max()
    assert not fitted(DataModel(SHAPE, PSF_2, 2), data, core)[3].any()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("clip", [0.2, 0.5])
@pytest.mark.parametrize(("width", "length"), [(1, 10), (1, 25), (3, 25), (2, 40)])
def test_a_bleed_trail_moves_nothing(width, length, clip, known):
    place = (30.3, 36.2)
    image, flux, model = star(place)
    data, core = clipped(image, clip * PEAK)
    trail = np.s_[max(30 - length, 0) : 30 + length, 36 - width // 2 : 36 - width // 2 + width]
    data[trail], core[trail] = clip * PEAK, True
    points, _seen, _variance, refuted = fitted(model, data, core, known=known)
    check(points, model, flux, place)
    assert not refuted.any()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("clip", [0.3, 0.6])
@pytest.mark.parametrize("place", [(5.1, 36.3), (1.0, 36.3), (-1.0, 36.3), (30.2, 72.6), (1.2, 1.4)])
def test_a_star_at_an_edge(place, clip, known):
    image, flux, model = star(place)
    data, core = clipped(image, clip * PEAK)
    assert core.any()
    points, _seen, _variance, refuted = fitted(model, data, core, known=known)
    check(points, model, flux, place)
    assert not refuted.any()


def test_two_stars_and_a_masked_area_without_light():
    first, flux, model = star((20.2, 22.4))
    second, _flux, _ = star((41.7, 50.1), 0.3 * PEAK)
    data, core = clipped(first + second, 0.2 * PEAK)
    weight = np.where(core, 0.0, 1.0).astype(np.float32)
    weight[50:56, 5:12] = 0.0
    points = fit_saturated(model, model.embed(data), model.embed(weight), core, PSF_2, core)[0]
    np.testing.assert_allclose(points.flux, [flux, 0.3 * flux], rtol=0.03)


def test_the_error_of_the_psf_is_told_ring_by_ring():
    place = (30.3, 36.2)
    image, flux, model = star(place, psf=PSF.moffat(3.5, beta=2.6).fine(2))  # and fitted with a beta of 3
    data, core = clipped(image, 0.3 * PEAK)
    points, seen, variance, _refuted = fitted(model, data, core)
    check(points, model, flux, place, share=0.15)
    good = ~core & (image > 50.0)
    left = ((data - seen[model.frame]) / np.sqrt(1.0 + variance[model.frame]))[good]
    raw = (data - seen[model.frame])[good]
    assert np.sqrt(np.mean(raw**2)) > 5.0
    assert 0.5 < np.sqrt(np.mean(left**2)) < 1.5
    exact = fitted(star(place)[2], *clipped(star(place)[0], 0.3 * PEAK))[2]
    assert np.sqrt(exact[model.frame][good].max()) < 3.0


def test_where_there_is_no_core_there_is_no_star():
    image, _flux, model = star((30.3, 36.2))
    data, none = clipped(image, 2 * PEAK)
    points, seen, variance, refuted = fitted(model, data, none)
    assert not len(points.flux)
    for array in (seen, variance, refuted):
        assert not array.any()
