"""Sky positions survive the change of grid."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable

from deconjugate.astro.wcs import pixel_scale_arcsec, scale_wcs, wcs_cards

ANGLE = np.deg2rad(23.0)
SCALE = 7.3e-5
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
MATRIX = ROTATION @ np.diag([-SCALE, 1.1 * SCALE])


def tan(**cards):
    return {
        "NAXIS": 2,
        "NAXIS1": 431,
        "NAXIS2": 377,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": 101.3,
        "CRPIX2": -57.9,
        "CRVAL1": 150.1,
        "CRVAL2": 62.2,
        **cards,
    }


def matrix_cards(name, matrix):
    return {f"{name}{i + 1}_{j + 1}": matrix[i, j] for i, j in np.ndindex(2, 2)}


SIP = {"A_ORDER": 3, "B_ORDER": 2, "A_2_0": 3e-5, "A_1_1": -2e-5, "A_0_3": 4e-9, "B_0_2": 5e-5, "B_1_1": 1e-5}
SIP |= {"AP_ORDER": 2, "BP_ORDER": 2, "AP_1_0": 1e-4, "AP_2_0": -3e-5, "BP_0_1": -2e-4, "BP_0_2": -5e-5}
HEADERS = {
    "CD": tan(**matrix_cards("CD", MATRIX)),
    "PC + CDELT": tan(**matrix_cards("PC", ROTATION), CDELT1=-SCALE, CDELT2=1.1 * SCALE),
    "CDELT": tan(CDELT1=-SCALE, CDELT2=SCALE),
    "CROTA": tan(CDELT1=-SCALE, CDELT2=SCALE, CROTA2=-37.0),
    "ARC, southern": tan(CTYPE1="RA---ARC", CTYPE2="DEC--ARC", CRVAL2=-88.0, CDELT1=-SCALE, CDELT2=SCALE, CROTA2=5.0),
    "SIP": tan(**matrix_cards("CD", MATRIX), **SIP) | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"},
    "TPV": tan(**matrix_cards("CD", MATRIX), PV1_0=1e-4, PV1_1=1.01, PV1_4=0.02, PV2_1=0.99, PV2_5=0.3)
    | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"},
    "linear": {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR", "CRPIX1": 3.0, "CRVAL1": 7.0, "CDELT1": 0.5, "CDELT2": 0.25},
}
POINTS = np.array([[0.0, 0.0], [430.0, 0.0], [12.34, 300.5], [215.0, 188.0], [430.0, 376.0]])


def fine_positions(points, factor):
    """Zero-based coordinates on the fine grid: pixel j there sits at (j - (f - 1) / 2) / f here."""
    return points * factor + (factor - 1) / 2.0


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 2.5])
@pytest.mark.parametrize("name", HEADERS)
def test_sky_positions_agree(name, factor):
    wcs = WCS(fits.Header(HEADERS[name]))
    scaled = scale_wcs(wcs, factor)
    sky = wcs.all_pix2world(POINTS, 0)
    np.testing.assert_allclose(scaled.all_pix2world(fine_positions(POINTS, factor), 0), sky, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", HEADERS)
def test_sky_positions_agree_after_a_trip_through_a_header(name):
    wcs = WCS(fits.Header(HEADERS[name]))
    header = fits.Header.fromstring(wcs_cards(scale_wcs(wcs, 2)).tostring())
    again = WCS(header)
    sky = wcs.all_pix2world(POINTS, 0)
    np.testing.assert_allclose(again.all_pix2world(fine_positions(POINTS, 2), 0), sky, rtol=0, atol=1e-8)
    assert ("CD1_1" in header) == ("CD1_1" in HEADERS[name])
    if "CD1_1" in header:
        assert not {"PC1_1", "CDELT1"} & set(header)


@pytest.mark.parametrize("name", ["CD", "SIP", "TPV"])
def test_the_way_back_agrees_too(name):
    wcs = WCS(fits.Header(HEADERS[name]))
    scaled = scale_wcs(wcs, 3)
    sky = wcs.wcs_pix2world(POINTS, 0)
    np.testing.assert_allclose(scaled.wcs_world2pix(sky, 0), fine_positions(POINTS, 3), atol=1e-5)
    if wcs.sip is not None:
        u, v = POINTS.T
        for name in ("a", "b", "ap", "bp"):
            shift = np.polynomial.polynomial.polyval2d(u, v, getattr(wcs.sip, name))
            fine = np.polynomial.polynomial.polyval2d(3 * u, 3 * v, getattr(scaled.sip, name))
            np.testing.assert_allclose(fine, 3 * shift, rtol=1e-9)


def test_the_given_wcs_is_left_alone_and_sizes_follow():
    wcs = WCS(fits.Header(HEADERS["SIP"]))
    scaled = scale_wcs(wcs, 2)
    assert wcs.wcs.crpix.tolist() == [101.3, -57.9]
    assert wcs.sip.a[2, 0] == 3e-5
    assert scaled.array_shape == (754, 862)
    assert scaled.wcs.crpix.tolist() == pytest.approx([202.1, -116.3])
    assert pixel_scale_arcsec(scaled) == pytest.approx(0.5 * pixel_scale_arcsec(wcs))


def test_pixel_scale():
    assert pixel_scale_arcsec(WCS(fits.Header(HEADERS["CDELT"]))) == pytest.approx(3600 * SCALE)
    assert pixel_scale_arcsec(WCS(fits.Header(HEADERS["CD"]))) == pytest.approx(3600 * SCALE * np.sqrt(1.1))
    assert pixel_scale_arcsec(WCS(fits.Header(HEADERS["linear"]))) is None
    assert pixel_scale_arcsec(None) is None


def test_distortion_tables_are_left_out_with_a_measure_of_what_that_costs():
    wcs = WCS(fits.Header(HEADERS["CDELT"]))
    table = np.full((5, 5), 0.5, dtype=np.float32)  # half a pixel everywhere
    wcs.cpdis1 = DistortionLookupTable(table, (1.0, 1.0), (1.0, 1.0), (120.0, 120.0))
    with pytest.warns(UserWarning, match=r"a distortion that cannot be carried .* positions move by up to 0.13 arcsec"):
        scaled = scale_wcs(wcs, 2)
    assert scaled.cpdis1 is None
    assert wcs.cpdis1 is not None


POLYNOMIAL = "3. 4. 4. 2. -0.3171856965643 0.3172056965643 -0.1586 0.1586 -0.001 2.0E-4 0.0012 -3.1E-4 4.5E-5 "
POLYNOMIAL += "0.0021 7.1E-4 1.2E-4 -3.1E-5 8.1E-4 "


def iraf_header(kind, linear):
    """A header as IRAF writes it: the distortion in words, broken at 68 letters."""
    cards = {"CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}", "CRPIX1": 101.3, "CRPIX2": -57.9, "CRVAL1": 30.0}
    cards |= {"CRVAL2": -4.0, "WAT0_001": "system=image", **linear}
    more = " projp1=1.0 projp3=42.0" if kind == "ZPX" else ""
    for axis, name in ((1, "ra"), (2, "dec")):
        correction = "lngcor" if axis == 1 else "latcor"
        words = f'wtype={kind.lower()} axtype={name}{more} {correction} = "{POLYNOMIAL}"'
        cards |= {f"WAT{axis}_{i // 68 + 1:03d}": words[i : i + 68] for i in range(0, len(words), 68)}
    return fits.Header(cards)


@pytest.mark.parametrize(
    "linear", [matrix_cards("CD", MATRIX), {"CDELT1": -SCALE, "CDELT2": SCALE}], ids=["CD", "CDELT"]
)
@pytest.mark.parametrize("kind", ["TNX", "ZPX"])
def test_the_distortions_of_iraf_are_carried_exactly(kind, linear):
    header = iraf_header(kind, linear)
    wcs, plain = WCS(header), WCS(fits.Header({**linear, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0}))
    wcs.array_shape = 377, 431
    sky = wcs.all_pix2world(POINTS, 0)
    assert not np.allclose(sky, plain.all_pix2world(POINTS, 0), atol=1e-4)
    scaled = scale_wcs(wcs, 2)
    np.testing.assert_allclose(scaled.all_pix2world(fine_positions(POINTS, 2), 0), sky, rtol=0, atol=1e-9)
    again = WCS(fits.Header.fromstring(wcs_cards(scaled).tostring()))
    np.testing.assert_allclose(again.all_pix2world(fine_positions(POINTS, 2), 0), sky, rtol=0, atol=1e-8)


def recorded(kind, terms):
    """A WCS whose distortion is in records, as wcslib has them."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 101.3, "CRPIX2": -57.9, "CRVAL1": 30.0}
    header = fits.Header({**cards, "CRVAL2": -4.0, "CDELT1": -SCALE, "CDELT2": SCALE})
    cards = [f"CQDIS{axis}  = '{kind}'" for axis in (1, 2)]
    words = ["NAXES: 2.0", "AXIS.1: 1.0", "AXIS.2: 2.0", *terms]
    cards += [f"DQ{axis}     = '{word}'" for axis in (1, 2) for word in words]
    text = header.tostring(endcard=False, padding=False) + "".join(card.ljust(80) for card in cards)
    wcs = WCS(fits.Header.fromstring(text))
    wcs.array_shape = 377, 431
    return wcs


