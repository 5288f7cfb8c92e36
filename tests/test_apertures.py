import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.apertures import PRECISION, SHARE, Apertures, close_fluxes
from deconjugate.astro.forward import DataModel

SHAPE = (41, 57)
ROWS, COLUMNS = np.indices(SHAPE)


def gaussian(row, column, std):
    return np.exp(-0.5 * ((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / std**2)


@pytest.fixture
def two():
    """The light of two sources, numbered pixels, and noise that is uneven."""
    light = gaussian(19.3, 15.0, 2.5) + 0.2 * gaussian(22.0, 42.7, 1.8)
    sources = np.where(light > 0.05, np.where(COLUMNS < 30, 1, 2), 0)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, SHAPE)
    return light, sources, weight


@pytest.fixture(scope="module")
def scene():
    """Two galaxies in units of the noise, with a start that is too faint and too wide."""
    rows, columns = np.indices((2 * SHAPE[0], 2 * SHAPE[1]))
    sky = np.exp(-np.hypot(rows - 40, columns - 34) / 4.0) + 0.4 * np.exp(-np.hypot(rows - 50, columns - 84) / 3.0)
    view = simulate(sky, PSF.moffat(3.0), peak_snr=50, seed=5)
    model = DataModel(SHAPE, view.psf, 2)
    sigma = float(view.noise_map[0, 0])
    start = np.zeros(model.domain_shape, np.float32)
    start[model.inside] = 0.8 * view.truth / sigma
    start = (0.5 * start + 0.5 * np.roll(start, (3, -2), (0, 1))).astype(np.float32)
    sources = np.where(view.noiseless > 2 * sigma, np.where(COLUMNS < 29, 1, 2), 0)
    return model, (view.data / sigma).astype(np.float32), start, sources


def test_circle_holds_its_share_of_a_gaussian():
    light = gaussian(19.0, 28.0, 3.0)
    circle = Apertures(light, (light > 0.3).astype(int), np.ones(SHAPE)).shape > 0
    distance = np.hypot(ROWS - 19, COLUMNS - 28)
    radius = 3.0 * np.sqrt(-2.0 * np.log(1.0 - SHARE))
    assert circle[distance < radius - 0.5].all()
    assert not circle[distance > radius + 0.5].any()


def test_every_pixel_is_in_one_aperture_at_most(two):
    light, sources, weight = two
    apertures = Apertures(light, sources, weight)
    for number in (1, 2):
        alone = apertures.spread(np.arange(1, 3) == number) > 0
        assert set(np.unique(sources[alone])) <= {0, number}
        assert light[alone].sum() > 0.9 * light[sources == number].sum()


def test_spread_is_the_adjoint_of_measure(two):
    apertures = Apertures(*two)
    rng = np.random.default_rng(1)
    native, fluxes = rng.standard_normal(SHAPE), rng.standard_normal(2)
    assert np.vdot(apertures.measure(native), fluxes) == pytest.approx(np.vdot(native, apertures.spread(fluxes)))


def test_fluxes_are_in_sigmas(two):
    light, sources, weight = two
    apertures = Apertures(light, sources, weight)
    rng = np.random.default_rng(2)
    drawn = [apertures.measure(rng.standard_normal(SHAPE) / np.sqrt(weight)) for _ in range(2000)]
    np.testing.assert_allclose(np.std(drawn, axis=0), 1.0, atol=0.05)


@pytest.mark.parametrize("bad", [0.0, 1e-8])
def test_pixels_that_are_bad_or_next_to_it_do_not_count(two, bad):
    light, sources, weight = two
    weight = np.where((ROWS == 20) & (COLUMNS > 13) & (COLUMNS < 16), bad, weight)
    shape = Apertures(light, sources, weight).shape
    assert shape[20, 14:16].max() < 1e-6 * shape.max()


def test_even_pixels_count_alike(two):
    light, sources, _weight = two
    shape = Apertures(light, sources, np.full(SHAPE, 4.0)).shape
    for number in (1, 2):
        values = shape[(sources == number) & (shape > 0)]
        np.testing.assert_allclose(values, values[0])


def test_a_dark_source_takes_no_part(two):
    light, sources, weight = two
    apertures = Apertures(np.where(sources == 2, -1.0, light * (COLUMNS < 29)), sources, weight)
    assert np.isfinite(apertures.shape).all()
    assert apertures.measure(np.ones(SHAPE))[1] == 0.0


def test_fluxes_are_closed_without_negative_light(scene):
    model, data, start, sources = scene
    weight = model.embed(np.ones(SHAPE, np.float32))
    metric = np.where(start > 0, start + 0.1, 0.0).astype(np.float32)
    image, fluxes, fitted = close_fluxes(model, model.embed(data), weight, start, metric, sources, 0.0)
    before = Apertures(model.apply(start)[model.frame], sources, np.ones(SHAPE))
    missing, there = (
        before.measure(a[model.frame]) for a in (model.embed(data) - model.apply(start), model.apply(start))
    )
    assert np.all(missing > 5.0)
    np.testing.assert_allclose(fluxes, missing / (1.0 + (PRECISION * there) ** 2), atol=0.1)
    assert image.min() >= 0.0
    assert not image[metric == 0.0].any()
    np.testing.assert_allclose(fitted, model.apply(image))


def test_change_is_that_of_a_dense_solve(scene):
    model, data, start, sources = scene
    weight = model.embed(np.ones(SHAPE, np.float32))
    metric = (start + 1.0).astype(np.float32)
    image, _, _ = close_fluxes(model, model.embed(data), weight, start, metric, sources)
    fitted = model.apply(start)
    apertures = Apertures(fitted[model.frame], sources, np.ones(SHAPE))
    rows = [model.adjoint(model.embed(apertures.spread(e).astype(np.float32))).astype(float) for e in np.eye(2)]
    normal = [[np.vdot(a, metric * b) for b in rows] for a in rows]
    gain = 1.0 / (1.0 + (PRECISION * apertures.measure(fitted[model.frame])) ** -2.0)
    c = np.linalg.solve(normal, gain * apertures.measure((model.embed(data) - fitted)[model.frame]))
    change = metric * (c[0] * rows[0] + c[1] * rows[1])
    assert np.linalg.norm(image - start - change) < 1e-3 * np.linalg.norm(change)


def test_a_flux_that_the_data_hardly_know_hardly_moves(scene):
    model, data, start, sources = scene
    y, weight = model.embed(data), model.embed(np.full(SHAPE, 1e-6, np.float32))
    image, _, _ = close_fluxes(model, y, weight, start, start, sources, 0.0)
    assert np.linalg.norm(image - start) < 0.02 * np.linalg.norm(start)


def test_without_sources_nothing_changes(scene):
    model, data, start, sources = scene
    weight = model.embed(np.ones(SHAPE, np.float32))
    image, fluxes, _ = close_fluxes(model, model.embed(data), weight, start, start, np.zeros_like(sources), 0.0)
    assert image is start
    assert fluxes.size == 0
