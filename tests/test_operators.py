"""What every operator owes: to test another one, add a line to OPERATORS."""

import numpy as np
import pytest
import scipy.sparse.linalg

from deconjugate.operators import (
    Binning,
    Convolution,
    LinearOperator,
    OrthogonalWavelet,
    PoissonOperator,
    Starlet,
    StationaryWavelet,
    dot_test,
    operator_norm,
)

SHAPE = (37, 31)
KERNEL = np.random.default_rng(0).random((6, 9))

OPERATORS = {
    "binning": lambda: Binning((36, 30), 3),
    "convolution": lambda: Convolution(SHAPE, KERNEL),
    "convolution periodic": lambda: Convolution(SHAPE, KERNEL, boundary="periodic"),
    "forward model": lambda: Binning((36, 30), 2) @ Convolution((36, 30), KERNEL),
    "poisson 2-D": lambda: PoissonOperator(np.ones(SHAPE, bool), boundary=["periodic", ("neumann", "dirichlet")]),
    "poisson 3-D": lambda: PoissonOperator(np.ones((7, 9, 11), bool), spacing=(1.0, 0.5, 2.0), boundary="dirichlet"),
    "starlet": lambda: Starlet(SHAPE, 4),
    "wavelet stationary": lambda: StationaryWavelet(SHAPE, 3, "db3"),
    "wavelet orthogonal": lambda: OrthogonalWavelet(SHAPE, 3, "db3"),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]()


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_adjoint(operator, dtype, rtol):
    assert dot_test(operator, rtol=rtol, dtype=dtype)
    assert dot_test(operator.T, rtol=rtol, dtype=dtype)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_linear(operator, dtype, rtol):
    rng = np.random.default_rng(1)
    for function, shape in ((operator.apply, operator.domain_shape), (operator.adjoint, operator.range_shape)):
        x, y = rng.standard_normal((2, *shape)).astype(dtype)
        both, x, y = function(dtype(2.5) * x - y), function(x), function(y)
        assert both.dtype == dtype
        assert np.linalg.norm(both - (2.5 * x - y)) <= rtol * np.linalg.norm(both)


def test_precisions_agree(operator):
    x = np.random.default_rng(2).standard_normal(operator.domain_shape)
    double, single = operator.apply(x), operator.apply(x.astype(np.float32))
    assert np.linalg.norm(double - single) <= 1e-5 * np.linalg.norm(double)


def test_leading_axes_are_a_batch(operator):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 3, *operator.domain_shape)), rng.standard_normal((2, 3, *operator.range_shape))
    forward, backward = operator.apply(x), operator.adjoint(y)
    assert forward.shape == y.shape
    assert backward.shape == x.shape
    np.testing.assert_allclose(forward[1, 2], operator.apply(x[1, 2]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(backward[1, 2], operator.adjoint(y[1, 2]), rtol=0, atol=1e-12)


def test_the_argument_stays_as_it_is(operator):
    x = np.random.default_rng(4).standard_normal(operator.domain_shape)
    y = np.random.default_rng(5).standard_normal(operator.range_shape)
    kept_x, kept_y = x.copy(), y.copy()
    operator.apply(x)
    operator.adjoint(y)
    np.testing.assert_array_equal(x, kept_x)
    np.testing.assert_array_equal(y, kept_y)


def test_any_memory_order_and_integers_are_taken(operator):
    x = np.random.default_rng(6).integers(-9, 9, operator.domain_shape)
    expected = operator.apply(x.astype(np.float64))
    np.testing.assert_allclose(operator.apply(x), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(operator.apply(np.asfortranarray(x.astype(np.float64))), expected, rtol=0, atol=1e-12)


def test_scipy_takes_it(operator):
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal(operator.shape[1]), rng.standard_normal(operator.shape[0])
    linear = scipy.sparse.linalg.aslinearoperator(operator)
    forward, backward = (
        operator.apply(x.reshape(operator.domain_shape)),
        operator.adjoint(y.reshape(operator.range_shape)),
    )
    np.testing.assert_allclose(linear.matvec(x), forward.ravel(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(linear.rmatvec(y), backward.ravel(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        operator @ np.stack([x, 2 * x], axis=1), np.stack([1, 2]) * forward.ravel()[:, None], atol=1e-11
    )
    np.testing.assert_allclose((operator.H @ y), backward.ravel(), rtol=0, atol=1e-12)


def test_composition_with_the_adjoint(operator):
    normal = operator.T @ operator
    assert isinstance(normal, LinearOperator)
    x = np.random.default_rng(8).standard_normal(operator.domain_shape)
    np.testing.assert_allclose(normal.apply(x), operator.adjoint(operator.apply(x)), rtol=0, atol=1e-12)
    assert dot_test(normal, rtol=1e-12)


def test_norm_bounds_every_image(operator):
    norm = operator_norm(operator, rtol=1e-4, maxiter=500)
    x = np.random.default_rng(9).standard_normal(operator.domain_shape)
    assert np.linalg.norm(operator.apply(x)) <= 1.001 * norm * np.linalg.norm(x)


def test_refuses_wrong_arrays(operator):
    with pytest.raises(ValueError, match=r"x has shape .*its trailing axes must be"):
        operator.apply(np.zeros(3))
    with pytest.raises(TypeError, match="dtype complex128; give a real numeric array"):
        operator.apply(np.zeros(operator.domain_shape, complex))


def test_composition_refuses_shapes_that_do_not_meet():
    with pytest.raises(ValueError, match="cannot compose"):
        Binning((36, 30), 3) @ Binning((36, 30), 3)
