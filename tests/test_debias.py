import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.debias import FLUX_TOLERANCE, debias
from deconjugate.astro.forward import DataModel
from deconjugate.astro.sparse import FINE, gradient_noise, sparse_deconvolution, starlet_symbols
from deconjugate.astro.support import find_support, matched_filter, unit_noise
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.operators import Starlet, dictionary

SHAPE = (43, 52)


@pytest.fixture(scope="module")
def case():
    """Two galaxies of different brightness, in units of the noise."""
    rows, columns = np.indices((2 * SHAPE[0], 2 * SHAPE[1]))
    sky = np.exp(-np.hypot(rows - 40, (columns - 34) / 1.4) / 4.0) + 0.4 * np.exp(
        -np.hypot(rows - 50, columns - 78) / 3
    )
    scene = simulate(sky, PSF.moffat(3.0), peak_snr=50, seed=5)
    sigma = scene.noise_map[0, 0]
    model = DataModel(SHAPE, scene.psf, 2)
    data = (scene.data / sigma).astype(np.float32)
    weight = np.ones(SHAPE, np.float32)
    starlet = Starlet(SHAPE, 4)
    support = find_support(model, starlet, data, weight, scene.psf)
    return model, starlet, data, weight, support, (scene.truth / sigma).astype(np.float32), scene.psf


def padded(model, image):
    out = np.zeros(model.domain_shape, np.float32)
    out[model.inside] = image
    return out


def test_support_holds_both_sources_and_little_else(case):
    model, _starlet, data, weight, support, truth, psf = case
    assert support.sources.max() <= 2
    inside = model.crop(support.allowed)
    assert truth[~inside].sum() < 0.01 * truth.sum()
    assert inside.mean() < 0.7
    assert support.coefficients[-1].all()
    assert matched_filter(data, weight, psf, 2).max() > 100


def test_nothing_is_found_in_noise(case):
    model, starlet, _data, weight, _support, _truth, psf = case
    for seed in range(3):
        frame = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
        support = find_support(model, starlet, frame, weight, psf)
        assert not support.sources.any()
        assert not support.allowed.any()


def test_matched_filter_hasunit_noise_and_the_snr_of_a_star():
    psf = PSF.moffat(3.0).fine(2)
    frame = np.random.default_rng(0).standard_normal((64, 81))
    weight = np.full(frame.shape, 0.25)
    assert matched_filter(2.0 * frame, weight, psf, 2).std() == pytest.approx(1.0, abs=0.05)


def test_bad_pixels_make_no_source(case):
    model, starlet, _data, weight, _support, _truth, psf = case
    frame = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32) + 50.0
    holes = weight.copy()
    holes[10:16, 20:29] = 0.0
    assert not find_support(model, starlet, np.where(holes > 0, frame, 0.0), holes, psf).sources.any()


def test_flux_of_a_faint_start_is_restored(case):
    model, starlet, data, weight, support, truth, _psf = case
    start = padded(model, 0.9 * truth)
    result = debias(model, starlet, model.embed(data), model.embed(weight), start, support, maxiter=40)
    assert result.converged
    assert np.all(np.abs(result.source_residuals) <= FLUX_TOLERANCE)
    image = model.crop(result.image)
    assert abs(image.sum() / truth.sum() - 1) < 0.02
    assert np.sum((image - truth) ** 2) < np.sum((0.9 * truth - truth) ** 2)


def test_no_steps_leave_the_start_as_it_is(case):
    model, starlet, data, weight, support, truth, _psf = case
    start = padded(model, 0.9 * truth)
    result = debias(model, starlet, model.embed(data), model.embed(weight), start, support, maxiter=0)
    np.testing.assert_array_equal(result.image, start)
    assert not result.converged


def test_nothing_appears_where_nothing_is_allowed(case):
    model, starlet, data, weight, support, truth, _psf = case
    y = data.copy()
    y[2:5, 3:6] += 3.0
    start = padded(model, truth) * support.allowed
    result = debias(model, starlet, model.embed(y), model.embed(weight), start, support)
    assert not result.image[~support.allowed].any()
    assert result.image.min() >= 0.0


