import numpy as np
import pytest

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.metrics import nmse
from deconjugate.astro.points import BATCH, TOLERANCE, Points, Shape, Star, find_points, normal_equations, point_image
from deconjugate.astro.shape import fwhm_pix

PROFILE = PSF.moffat(3.0)
PLACES = np.array([[21.0, 30.3], [60.4, 25.7], [44.8, 80.2], [85.1, 101.5], [22.6, 119.9]])  # fine pixels, factor 2
FLUX = np.array([1.0, 0.7, 0.5, 0.4, 0.3])
SHAPE = (53, 71)


def star_field(snr, upsample=2, psf=PROFILE, places=PLACES, flux=FLUX, seed=1):
    """Stars between the pixels of the fine grid, noise of 1: the data, the truth, the places and the fluxes."""
    places = places * upsample / 2
    data, truth = 0.0, 0.0
    for place, f in zip(places, flux):
        sky = np.zeros([upsample * n for n in SHAPE])
        pixel = np.round(place).astype(int)
        sky[tuple(pixel)] = f
        one = simulate(sky, psf, upsample=upsample, peak_snr=1, shift=place - pixel)
        data, truth = data + one.noiseless, truth + one.truth
    scale = snr / data.max()
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    return (scale * data + noise).astype(np.float32), scale * truth, places, scale * flux


def proven(fits):
    """Those of the fitted peaks that are stars."""
    return Points(*(x[fits.proven] for x in fits.points))


def found_in(data, upsample=2, psf=PROFILE, weight=None):
    model = DataModel(SHAPE, psf.fine(upsample), upsample)
    weight = np.ones(SHAPE, np.float32) if weight is None else weight
    points = proven(find_points(model, data, weight, psf.fine(upsample)))
    order = np.argsort(-points.flux)
    corner = [s.start for s in model.inside]
    return np.stack(points[:2], axis=1)[order] - corner, points.flux[order]


def galaxy(width, snr, axis_ratio=1.0, seed=2):
    rows, columns = np.indices([2 * n for n in SHAPE])
    sky = np.exp(-0.5 * ((rows - 52.3) ** 2 + ((columns - 70.8) * axis_ratio) ** 2) / width**2)
    scene = simulate(sky, PROFILE, peak_snr=snr, seed=seed)
    return (scene.data / scene.noise_map).astype(np.float32), scene


@pytest.mark.parametrize("upsample", [2, 3, 4])
@pytest.mark.parametrize("snr", [100, 5000])
def test_stars_are_found_with_place_and_flux(snr, upsample):
    data, _truth, places, flux = star_field(snr, upsample)
    at, counts = found_in(data, upsample)
    assert len(at) == len(places)
    assert np.abs(at - places).max() < 10 * upsample / snr
    assert np.abs(counts - flux).max() < 4 * 4.3  # the sigma of PSF photometry at this width


def test_stars_are_found_on_the_native_grid():
    psf = PSF.moffat(4.0)
    data, _truth, places, flux = star_field(200, 1, psf)
    at, counts = found_in(data, 1, psf)
    assert np.abs(at - places).max() < 0.05
    np.testing.assert_allclose(counts, flux, rtol=0.05)


@pytest.mark.parametrize(
    ("width", "snr", "axis_ratio"), [(3.0, 20, 1.0), (1.5, 50, 1.0), (1.2, 200, 1.0), (2.5, 50, 3.0)]
)
def test_a_galaxy_is_no_point(width, snr, axis_ratio):
    data, scene = galaxy(width, snr, axis_ratio)
    assert len(found_in(data)[1]) == 0
    assert deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None).timings["stars"] > 0


def test_what_may_as_well_be_a_galaxy_is_no_point():
    data = star_field(8)[0]
    assert len(found_in(data)[1]) == 0


def test_a_close_pair_a_hot_pixel_and_a_hole_are_no_points():
    pair = star_field(200, places=np.array([[52.0, 70.0], [52.0, 74.0]]), flux=np.array([1.0, 0.7]))[0]
    assert len(found_in(pair)[1]) == 0
    noise = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    for value in (300.0, -300.0):
        frame = noise.copy()
        frame[20, 31] = value
        assert len(found_in(frame)[1]) == 0


def test_masked_pixels_carry_no_weight_and_a_masked_core_makes_no_point():
    data, _truth, places, flux = star_field(300)
    weight = np.ones(SHAPE, np.float32)
    weight[9:12, 14:17] = 0.0  # the core of the first
    weight[31, 13:19] = 0.0  # one row of the second
    data[weight == 0] = 1e6
    at, counts = found_in(np.where(weight > 0, data, 0).astype(np.float32), weight=weight)
    np.testing.assert_allclose(at, places[1:], atol=0.1)
    np.testing.assert_allclose(counts, flux[1:], rtol=0.05)


