"""A band on the pixels of another: fluxes, errors, holes and PSFs."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.wcs import WCS
from scipy.special import erf

from deconjugate.astro import PSF
from deconjugate.astro.preparation import Prepared
from deconjugate.astro.psf_grid import SampleGrid
from deconjugate.astro.regrid import mapping, regrid, regrid_psf, resample
from deconjugate.astro.scratch import Scratch

FINE, COARSE = (61, 83), (53, 47)  # pixels
SIGMA = 1.3  # of stars, pixels of the coarse band


def frame(shape, scale, turned=0.0, unit="adu", ra=30.0):
    """Zeros whose middle is near one place of the sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, -4.0]
    wcs.wcs.crpix = [shape[1] / 2 + 0.8, shape[0] / 2 + 0.3]
    c, s = np.cos(np.deg2rad(turned)), np.sin(np.deg2rad(turned))
    wcs.wcs.cd = scale / 3600.0 * np.array([[-c, s], [s, c]])
    return CCDData(np.zeros(shape), wcs=wcs, unit=unit)


def star(shape, row, column):
    y, x = np.indices(shape)

    def share(u):
        return 0.5 * (erf((u + 0.5) / (np.sqrt(2) * SIGMA)) - erf((u - 0.5) / (np.sqrt(2) * SIGMA)))

    return share(y - row) * share(x - column)


def prepared(image, data, sigma=2.0, level=0.0):
    whole = np.ones(image.shape)
    given = CCDData(data, mask=image.mask, wcs=image.wcs, unit=image.unit, meta={"PIXSCALE": 0.29, "PIXAR_SR": 2.0})
    psf = PSF.gaussian(SIGMA * 2.3548, includes_pixel=False)
    return Prepared(given, level * whole, sigma * whole, np.zeros(image.shape, bool), psf, "psf", "noise", "mask")


@pytest.fixture
def grids():
    return frame(FINE, 0.2), frame(COARSE, 0.29, 17.0)


def test_a_star_keeps_its_flux_and_place_and_has_the_psf(grids):
    onto, band = grids
    column, row = band.wcs.all_world2pix(*onto.wcs.all_pix2world(44.3, 30.2, 0), 0)
    out = regrid(prepared(band, 1000.0 * star(COARSE, float(row), float(column)) + 7.0, level=7.0), onto, Scratch())
    area = (0.2 / 0.29) ** 2
    assert np.allclose(out.level[20:40, 20:60], 7.0 * area)
    sources = out.image.data - out.level
    assert sources.sum() == pytest.approx(1000.0, rel=1e-3)
    y, x = np.indices(FINE)
    assert (sources * y).sum() / 1000.0 == pytest.approx(30.2, abs=0.02)
    assert (sources * x).sum() / 1000.0 == pytest.approx(44.3, abs=0.02)
    assert out.psf.fwhm_pix * 0.2 == pytest.approx(prepared(band, band.data).psf.fwhm_pix * 0.29, rel=0.005)
    assert out.sigma[30, 44] == pytest.approx(2.0 * np.sqrt(area))
    assert out.image.meta["PIXSCALE"] == pytest.approx(0.2, rel=1e-6)
    assert out.image.meta["PIXAR_SR"] == pytest.approx(2.0 * area)
    assert out.image.wcs is onto.wcs
    assert "resampled" in out.noise_name


def test_a_surface_brightness_stays_and_its_error_goes_with_the_area(grids):
    onto, band = grids
    band = CCDData(band.data, wcs=band.wcs, unit="MJy / sr")
    out = regrid(prepared(band, np.full(COARSE, 5.0), level=5.0), onto, Scratch())
    assert out.image.data[30, 44] == pytest.approx(5.0)
    assert out.sigma[30, 44] == pytest.approx(2.0 * 0.29 / 0.2)


def test_the_error_of_a_sum_over_the_sky_stays(grids):
    onto, band = grids
    rng = np.random.default_rng(4)
    sums = []
    for _ in range(60):
        out = regrid(prepared(band, 2.0 * rng.standard_normal(COARSE)), onto, Scratch())
        sums.append(out.image.data[20:45, 30:60].sum() / np.sqrt((out.sigma[20:45, 30:60] ** 2).sum()))
    assert np.std(sums) == pytest.approx(1.0, abs=0.25)


def test_holes_and_what_is_outside_are_masked_and_nothing_rings(grids):
    onto, band = grids
    data = 1000.0 * star(COARSE, 26.0, 23.0)
    mask = np.zeros(COARSE, bool)
    mask[26, 25] = True
    spoilt = data.copy()
    spoilt[26, 25] = np.nan
    whole = regrid(prepared(band, data), onto, Scratch())
    band.mask = mask
    out = regrid(prepared(band, spoilt), onto, Scratch())
    good = ~out.image.mask
    assert 3 <= np.count_nonzero(out.image.mask & ~whole.image.mask) <= 12
    assert np.abs(out.image.data - whole.image.data)[good].max() < 0.02 * whole.image.data.max()
    assert whole.image.mask[0, 0]  # beyond the band
    assert np.isfinite(out.image.data).all()
    assert (out.sigma > 0).all()


def test_strips_do_not_show(monkeypatch, grids):
    where = mapping(*grids)
    rng = np.random.default_rng(6)
    values = rng.standard_normal(COARSE)
    whole, unknown = resample(values, where)
    monkeypatch.setattr("deconjugate.astro.regrid.ROWS", 13)
    pieces, same = resample(values, where)
    assert (unknown == same).all()
    assert np.abs(whole - pieces).max() < 1e-5


def test_a_psf_that_varies_is_taken_at_its_places(grids):
    y, x = np.mgrid[-10:11, -10:11]
    narrow, wide = (np.exp(-(y**2 + x**2) / (2 * s**2)) for s in (2.6, 3.4))  # two samples a pixel
    nodes = np.array([[narrow, wide], [narrow, wide]])
    rows, columns = np.array([0.0, COARSE[0] - 1]), np.array([0.0, COARSE[1] - 1])
    psf = PSF(SampleGrid(nodes, rows, columns, (2.0, 2.0)))
    where = mapping(*grids)
    out = regrid_psf(psf, where, COARSE)
    assert out.varies
    for place in ((25.0, 30.0), (58.0, 33.0)):
        row, column = where.at(place[1], place[0])
        given, got = psf.fine(5, position=(column, row)), out.fine(5, position=place)
        ratio = np.sqrt((got**2).sum() / (given**2).sum())  # of the inverse areas
        assert ratio == pytest.approx(0.2 / 0.29, rel=0.03)


def test_frames_elsewhere_are_refused(grids):
    onto, _ = grids
    with pytest.raises(ValueError, match="the images do not overlap"):
        regrid(prepared(frame(COARSE, 0.29, ra=30.1), np.zeros(COARSE)), onto, Scratch())
    blind = frame(COARSE, 0.29)
    blind.mask = np.ones(COARSE, bool)
    with pytest.raises(ValueError, match="no pixel of it is good where the other image is"):
        regrid(prepared(blind, np.zeros(COARSE)), onto, Scratch())
    with pytest.raises(ValueError, match="the images lie on different parts of the sky"):
        mapping(onto, frame(COARSE, 0.29, ra=215.0))