def test_a_perfect_start_is_left_alone(case):
    model, starlet, _data, weight, support, truth, _psf = case
    start = padded(model, truth)
    y = model.apply(start) * model.embed(weight)
    result = debias(model, starlet, y, model.embed(weight), start, support)
    assert result.iterations == 0
    assert result.converged
    np.testing.assert_array_equal(result.image, start)


def test_steps_are_not_taken_for_what_noise_leaves_by_chance(case):
    model, starlet, _data, weight, support, truth, _psf = case
    start, weight = padded(model, truth), model.embed(weight)
    clean = model.apply(start)
    steps = []
    for seed in range(12):
        noise = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
        y = (clean + model.embed(noise)) * (weight > 0)
        steps.append(debias(model, starlet, y, weight, start, support, flux_tolerance=np.inf).iterations)
    assert max(steps) <= 2  # 7 where every plane has to reach the mean of the noise


def test_correction_may_go_negative_without_positivity(case):
    model, starlet, data, weight, support, truth, _psf = case
    start = padded(model, truth)
    y, w = model.embed(-data), model.embed(weight)
    assert debias(model, starlet, y, w, start, support, positivity=False).image.min() < 0.0


@pytest.mark.parametrize("name", ["db2", "orthogonal-haar"])
def test_other_dictionaries_correct_and_guess_too(case, name):
    model, _starlet, data, weight, _support, truth, psf = case
    other = dictionary(name, SHAPE, 3)
    y, w = model.embed(data), model.embed(weight)
    found = find_support(model, other, data, weight, psf)
    start = sparse_deconvolution(model, y, w, tikhonov(model, y, w, 1.0), dictionary=name, n_scales=4)
    result = debias(model, other, y, w, np.where(found.allowed, start, 0.0).astype(np.float32), found)
    assert abs(model.crop(result.image).sum() / truth.sum() - 1) < 0.05


def test_sparse_image_beats_its_start_and_is_nowhere_negative(case):
    model, _starlet, data, weight, _support, truth, _psf = case
    y, w = model.embed(data), model.embed(weight)
    start = tikhonov(model, y, w, choose_regularization(model, y, w))
    image = model.crop(sparse_deconvolution(model, y, w, start))
    assert image.min() >= 0.0
    assert np.sum((image - truth) ** 2) < 0.5 * np.sum((model.crop(start) - truth) ** 2)


def test_splitting_reaches_the_minimum_of_the_l1_problem():
    """Optimality on a small periodic frame: no step of the primal-dual method changes the solution."""
    model = DataModel((16, 16), PSF.gaussian(2.0).fine(2, max_size=15), 2, margin=0)
    rng = np.random.default_rng(2)
    x = np.zeros(model.domain_shape)
    x[9, 12], x[20:24, 20:23] = 300.0, 40.0
    y = (model.apply(x) + rng.standard_normal(model.range_shape)).astype(np.float32)
    w = np.ones(model.range_shape, np.float32)
    start = tikhonov(model, y, w, 1.0)
    starlet = Starlet(model.domain_shape, 3)
    noise = gradient_noise(model, starlet_symbols(model.frequencies, 3))
    levels = 3.0 * np.maximum(noise, FINE * noise.max() * (np.arange(3) < noise.argmax()))

    def cost(image):
        planes = starlet.apply(image.astype(np.float64))[:-1]
        fit = 0.5 * np.sum((y - model.apply(image)) ** 2)
        return fit + np.sum(levels * np.abs(planes).sum(axis=(1, 2)))

    reached = cost(sparse_deconvolution(model, y, w, start, n_scales=3, maxiter=300))
    image, dual = np.maximum(start, 0.0).astype(np.float64), np.zeros(starlet.range_shape)
    bound = np.append(levels, 0.0)[:, None, None]
    for _ in range(1500):
        step = image - 0.2 * (model.adjoint(model.apply(image) - y) + starlet.adjoint(dual))
        step = np.maximum(step, 0.0)
        dual = np.clip(dual + 2.0 * starlet.apply(2.0 * step - image), -bound, bound)
        image = step
    assert reached < 1.01 * cost(image)


@pytest.mark.parametrize("shape", [(40, 210), (150, 61)])
def test_noise_of_a_large_frame_is_read_from_a_small_one(shape):
    starlet = Starlet(shape, 3)
    np.testing.assert_allclose(unit_noise(starlet), starlet.noise_planes(np.ones(shape)), rtol=1e-12)