def test_a_tpd_distortion_is_carried_exactly():
    wcs = recorded("TPD", ["TPD.FWD.0: 0.5", "TPD.FWD.1: 1.001", "TPD.FWD.4: 0.00002"])
    again = WCS(fits.Header.fromstring(wcs_cards(scale_wcs(wcs, 3)).tostring()))
    sky = wcs.all_pix2world(POINTS, 0)
    np.testing.assert_allclose(again.all_pix2world(fine_positions(POINTS, 3), 0), sky, rtol=0, atol=1e-8)


def test_records_that_cannot_be_written_are_left_out_with_a_measure_of_what_that_costs():
    wcs = recorded("SIP", ["SIP.FWD.2_0: 0.00001"])
    with pytest.warns(UserWarning, match="a distortion that cannot be carried .* positions move by up to"):
        scaled = scale_wcs(wcs, 2)
    again = WCS(fits.Header.fromstring(wcs_cards(scaled).tostring()))
    fine = fine_positions(POINTS, 2)
    np.testing.assert_allclose(again.all_pix2world(fine, 0), scaled.all_pix2world(fine, 0), rtol=0, atol=1e-9)


def test_bad_arguments():
    with pytest.raises(ValueError, match="wcs has 3 axes; give its celestial part"):
        scale_wcs(WCS(naxis=3), 2)
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="give a positive number of fine pixels per pixel"):
            scale_wcs(WCS(fits.Header(HEADERS["CD"])), factor)
