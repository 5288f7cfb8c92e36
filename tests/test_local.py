"""Step 1 piece by piece: lambda is that of the piece, and the blend leaves no seam."""

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.local import OVERLAP, PIECE, RUNG, STEP_1, WHOLE, LocalTikhonov
from deconjugate.astro.tikhonov import choose_regularization, tikhonov

PROFILE = PSF.moffat(3.0)
PSF_2 = PROFILE.fine(2, max_size=61)
SHAPE = (100, 310)


def exponential(shape, places, scale=5.0):
    rows, columns = np.indices([2 * n for n in shape])
    return sum(np.exp(-np.hypot(rows - 2 * r, (columns - 2 * c) / 1.5) / scale) for r, c in places)


@pytest.fixture(scope="module")
def model():
    return DataModel(SHAPE, PSF_2, 2)


@pytest.fixture(scope="module")
def data():
    """Galaxies all over a frame of several pieces, in units of the noise."""
    sky = exponential(SHAPE, [(30, 40), (70, 120), (40, 200), (60, 270)])
    scene = simulate(sky, PSF_2, peak_snr=60, seed=1)
    return (scene.data / scene.noise_map).astype(np.float32)


def local(model, data, weight=None, **options):
    weight = np.ones(SHAPE, np.float32) if weight is None else weight
    given = np.where(weight > 0, data, np.float32(0.0))
    return LocalTikhonov(model, model.embed(given), model.embed(weight), PSF_2, **options)


@pytest.fixture(scope="module")
def plain(model, data):
    return local(model, data)


def test_a_large_frame_has_pieces_and_their_lambdas_are_rungs(plain):
    assert len(plain.places) >= 3
    assert all(s.stop - s.start <= PIECE // 2 for place in plain.places for s in place)
    rungs = 2.0 * np.log(plain.lambdas) / np.log(RUNG)
    np.testing.assert_allclose(rungs, np.round(rungs), atol=1e-9)
    assert plain.regularization == np.median(plain.lambdas)


@pytest.mark.parametrize("height", [1e3, 1e6])
def test_lambda_does_not_know_of_a_bright_source_in_another_piece(model, data, plain, height):
    bright = data.copy()
    # Sharper than any PSF, inside the first piece and outside the overlap.
    bright[50, 30:34] += np.float32(height)
    here = [place[1].start <= 30 < place[1].stop for place in plain.places]
    assert sum(here) == 1
    with_source = local(model, bright)
    for inside, before, after in zip(here, plain.lambdas, with_source.lambdas):
        assert (after < before) if inside else (after == before)


def test_a_hole_in_a_bright_star_leaves_lambda_elsewhere(model, data, plain):
    rows, columns = np.indices(SHAPE)
    star = 1e5 * (1.0 + ((rows - 50.2) ** 2 + (columns - 30.3) ** 2) / 8.0) ** -3.0
    weight = np.where(star > 3e4, 0.0, 1.0).astype(np.float32)
    found = local(model, (data + np.where(star > 0.1, star, 0.0)).astype(np.float32), weight)
    assert found.lambdas[1:] == plain.lambdas[1:]


def test_a_piece_without_data_takes_the_smoothest(model, data, plain):
    weight = np.ones(SHAPE, np.float32)
    last = plain.places[-1]
    weight[last] = 0.0
    found = local(model, data, weight)
    assert found.lambdas[-1] == max(found.lambdas[:-1])
    assert np.isfinite(found.balanced()).all()


def test_a_lambda_that_is_given_is_taken_everywhere(model, data):
    found = local(model, data, regularization=0.3)
    assert found.lambdas == [0.3] * len(found.places)
    np.testing.assert_allclose(found.balanced(), found.image(0.3), atol=1e-4 * np.abs(found.image(0.3)).max())


@pytest.mark.parametrize("shape", [SHAPE, (211, 205), (400, 60)])
def test_windows_sum_to_one_on_the_padded_grid(shape):
    model = DataModel(shape, PSF_2, 2)
    ones = model.embed(np.ones(shape, np.float32))
    found = LocalTikhonov(model, ones, ones, PSF_2, 1.0)
    total, overlap = np.zeros(model.domain_shape), 0
    for place in found.places:
        target, window = found.window(place)
        assert window.shape == total[target].shape
        assert window.min() >= 0.0
        total[target] += window
        overlap = max(overlap, np.count_nonzero((window > 0) & (window < 1)))
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert (overlap > 0) == (len(found.places) > 1)


@pytest.mark.parametrize("regularization", ["auto", 0.7])
def test_a_single_piece_takes_lambda_as_it_is(regularization):
    shape = (90, int(WHOLE * PIECE // 2))
    scene = simulate(exponential(shape, [(40, 70)]), PSF_2, peak_snr=60, seed=2)
    model = DataModel(shape, PSF_2, 2)
    y = model.embed((scene.data / scene.noise_map).astype(np.float32))
    w = model.embed(np.ones(shape, np.float32))
    found = LocalTikhonov(model, y, w, PSF_2, regularization)
    expected = choose_regularization(model, y, w) if regularization == "auto" else 0.7
    assert found.lambdas == [expected]
    assert found.regularization == expected
    np.testing.assert_array_equal(found.balanced(), tikhonov(model, y, w, expected, rtol=STEP_1))
    assert found.window(found.places[0])[1].min() == 1.0
    assert found.image(expected) is found.image(expected)


def test_the_image_of_pieces_is_that_of_the_whole(model, data, plain):
    lam = plain.lambdas[0]
    y, w = model.embed(data), model.embed(np.ones(SHAPE, np.float32))
    whole, pieces = (model.crop(x) for x in (tikhonov(model, y, w, lam, rtol=1e-5), plain.image(lam)))
    assert np.linalg.norm(whole - pieces) < 0.02 * np.linalg.norm(whole)
    assert pieces.sum() == pytest.approx(whole.sum(), rel=0.01)
    assert np.abs(model.apply(plain.image(lam))[model.frame] - data).std() == pytest.approx(
        np.abs(model.apply(tikhonov(model, y, w, lam, rtol=1e-5))[model.frame] - data).std(), rel=0.02
    )


def test_no_seam_shows_between_pieces_of_one_sky(model):
    """Pure noise: what the blend has at the seams is what it has elsewhere."""
    noise = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    found = local(model, noise)
    image = model.crop(found.balanced())
    seams = np.zeros(image.shape[1], bool)
    for place in found.places[1:]:
        seams[2 * place[1].start : 2 * place[1].start + OVERLAP] = True
    assert image[:, seams].std() == pytest.approx(image[:, ~seams].std(), rel=0.5)
