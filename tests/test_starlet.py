"""The starlet against its definition written with scipy.ndimage, and against its own dense matrix."""

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.operators import Starlet

SHAPE, N_SCALES = (19, 27), 4  # the largest taps lie 8 pixels apart: their mirror images fold more than once


def reference(image, n_scales):
    planes, smooth = [], image.astype(np.float64)
    for j in range(n_scales):
        taps = np.zeros(4 * 2**j + 1)
        taps[:: 2**j] = np.array([1, 4, 6, 4, 1]) / 16
        smoother = scipy.ndimage.convolve1d(smooth, taps, axis=0, mode="reflect")
        smoother = scipy.ndimage.convolve1d(smoother, taps, axis=1, mode="reflect")
        planes.append(smooth - smoother)
        smooth = smoother
    return np.array([*planes, smooth])


@pytest.fixture(scope="module")
def matrix():
    """W as a dense matrix (planes, pixels out, pixels in)."""
    size = SHAPE[0] * SHAPE[1]
    columns = Starlet(SHAPE, N_SCALES).apply(np.eye(size).reshape(size, *SHAPE))
    return np.moveaxis(columns.reshape(size, N_SCALES + 1, size), 0, 2)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-14), (np.float32, 2e-6)])
@pytest.mark.parametrize(("shape", "n_scales"), [(SHAPE, N_SCALES), ((5, 4), 2), ((130, 301), 5), ((333, 259), 1)])
def test_equals_its_definition(shape, n_scales, dtype, atol):
    image = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    planes = Starlet(shape, n_scales).apply(image)
    assert planes.dtype == dtype
    np.testing.assert_allclose(planes, reference(image, n_scales), rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-14), (np.float32, 2e-6)])
def test_the_sum_of_the_planes_is_the_image(dtype, atol):
    images = np.random.default_rng(2).standard_normal((3, 37, 53)).astype(dtype)
    starlet = Starlet((37, 53), 5)
    np.testing.assert_allclose(starlet.reconstruct(starlet.apply(images)), images, rtol=0, atol=atol)


def test_adjoint_is_the_transposed_matrix(matrix):
    size = matrix.shape[2]
    planes = np.eye((N_SCALES + 1) * size).reshape(-1, N_SCALES + 1, *SHAPE)
    transposed = Starlet(SHAPE, N_SCALES).adjoint(planes).reshape(-1, size)
    np.testing.assert_allclose(transposed, matrix.reshape(-1, size), rtol=0, atol=1e-15)


def test_a_constant_lies_in_the_coarse_plane_alone():
    planes = Starlet((21, 33), 4).apply(np.full((21, 33), 7.0))
    np.testing.assert_allclose(planes[:-1], 0.0, atol=1e-13)
    np.testing.assert_allclose(planes[-1], 7.0, rtol=1e-14)


def test_noise_std_is_the_norm_of_the_transform(matrix):
    expected = np.sqrt((matrix**2).sum(axis=(1, 2)) / matrix.shape[2])
    np.testing.assert_allclose(Starlet(SHAPE, N_SCALES).noise_std(), expected, rtol=1e-12)


def test_redundancy_is_what_the_energy_of_noise_in_a_plane_scatters_by(matrix):
    covariance = matrix @ matrix.transpose(0, 2, 1)
    variance = 2.0 * (covariance**2).sum(axis=(1, 2))  # of || w_j ||^2
    starlet = Starlet(SHAPE, N_SCALES)
    expected = variance / (2.0 * matrix.shape[2] * starlet.noise_std() ** 4)
    np.testing.assert_allclose(starlet.redundancy(), expected, rtol=1e-10)


def test_noise_std_of_a_large_image_is_the_published_one():
    # Starck & Murtagh, Astronomical Image and Data Analysis (2006), table of sigma_j for the B3 a trous transform.
    std = Starlet((2048, 2048), 5).noise_std()
    np.testing.assert_allclose(std[:-1], [0.889, 0.200, 0.086, 0.041, 0.020], rtol=0.03)


def test_noise_planes_are_exact_up_to_the_edges(matrix):
    noise_map = np.random.default_rng(3).uniform(0.2, 3.0, SHAPE)
    expected = np.sqrt(matrix**2 @ noise_map.ravel() ** 2).reshape(-1, *SHAPE)
    np.testing.assert_allclose(Starlet(SHAPE, N_SCALES).noise_planes(noise_map), expected, rtol=1e-10)


def test_noise_planes_agree_with_noise():
    starlet = Starlet((24, 20), 3)
    noise_map = np.linspace(1.0, 4.0, 24)[:, None] * np.ones(20)
    noise = noise_map * np.random.default_rng(4).standard_normal((4000, 24, 20))
    np.testing.assert_allclose(starlet.noise_planes(noise_map), starlet.apply(noise).std(axis=0), rtol=0.08)


