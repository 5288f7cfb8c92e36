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
