import numpy as np
import pytest

from deconjugate.astro.metrics import flux_error, nmse, psnr, reduced_chi2, scatter


def test_values_on_known_images():
    truth = np.zeros((5, 7))
    truth[2, 3] = 2.0
    assert nmse(truth, truth) == 0.0
    assert nmse(0 * truth, truth) == 1.0
    assert nmse(1.1 * truth, truth) == pytest.approx(0.01)
    assert flux_error(1.1 * truth, truth) == pytest.approx(0.1)
    assert psnr(truth + 0.02, truth) == pytest.approx(40.0)
    assert psnr(truth, truth) == np.inf


def test_flux_within_an_aperture():
    truth, image = np.ones((4, 6)), np.ones((4, 6))
    image[0] = 100.0
    aperture = np.arange(4)[:, None] > np.zeros(6)
    assert flux_error(image, truth, aperture) == 0.0


def test_leading_axes_are_kept():
    truth = np.random.default_rng(0).random((3, 5, 7)) + 0.1
    factors = np.array([1.0, 1.5, 2.0])[:, None, None]
    np.testing.assert_allclose(flux_error(factors * truth, truth), [0.0, 0.5, 1.0], atol=1e-12)
    assert nmse(factors * truth, truth).shape == (3,)


def test_chi2_and_scatter_of_unit_noise():
    residual = np.random.default_rng(1).standard_normal((201, 203))
    assert reduced_chi2(residual) == pytest.approx(1.0, abs=0.02)
    assert scatter(residual) == pytest.approx(1.0, abs=0.02)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"image has shape \(2, 3\), truth \(3, 2\)"):
        nmse(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="truth is zero everywhere"):
        nmse(np.ones((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="true flux is zero"):
        flux_error(np.ones((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="no positive peak"):
        psnr(np.ones((2, 3)), -np.ones((2, 3)))
    with pytest.raises(ValueError, match="no pixel of the residual is good"):
        reduced_chi2(np.ones((2, 3)), np.ones((2, 3), bool))