def test_a_star_outside_the_frame_is_not_put_inside():
    sky = np.zeros((140, 180))
    sky[30 - 5, 90] = 1.0
    scene = simulate(sky, PROFILE, sigma=1e-4, margin=15, seed=4)
    model = DataModel(scene.data.shape, scene.psf, 2)
    weight = scene.noise_map.astype(np.float32) ** -2
    assert not find_points(model, scene.data.astype(np.float32), weight, scene.psf).proven.any()


def test_more_stars_than_a_batch():
    psf = PSF.gaussian(2.2)
    side = 17
    rows, columns = np.indices((side, side)).reshape(2, -1) * 16 + 20.0
    model = DataModel((155, 155), psf.fine(2), 2)
    corner = model.inside[0].start
    truth = Points(rows + 0.3 + corner, columns - 0.2 + corner, np.full(side**2, 1000.0))
    data = model.apply(point_image(model, truth).astype(np.float32))[model.frame]
    data += np.random.default_rng(5).standard_normal(data.shape).astype(np.float32)
    points = proven(find_points(model, data, np.ones_like(data), psf.fine(2)))
    assert side**2 > BATCH
    assert len(points.flux) > 0.98 * side**2
    assert np.abs(points.flux / 1000 - 1).max() < 0.03


def test_templates_are_what_the_model_sees_and_their_derivatives():
    model = DataModel((41, 47), PROFILE.fine(2), 2)
    star = Star(model, 5)
    peak = np.array([[25, 27]])
    pixels = star.window(peak)

    def seen(row, column):
        return model.apply(point_image(model, Points(*np.array([[row], [column], [1.0]]))))[pixels][0]

    terms = star.templates(*pixels, np.array([[50.8, 53.9]]), 2)[0]
    top, h = terms[0].max(), 0.05
    np.testing.assert_allclose(terms[0], seen(50.8, 53.9), atol=2e-3 * top)
    slope = (star.templates(*pixels, np.array([[50.8 + h, 53.9]]), 2) - terms)[0] / h
    np.testing.assert_allclose(slope[0], terms[1] + 0.5 * h * terms[3], atol=1e-3 * top)
    slope = (star.templates(*pixels, np.array([[50.8, 53.9 + h]]), 2) - terms)[0] / h
    np.testing.assert_allclose(slope[0], terms[2] + 0.5 * h * terms[5], atol=1e-3 * top)
    np.testing.assert_allclose(slope[1], terms[4], atol=0.02 * top)


def test_points_keep_their_flux_and_wrap():
    model = DataModel((21, 33), PROFILE.fine(2), 2)
    image = point_image(model, Points(np.array([0.3, 40.0]), np.array([1.2, 50.7]), np.array([2.0, 3.0])))
    assert image.sum() == pytest.approx(5.0)
    assert fwhm_pix(image[30:51, 41:62]) == pytest.approx(2.0, abs=0.1)
    assert image[-2, -2] > 0


def test_a_singular_window_is_no_crash():
    terms = np.ones((1, 6, 5, 5))
    normal, _gradient = normal_equations(terms, np.ones((1, 5, 5)), np.zeros((1, 5, 5)))
    assert np.linalg.matrix_rank(normal[0] / normal.max(), tol=1e-13) == 6
    shape = Shape(terms, np.ones(1), np.ones((1, 5, 5)), np.zeros((1, 5, 5)), (6.5, 0.72))
    assert shape.is_point(TOLERANCE).shape == (1,)


@pytest.mark.parametrize("snr", [50, 5000])
def test_deconvolved_stars_are_sharp_and_right(snr):
    data, truth, places, flux = star_field(snr)
    result = deconvolve(data, PROFILE, noise=1.0, network=None)
    image = result.image.data
    assert np.abs(result.residual).max() < 5.0
    assert result.reduced_chi2 == pytest.approx(1.0, abs=0.06)
    assert nmse(image, truth) < (0.02 if snr == 50 else 1e-4)
    assert image.sum() == pytest.approx(truth.sum(), abs=40.0)
    for place, f in zip(places, flux):
        stamp = image[tuple(slice(round(x) - 9, round(x) + 10) for x in place)]
        assert fwhm_pix(stamp) == pytest.approx(2.0, abs=0.2)
        assert abs(stamp.sum() - f) < 4 * 4.3


def test_a_bright_star_does_not_harm_the_galaxy_beside_it():
    frame, scene = galaxy(4.0, 40)
    stars, _truth, _places, _flux = star_field(4000, places=np.array([[22.3, 30.1], [80.6, 110.2]]), flux=np.ones(2))
    alone = deconvolve(frame, PROFILE, noise=1.0, network=None).image.data
    noise = np.random.default_rng(1).standard_normal(SHAPE)
    both = deconvolve(frame + stars - noise, PROFILE, noise=1.0, network=None).image.data
    truth = scene.truth / scene.noise_map[0, 0]
    near = np.s_[36:70, 52:92]
    assert nmse(both[near], truth[near]) < 1.1 * nmse(alone[near], truth[near]) + 1e-3
    assert both.min() >= 0.0
