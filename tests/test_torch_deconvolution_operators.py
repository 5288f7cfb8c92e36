"""Operators of the data model on torch tensors, beside the NumPy path."""

import numpy as np
import pytest
import torch

from deconjugate.astro import PSF
from deconjugate.astro.forward import DataModel
from deconjugate.operators import (
    Binning,
    Convolution,
    OrthogonalWavelet,
    Starlet,
    StationaryWavelet,
    dot_test,
)

SHAPE = (37, 31)
KERNEL = np.random.default_rng(0).random((6, 9))

OPERATORS = {
    "binning": lambda: Binning((36, 30), 3),
    "convolution": lambda: Convolution(SHAPE, KERNEL),
    "convolution periodic": lambda: Convolution(SHAPE, KERNEL, boundary="periodic"),
    "forward model": lambda: Binning((36, 30), 2) @ Convolution((36, 30), KERNEL),
    "its adjoint": lambda: (Binning((36, 30), 2) @ Convolution((36, 30), KERNEL)).T,
    "starlet": lambda: Starlet(SHAPE, 4),
    "starlet of few rows": lambda: Starlet((5, 33), 2),
}
PRECISIONS = [(np.float64, 1e-12), (np.float32, 1e-5)]


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]()


@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
def test_tensors_give_what_arrays_give(operator, dtype, rtol):
    rng = np.random.default_rng(1)
    for function, shape in ((operator.apply, operator.domain_shape), (operator.adjoint, operator.range_shape)):
        x = rng.standard_normal((2, 3, *shape)).astype(dtype)
        expected, found = function(x), function(torch.from_numpy(x))
        assert found.dtype == torch.from_numpy(x).dtype
        assert found.shape == expected.shape
        assert np.abs(found.numpy() - expected).max() <= rtol * np.abs(expected).max()


@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
def test_dot_test_on_tensors(operator, dtype, rtol):
    assert dot_test(operator, rtol=rtol, dtype=dtype, device="cpu")


def test_gradients_are_the_adjoint_also_after_inference(operator):
    x, y = (torch.from_numpy(np.random.default_rng(2).standard_normal(shape)) for shape in
            (operator.domain_shape, operator.range_shape))  # fmt: skip
    with torch.inference_mode():
        expected = operator.adjoint(y)
        operator.apply(x)
    x.requires_grad_()
    operator.apply(x).backward(y)
    torch.testing.assert_close(x.grad, expected.clone(), rtol=0, atol=1e-12)


def test_integers_and_views_are_taken(operator):
    x = torch.from_numpy(np.random.default_rng(3).integers(-9, 9, operator.domain_shape[::-1]))
    if len(operator.domain_shape) == 2:
        expected = operator.apply(x.numpy().T.astype(np.float64))
        torch.testing.assert_close(operator.apply(x.T), torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_wrong_tensors_are_refused(operator):
    with pytest.raises(ValueError, match=r"x has shape \(3,\); its trailing axes must be"):
        operator.apply(torch.zeros(3))
    with pytest.raises(TypeError, match=r"x has dtype torch\.complex64; give a real numeric tensor"):
        operator.apply(torch.zeros(operator.domain_shape, dtype=torch.complex64))


@pytest.mark.parametrize("upsample", [1, 2, 3])
@pytest.mark.parametrize(("shape", "margin"), [((13, 10), "auto"), ((9, 15), 0)])
def test_the_data_model_takes_tensors(upsample, shape, margin):
    model = DataModel(shape, PSF.gaussian(3.0).fine(upsample, max_size=21), upsample, margin=margin)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, *model.domain_shape)), rng.standard_normal((2, *model.range_shape))
    # k and a are complex64: their product with 9 is rounded in the one order or in the other.
    np.testing.assert_allclose(model.apply(torch.from_numpy(x)).numpy(), model.apply(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.adjoint(torch.from_numpy(y)).numpy(), model.adjoint(y), rtol=0, atol=1e-7)
    assert dot_test(model, rtol=1e-5, device="cpu")


def test_the_data_model_has_gradients_also_after_inference():
    model = DataModel((13, 10), PSF.gaussian(3.0).fine(2, max_size=21), 2)
    x, y = (torch.from_numpy(np.random.default_rng(5).standard_normal(shape)) for shape in
            (model.domain_shape, model.range_shape))  # fmt: skip
    with torch.inference_mode():
        expected = model.adjoint(y)
    x.requires_grad_()
    model.apply(x).backward(y)
    torch.testing.assert_close(x.grad, expected.clone(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [StationaryWavelet, OrthogonalWavelet])
def test_operators_of_arrays_alone_say_so(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__} takes NumPy arrays alone: give x\.numpy"):
        kind(SHAPE, 2, "db2").apply(torch.zeros(SHAPE))


def test_starlet_reconstructs_tensors():
    starlet = Starlet(SHAPE, 4)
    x = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(starlet.reconstruct(starlet.apply(x)), x, rtol=0, atol=1e-12)