def test_support_holds_the_source_and_little_noise():
    rng = np.random.default_rng(5)
    starlet = Starlet((64, 96), 4)
    y, x = np.mgrid[:64, :96]
    image = 30.0 * np.exp(-((y - 20) ** 2 + (x - 70) ** 2) / 18.0) + rng.standard_normal((64, 96))
    support = starlet.multiresolution_support(image, 1.0, 4.0)
    assert support.dtype == bool
    assert support[-1].all()
    assert support[2, 20, 70]
    far = np.hypot(y - 20, x - 70) > 45
    assert support[:-1, far].mean() < 1e-3
    np.testing.assert_array_equal(support, starlet.multiresolution_support(starlet.apply(image), 1.0, [4.0] * 4))


def test_support_takes_a_noise_map_and_stds_of_the_planes():
    starlet = Starlet((32, 48), 3)
    planes = starlet.apply(np.random.default_rng(6).standard_normal((32, 48)))
    noise_map = np.random.default_rng(7).uniform(0.5, 2.0, (32, 48))
    by_map = starlet.multiresolution_support(planes, noise_map, [2.0, 1.5, 1.0])
    by_planes = starlet.multiresolution_support(planes, starlet.noise_planes(noise_map), [2.0, 1.5, 1.0])
    np.testing.assert_array_equal(by_map, by_planes)
    np.testing.assert_array_equal(
        starlet.multiresolution_support(planes, 1.5), starlet.multiresolution_support(planes, 1.5 * starlet.noise_std())
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_scales", [1, 2, 5])
def test_given_output_arrays_are_filled(dtype, n_scales):
    starlet = Starlet((40, 33), n_scales)
    images = np.random.default_rng(8).standard_normal((2, 40, 33)).astype(dtype)
    planes = np.empty((2, *starlet.range_shape), dtype)
    assert starlet.apply_to(images, planes) is planes
    np.testing.assert_array_equal(planes, starlet.apply(images))
    back = np.empty_like(images)
    assert starlet.adjoint_to(planes, back) is back
    np.testing.assert_array_equal(back, starlet.adjoint(planes))


def test_nan_stays_near_its_pixel():
    image = np.zeros((64, 64))
    image[10, 12] = np.nan
    assert np.isfinite(Starlet((64, 64), 2).apply(image)[:, 20:, 20:]).all()


def test_a_batch_on_several_threads_gives_what_one_image_gives():
    image = np.random.default_rng(9).standard_normal((520, 260)).astype(np.float32)
    starlet = Starlet((520, 260), 4)
    np.testing.assert_array_equal(starlet.apply(np.stack([image] * 3)), np.stack([starlet.apply(image)] * 3))


@pytest.mark.parametrize(
    ("shape", "n_scales", "message"),
    [
        ((32,), 2, "shape is"),
        ((1, 32), 1, "at least 2 x 2"),
        ((32.5, 32), 2, "shape is"),
        ((32, 32), 0, "n_scales is 0; .* from 1 to 5"),
        ((32, 70), 6, "n_scales is 6; .* from 1 to 5"),
        ((32, 70), 2.5, "n_scales is 2.5"),
    ],
)
def test_refuses_what_does_not_fit(shape, n_scales, message):
    with pytest.raises(ValueError, match=message):
        Starlet(shape, n_scales)


def test_refuses_wrong_arrays():
    starlet = Starlet((16, 24), 2)
    image, planes = np.zeros((16, 24)), np.zeros((3, 16, 24))
    with pytest.raises(ValueError, match="planes has shape"):
        starlet.reconstruct(image)
    with pytest.raises(ValueError, match="data has shape"):
        starlet.multiresolution_support(np.zeros((2, 16, 24)), 1.0)
    with pytest.raises(ValueError, match="sigma has shape"):
        starlet.multiresolution_support(image, np.ones(5))
    with pytest.raises(ValueError, match="sigma has values"):
        starlet.multiresolution_support(image, -1.0)
    with pytest.raises(ValueError, match="k_sigma is"):
        starlet.multiresolution_support(image, 1.0, 0.0)
    with pytest.raises(ValueError, match="k_sigma is"):
        starlet.multiresolution_support(image, 1.0, [3.0, 3.0, 3.0])
    with pytest.raises(ValueError, match="noise_map has shape"):
        starlet.noise_planes(np.ones((24, 16)))
    with pytest.raises(ValueError, match="noise_map has 2 values"):
        starlet.noise_planes(np.r_[np.nan, -1.0, np.ones(382)].reshape(16, 24))
    with pytest.raises(ValueError, match="out is"):
        starlet.apply_to(image, planes.astype(np.float32))
    with pytest.raises(ValueError, match="out is"):
        starlet.adjoint_to(planes, np.zeros((2, 16, 24)))
    with pytest.raises(ValueError, match="x must be a C-contiguous"):
        starlet.apply_to(np.zeros((24, 16)).T, planes)
    with pytest.raises(ValueError, match="y has shape"):
        starlet.adjoint_to(image, image)
