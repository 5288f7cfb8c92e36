"""The wavelet dictionaries against their own dense matrices and PyWavelets, and the noise estimate against noise."""

import numpy as np
import pytest
import pywt

from deconjugate.operators import OrthogonalWavelet, Starlet, StationaryWavelet, dictionary, estimate_noise

SHAPE = (13, 17)
NAMES = ["haar", "db4", "sym5", "orthogonal-haar", "orthogonal-db4"]


def dense(operator):
    size = SHAPE[0] * SHAPE[1]
    return operator.apply(np.eye(size).reshape(size, *SHAPE)).reshape(size, -1).T


@pytest.mark.parametrize("name", NAMES)
def test_adjoint_and_reconstruction_are_the_transposed_matrix(name):
    operator = dictionary(name, SHAPE, 3)
    matrix = dense(operator)
    coefficients = np.random.default_rng(1).standard_normal((2, *operator.range_shape))
    expected = (coefficients.reshape(2, -1) @ matrix).reshape(2, *SHAPE)
    np.testing.assert_allclose(operator.adjoint(coefficients), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(operator.reconstruct(coefficients), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(SHAPE[0] * SHAPE[1]), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_noise_planes_are_exact(name):
    operator = dictionary(name, SHAPE, 3)
    noise_map = np.random.default_rng(2).uniform(0.5, 2.0, SHAPE)
    expected = (dense(operator) ** 2 @ noise_map.ravel() ** 2).reshape(operator.range_shape)
    np.testing.assert_allclose(operator.noise_planes(noise_map) ** 2, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5"])
def test_stationary_noise_std_is_the_norm_of_each_plane(name):
    operator = dictionary(name, SHAPE, 3)
    squares = dense(operator).reshape(10, -1, SHAPE[0] * SHAPE[1]) ** 2
    np.testing.assert_allclose(operator.noise_std(), np.sqrt(squares.sum(axis=(1, 2)) / squares.shape[2]), rtol=1e-9)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5"])
def test_stationary_redundancy_is_the_sum_of_squared_correlations(name):
    operator = dictionary(name, (97, 93), 3)
    point = np.zeros(operator.domain_shape)
    point[48, 46] = 1.0
    responses = operator.apply(point)
    size = [2 * n for n in responses.shape[1:]]
    correlation = np.fft.irfft2(np.abs(np.fft.rfft2(responses, size)) ** 2, size)
    correlation /= correlation[:, :1, :1]
    np.testing.assert_allclose(operator.redundancy(), (correlation**2).sum(axis=(1, 2)), rtol=1e-8)


def test_decimated_coefficients_are_independent():
    operator = dictionary("orthogonal-haar", (16, 24), 3)
    matrix = operator.apply(np.eye(384).reshape(384, 16, 24)).T
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(384), atol=1e-12)
    assert operator.redundancy().tolist() == [1.0] * 10


@pytest.mark.parametrize("name", ["orthogonal-haar", "orthogonal-db4"])
def test_orthogonal_noise_std_holds_inside(name):
    operator = dictionary(name, (120, 88), 2)
    noise = operator.noise_planes(np.ones((120, 88)))
    assert operator.noise_std().tolist() == [1.0] * 7
    assert np.median(noise) == pytest.approx(1.0, rel=1e-10)
    assert noise.max() < 1.0 + 1e-9


def test_stationary_planes_hold_the_energies_that_pywavelets_finds():
    image = np.zeros((64, 64))
    image[20:44, 20:44] = np.random.default_rng(3).standard_normal((24, 24))
    planes = StationaryWavelet((64, 64), 2, "db2").apply(image)
    coarse, *details = pywt.swt2(image, "db2", 2, norm=True, trim_approx=True)
    theirs = [*(band for scale in reversed(details) for band in scale), coarse]
    np.testing.assert_allclose([np.sum(p**2) for p in planes], [np.sum(p**2) for p in theirs], rtol=1e-10)


def test_orthogonal_coefficients_are_those_of_pywavelets():
    image = np.random.default_rng(4).standard_normal((40, 33))
    coarse, *details = pywt.wavedec2(image, "db2", mode="zero", level=2)
    theirs = np.concatenate([*(band.ravel() for scale in reversed(details) for band in scale), coarse.ravel()])
    np.testing.assert_allclose(OrthogonalWavelet((40, 33), 2, "db2").apply(image), theirs, rtol=0, atol=1e-13)


def test_nothing_wraps():
    image = np.zeros((40, 50))
    image[0, 0] = 1.0
    wavelet = StationaryWavelet((40, 50), 2, "db3")
    planes = wavelet.apply(image)
    planes[:, :20, :20] = 0.0
    np.testing.assert_allclose(planes, 0.0, atol=1e-13)


@pytest.mark.parametrize("name", ["starlet", *NAMES])
def test_support_keeps_the_coarse_plane_and_obeys_k_sigma(name):
    operator = dictionary(name, (48, 40), 3)
    image = np.random.default_rng(5).standard_normal((48, 40))
    std = operator.noise_std()
    coarse = np.broadcast_to(operator.expand(np.arange(std.size) == std.size - 1), operator.range_shape)
    strict = operator.multiresolution_support(image, 1.0, [50.0, 50.0, 50.0])
    np.testing.assert_array_equal(strict, coarse)
    loose = operator.multiresolution_support(image, 1.0, 2.0)
    assert 0.005 < loose[~coarse].mean() < 0.06  # 4.6 % of Gaussian coefficients, fewer where planes reach outside


def test_dictionary_goes_by_name():
    assert isinstance(dictionary("starlet", SHAPE, 2), Starlet)
    assert isinstance(dictionary("db4", SHAPE, 2), StationaryWavelet)
    assert isinstance(dictionary("orthogonal-db4", SHAPE, 2), OrthogonalWavelet)


@pytest.mark.parametrize("name", ["bior2.2", "dmey", "morl", "db99", "orthogonal-", None])
def test_refuses_wavelets_that_are_not_orthogonal(name):
    with pytest.raises(ValueError, match="give an orthogonal wavelet"):
        dictionary(name, SHAPE, 2)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_shapes_and_scales(name):
    with pytest.raises(ValueError, match="shape is"):
        dictionary(name, (5,), 1)
    with pytest.raises(ValueError, match="n_scales is 5"):
        dictionary(name, SHAPE, 5)
    noise_map = np.ones(SHAPE)
    noise_map[3, 4] = -1.0
    with pytest.raises(ValueError, match="noise_map has 1 values"):
        dictionary(name, SHAPE, 2).noise_planes(noise_map)


def galaxy(shape):
    y, x = np.indices(shape)
    return 200.0 * np.exp(-np.hypot(y - shape[0] / 2, x - shape[1] / 3) / 9.0)


@pytest.mark.parametrize("sigma", [0.01, 3.0])
def test_noise_of_white_noise_with_a_source_and_a_gradient(sigma):
    shape = (201, 333)
    rng = np.random.default_rng(6)
    image = galaxy(shape) * sigma + 1e3 + np.arange(333.0) * sigma + sigma * rng.standard_normal(shape)
    assert estimate_noise(image) == pytest.approx(sigma, rel=0.02)


def test_noise_leaves_out_bad_pixels_and_filler():
    rng = np.random.default_rng(7)
    image = 2.0 * rng.standard_normal((200, 300))
    clean = estimate_noise(image)
    mask = rng.random(image.shape) < 0.02
    image[mask] = 1e6
    image[5, 5:9] = np.nan
    image[:, 150:] = 0.0
    assert estimate_noise(image, mask=mask) == pytest.approx(2.0, rel=0.05)
    assert clean == pytest.approx(2.0, rel=0.02)


def test_noise_of_a_constant_is_zero():
    assert estimate_noise(np.full((30, 31), 1e5)) == 0.0
    assert estimate_noise(np.zeros((30, 31))) == 0.0


def test_noise_estimate_refuses():
    image = np.ones((30, 31))
    with pytest.raises(ValueError, match="image has shape"):
        estimate_noise(image[None])
    with pytest.raises(ValueError, match="mask has shape"):
        estimate_noise(image, mask=image[1:] > 0)
    with pytest.raises(ValueError, match="no 4 x 4 patch"):
        estimate_noise(image, mask=image > 0)
    with pytest.raises(ValueError, match="the wavelet needs 8 pixels"):
        estimate_noise(image[:6], wavelet="db4")
    with pytest.raises(ValueError, match="give an orthogonal wavelet"):
        estimate_noise(image, wavelet="bior2.2")
