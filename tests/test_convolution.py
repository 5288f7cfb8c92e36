import numpy as np
import pytest
import scipy.signal

from deconjugate.operators import Binning, Convolution, dot_test, psf_to_otf

SHAPE = (37, 31)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize("kernel_shape", [(5, 7), (6, 4), (1, 1), (45, 9)])
def test_zero_boundary_is_the_linear_convolution(rng, kernel_shape):
    x, kernel = rng.standard_normal(SHAPE), rng.standard_normal(kernel_shape)
    full = scipy.signal.convolve2d(x, kernel)
    start = [k // 2 for k in kernel_shape]
    expected = full[start[0] : start[0] + SHAPE[0], start[1] : start[1] + SHAPE[1]]
    np.testing.assert_allclose(Convolution(SHAPE, kernel).apply(x), expected, atol=1e-11)


def test_periodic_boundary_wraps(rng):
    x, kernel = rng.standard_normal(SHAPE), rng.standard_normal((5, 3))
    expected = sum(kernel[i, j] * np.roll(x, (i - 2, j - 1), axis=(0, 1)) for i in range(5) for j in range(3))
    np.testing.assert_allclose(Convolution(SHAPE, kernel, boundary="periodic").apply(x), expected, atol=1e-12)


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
@pytest.mark.parametrize("shape", [(37, 31), (12, 17), (9,), (7, 5, 11)])
def test_convolution_adjoint(rng, shape, boundary):
    operator = Convolution(shape, rng.standard_normal((3, 4, 5)[: len(shape)]), boundary=boundary)
    assert dot_test(operator)
    assert dot_test(operator, dtype=np.float32, rtol=1e-4)


def test_convolution_keeps_single_precision_and_batches(rng):
    operator = Convolution(SHAPE, rng.random((5, 5)))
    x = rng.standard_normal((2, 3, *SHAPE)).astype(np.float32)
    y = operator.apply(x)
    assert y.dtype == np.float32
    assert y.shape == x.shape
    np.testing.assert_allclose(y[1, 2], operator.apply(x[1, 2].astype(float)), atol=1e-5)


def test_otf_of_a_symmetric_kernel_is_real_and_sums_at_zero_frequency(rng):
    kernel = rng.random((5, 5))
    kernel = kernel + kernel[::-1, ::-1]
    otf = psf_to_otf(kernel, SHAPE)
    np.testing.assert_allclose(otf.imag, 0.0, atol=1e-13)
    np.testing.assert_allclose(otf[0, 0], kernel.sum())
    assert psf_to_otf(kernel.astype(np.float32), SHAPE).dtype == np.complex64


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_binning_sums_blocks(rng, factor):
    fine = rng.standard_normal((5 * factor, 7 * factor))
    operator = Binning(fine.shape, factor)
    expected = fine.reshape(5, factor, 7, factor).sum(axis=(1, 3))
    np.testing.assert_allclose(operator.apply(fine), expected)
    assert operator.apply(fine).sum() == pytest.approx(fine.sum())
    assert dot_test(operator)
    assert dot_test(operator, dtype=np.float32, rtol=1e-4)


def test_bad_arguments_are_named():
    kernel = np.ones((3, 3))
    with pytest.raises(ValueError, match='boundary is \'mirror\'; it must be "zero" or "periodic"'):
        Convolution(SHAPE, kernel, boundary="mirror")
    with pytest.raises(ValueError, match="holds 9 values that are not finite"):
        Convolution(SHAPE, kernel * np.nan)
    with pytest.raises(ValueError, match="has 1 axes, the grid 2"):
        Convolution(SHAPE, np.ones(3))
    with pytest.raises(ValueError, match="larger than the grid"):
        Convolution((2, 2), kernel, boundary="periodic")
    with pytest.raises(ValueError, match="not a multiple of factor 2"):
        Binning(SHAPE, 2)
    with pytest.raises(ValueError, match=r"factor is 1\.5"):
        Binning(SHAPE, 1.5)
    with pytest.raises(ValueError, match="factor is 0"):
        Binning(SHAPE, 0)
