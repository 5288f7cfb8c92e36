"""Images as Python's packages hold them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty

from deconjugate.astro.observation import observation

DATA = np.random.default_rng(0).normal(5.0, 1.0, (19, 23)).astype(">f4")


@pytest.mark.parametrize("make", [lambda **k: NDData(DATA, **k), lambda **k: CCDData(DATA, unit="adu", **k)])
@pytest.mark.parametrize(("kind", "power"), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)])
def test_containers_bring_their_uncertainty_and_mask(make, kind, power):
    mask = DATA > 6.0
    seen = observation(make(uncertainty=kind(np.full(DATA.shape, 2.0**power)), mask=mask))
    np.testing.assert_array_equal(seen.bad[0], mask)
    np.testing.assert_allclose(seen.weight[0], np.where(mask, 0.0, 0.25))
    assert seen.data.dtype.isnative


def test_masked_arrays_bring_their_mask():
    seen = observation(np.ma.masked_greater(DATA, 6.0), noise=1.0)
    np.testing.assert_array_equal(seen.bad[0], DATA > 6.0)
    assert not observation(np.ma.MaskedArray(DATA), noise=1.0).bad.any()


def test_quantities_bring_their_unit():
    assert observation(DATA * u.adu, noise=1.0).unit == u.adu


def test_an_uncertainty_of_unknown_type_is_refused():
    with pytest.raises(ValueError, match="the uncertainty of the image is of the type 'unknown'"):
        observation(NDData(DATA, uncertainty=np.ones(DATA.shape)))


def test_noise_is_converted_to_the_unit_of_the_image():
    plain = observation(DATA * u.Jy, noise=2.0)
    for noise in (2000.0 * u.mJy, np.full(DATA.shape, 2e-6) * u.MJy):
        np.testing.assert_allclose(observation(DATA * u.Jy, noise=noise).weight, plain.weight)
    deviation = StdDevUncertainty(np.full(DATA.shape, 2000.0), unit="mJy")
    np.testing.assert_allclose(observation(CCDData(DATA, unit="Jy", uncertainty=deviation)).weight, plain.weight)
    variance = VarianceUncertainty(np.full(DATA.shape, 4e6), unit="mJy2")
    np.testing.assert_allclose(observation(CCDData(DATA, unit="Jy", uncertainty=variance)).weight, plain.weight)


@pytest.mark.parametrize(("image", "message"), [(DATA * u.s, "noise is in Jy, the image in s"), (DATA, "no unit")])
def test_noise_in_a_unit_of_another_kind_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        observation(image, noise=1.0 * u.Jy)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("given", [False, True])
def test_weights_fit_whatever_the_unit_of_a_frame_in_single_precision(scale, given):
    data = DATA.astype(np.float32)
    seen = observation(data * np.float32(scale), noise=scale if given else None)
    usual = observation(data.astype(np.float64), noise=1.0 if given else None)
    np.testing.assert_allclose(seen.weight * scale**2, usual.weight, rtol=1e-4)
    assert seen.weight.dtype == (np.float32 if scale == 1.0 else np.float64)
