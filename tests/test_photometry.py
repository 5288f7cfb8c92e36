"""Fluxes of known sources, before and after a deconvolution."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, Table
from astropy.wcs import WCS as WCSOf

from deconjugate.astro import PSF, simulate
from deconjugate.astro.cli import main
from deconjugate.astro.photometry import find_sources, photometry

SHAPE = 97, 121  # native
PLACES = ((20, 30, 4000.0), (60, 80, 2500.0), (70, 25, 1500.0))  # native row, column, flux
WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.0, "CRPIX2": 60.0, "CRVAL1": 30.0, "CRVAL2": -5.0}
WCS |= {"CDELT1": -1e-4, "CDELT2": 1e-4, "BUNIT": "adu"}


@pytest.fixture(scope="module")
def scene():
    sky = np.zeros([2 * n for n in SHAPE])
    for row, column, flux in PLACES:
        sky[2 * row, 2 * column] = flux
    return simulate(sky, PSF.moffat(3.0, beta=4.0), upsample=2, sigma=1.0, seed=3)


def test_sources_and_total_fluxes(scene):
    positions, ellipses = find_sources(scene.data, 1.0, threshold=5.0)
    assert len(positions) == 3
    order = np.argsort(positions[:, 1])
    np.testing.assert_allclose(positions[order], [(c - 0.25, r - 0.25) for r, c, _ in PLACES], atol=0.1)
    table = photometry(scene.noiseless, scene.truth, 1.0, positions, ellipses, upsample=2, radii=[2.0, 6.0], zero=25.0)
    table.sort("y")
    flux = np.array([f for *_, f in PLACES])
    np.testing.assert_allclose(table["flux_after"], flux, rtol=1e-3)
    np.testing.assert_allclose(table["flux_before"], flux, rtol=0.06)
    np.testing.assert_allclose(table["ratio"], table["flux_after"] / table["flux_before"])
    area = np.pi * table["a"] * table["b"]
    np.testing.assert_allclose(table["flux_error"], np.sqrt(area), rtol=1e-6)
    np.testing.assert_allclose(table["aper_2_error"], np.sqrt(np.pi) * 2.0)
    # The seeing takes light out of a small aperture, more than the target resolution does.
    assert (table["aper_2_after"] > 0.99 * flux).all()
    assert (table["aper_2_before"] < 0.85 * flux).all()
    np.testing.assert_allclose(table["mag_after"], 25.0 - 2.5 * np.log10(flux), atol=2e-3)
    np.testing.assert_allclose(table["mag_error"], 1.0857 * table["flux_error"] / table["flux_before"])
    assert "mag_aper_6_after" in table.colnames


def test_masked_pixels_are_left_out_of_both():
    before, after = np.ones((11, 15)), np.full((33, 45), 1 / 9)
    mask = np.zeros(before.shape, bool)
    mask[5, 7] = True
    before[5, 6] = np.nan
    table = photometry(before, after, 0.5, [(7.0, 5.0)], [(3.0, 3.0, 0.0)], upsample=3, mask=mask)
    assert table["flux_before"][0] == pytest.approx(9 * np.pi - 2)
    assert table["flux_after"][0] == pytest.approx(9 * np.pi - 2)
    assert table["flux_error"][0] == pytest.approx(0.5 * np.sqrt(9 * np.pi - 2))


def test_the_sky_may_be_taken_off_in_the_apertures(scene):
    """The same bits, for sources in the middle, cut by an edge, and outside the frame."""
    rng = np.random.default_rng(4)
    level = (50.0 + rng.random(SHAPE)).astype(np.float32)
    before = (scene.data + level).astype(np.float32)
    after = np.kron(before, np.full((2, 2), 0.25))
    light = before - level, after - np.repeat(np.repeat(level, 2, 0), 2, 1) / np.float32(4)
    given = [1.0, [(30.2, 20.7), (0.4, 95.0), (119.9, 50.1), (-40.0, 3.0), (np.nan, 3.0)], [(6.0, 3.0, 20.0)] * 5]
    options = {"upsample": 2, "radii": [2.5, 300.0], "mask": rng.random(SHAPE) < 0.02}
    one = photometry(*light, *given, **options)
    other = photometry(before, after, *given, **options, level=level)
    for name in one.colnames:
        np.testing.assert_array_equal(other[name], one[name])
    assert np.isnan(one["flux_before"][3])
    assert np.isfinite(one["aper_300_before"][:4]).all()
    assert np.isnan(one["aper_300_after"][4])


def test_apertures_turn_with_their_sources():
    y, x = np.mgrid[-40:41, -50:51]
    t = np.deg2rad(35.0)
    along, across = x * np.cos(t) + y * np.sin(t), y * np.cos(t) - x * np.sin(t)
    positions, ellipses = find_sources(500.0 * np.exp(-0.5 * (along**2 / 36 + across**2 / 9)), 1.0)
    assert ellipses[0, 0] / ellipses[0, 1] == pytest.approx(2.0, rel=0.08)  # the filter rounds it
    assert ellipses[0, 2] % 180.0 == pytest.approx(35.0, abs=0.5)
    np.testing.assert_allclose(positions[0], (50.0, 40.0), atol=0.01)


def test_empty_sky_has_no_sources():
    positions, ellipses = find_sources(np.random.default_rng(0).standard_normal((60, 71)), 1.0, threshold=8.0)
    assert (positions.shape, ellipses.shape) == ((0, 2), (0, 3))
    table = photometry(np.ones((4, 5)), np.ones((4, 5)), 1.0, positions, ellipses, upsample=1, radii=[2.0])
    assert len(table) == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"after has shape \(7, 8\), before \(4, 4\): not the same sky"):
        photometry(np.ones((4, 4)), np.ones((7, 8)), 1.0, [], [], upsample=2)
    with pytest.raises(ValueError, match=r"radii are \(-1.0,\)"):
        photometry(np.ones((4, 4)), np.ones((8, 8)), 1.0, [], [], upsample=2, radii=[-1.0])


@pytest.fixture
def files(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = (scene.data + 40.0).astype(np.float32)
    fits.PrimaryHDU(data, fits.Header({**WCS, "MAGZERO": 26.0})).writeto("in.fits")
    assert (
        main(["deconvolve", "in.fits", "--fwhm-pix", "3", "--beta", "4", "--no-network", "-o", "out.fits", "--quiet"])
        == 0
    )


def test_the_command(files, capsys):
    assert main(["photometry", "in.fits", "out.fits", "-o", "t.ecsv", "--aperture", "1.0", "--aperture-pix", "4"]) == 0
    assert "t.ecsv: 3 sources, total flux after / before" in capsys.readouterr().out
    table = Table.read("t.ecsv")
    assert table.colnames[:4] == ["x", "y", "ra", "dec"]
    assert {"aper_4_before", "aper_2.77778_after", "mag_before", "mag_error"} <= set(table.colnames)
    assert np.abs(table["difference"]).max() < 3.0
    np.testing.assert_allclose(table["ratio"], 1.0, atol=0.05)
    assert table.meta["zero_point"] == 26.0
    places = Table({"RA": table["ra"], "Dec": table["dec"]})
    places.write("places.csv")
    arguments = "photometry", "in.fits", "out.fits", "--positions"
    assert main([*arguments, "places.csv", "--aperture-pix", "9", "-o", "u.ecsv", "--zero-point", "20", "--quiet"]) == 0
    again = Table.read("u.ecsv")
    np.testing.assert_allclose(again["x"], table["x"], atol=1e-3)
    np.testing.assert_allclose(again["flux_before"], again["aper_9_before"])
    assert again.meta["zero_point"] == 20.0
    Table({"x": [30.0], "y": [20.0]}).write("xy.ecsv")
    assert main([*arguments, "xy.ecsv", "--aperture-pix", "9", "-o", "v.ecsv", "--quiet"]) == 0
    assert len(Table.read("v.ecsv")) == 1
    capsys.readouterr()
    Table({"name": ["a"]}).write("names.ecsv")
    Path("junk.dat").write_text("\x00\x01")
    for positions, message in (
        ("names.ecsv", "has no columns ra and dec, or x and y; it has name"),
        ("none.csv", "no such file: none.csv"),
        ("junk.dat", "cannot be read as a table"),
    ):
        assert main([*arguments, positions, "--aperture-pix", "9", "-o", "w.ecsv"]) == 1
        assert message in capsys.readouterr().err
    assert main([*arguments, "xy.ecsv", "-o", "w.ecsv"]) == 1
    assert "positions are given without an aperture" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:2 of 4 positions")
def test_positions_in_the_words_of_catalogues(files, capsys):
    wcs = fits.getheader("in.fits")
    wcs.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-4})
    fits.PrimaryHDU(fits.getdata("in.fits"), wcs).writeto("sip.fits")
    x, y = np.array([30.0, 80.0]), np.array([20.0, 60.0])
    ra, dec = (np.append(c, far) for c, far in zip(WCSOf(wcs).all_pix2world(x, y, 0), ([30.5, 210.0], [-5.0, 5.0])))
    arguments = (
        "photometry",
        "sip.fits",
        "out.fits",
        "--aperture-pix",
        "9",
        "-o",
        "t.ecsv",
        "--overwrite",
        "--positions",
    )
    for names, given in ((("RAJ2000", "DEJ2000"), ra), (("ra", "dec"), Column(ra / 15.0, unit="hourangle"))):
        Table(dict(zip(names, (given, dec)))).write("sky.ecsv", overwrite=True)
        assert main([*arguments, "sky.ecsv"]) == 0
        said = capsys.readouterr()
        assert "warning: 2 of 4 positions lie outside of the image" in said.err
        assert "total flux after / before 0.9" in said.out or "total flux after / before 1.0" in said.out
        table = Table.read("t.ecsv")
        np.testing.assert_allclose(table["x"][:2], x, atol=1e-3)
        np.testing.assert_allclose(table["y"][:2], y, atol=1e-3)
        assert np.isfinite(table["flux_before"]).tolist() == [True, True, False, False]
    Table({"x": ["here"], "y": [3.0]}).write("text.ecsv")
    assert main([*arguments, "text.ecsv"]) == 1
    assert "text.ecsv: the column x does not hold numbers of pix" in capsys.readouterr().err


def test_a_weight_is_relative(files, scene):
    fits.PrimaryHDU(np.full(scene.data.shape, 1e-6, np.float32)).writeto("field_wht.fits")
    assert main(["photometry", "in.fits", "out.fits", "-o", "a.ecsv", "--sky", "flat", "--quiet"]) == 0
    noise = "--noise", "field_wht.fits", "--noise-type", "weight", "--sky", "flat", "--quiet"
    assert main(["photometry", "in.fits", "out.fits", "-o", "b.ecsv", *noise]) == 0
    one, other = Table.read("a.ecsv"), Table.read("b.ecsv")
    np.testing.assert_allclose(one["flux_error"], other["flux_error"], rtol=0.05)


def test_files_that_do_not_belong_together(files, scene, capsys):
    fits.PrimaryHDU(np.ones((50, 60), np.float32)).writeto("other.fits")
    fits.PrimaryHDU(scene.data.astype(np.float32)).writeto("bare.fits")
    for arguments, message in (
        (["other.fits", "out.fits", "-o", "t.ecsv"], "the one is not made of the other"),
        (["in.fits", "out.fits", "-o", "t.txt"], "must end in .ecsv"),
        (["bare.fits", "out.fits", "-o", "t.ecsv", "--aperture", "1"], "has no sky coordinates to turn arcsec"),
        (["none.fits", "out.fits", "-o", "t.ecsv"], "no such file: none.fits"),
    ):
        assert main(["photometry", *arguments]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["photometry", "in.fits", "out.fits", "-o", "t.ecsv", "--noise-type", "rms"])


def test_surface_brightness_is_summed_alike(scene, tmp_path):
    per_area = np.asarray(scene.truth * 4.0, dtype=np.float32)
    fits.PrimaryHDU(scene.noiseless.astype(np.float32)).writeto(tmp_path / "in.fits")
    header = fits.Header({"CONSERVE": "surface brightness"})
    fits.PrimaryHDU(per_area, header).writeto(tmp_path / "out.fits")
    fits.PrimaryHDU(np.ones(SHAPE, np.float32)).writeto(tmp_path / "rms.fits")
    files = [str(tmp_path / name) for name in ("in.fits", "out.fits")]
    options = "--noise", str(tmp_path / "rms.fits"), "--sky", "none", "--quiet"
    assert main(["photometry", *files, "-o", str(tmp_path / "t.ecsv"), *options]) == 0
    np.testing.assert_allclose(Table.read(tmp_path / "t.ecsv")["ratio"], 1.0, atol=0.06)
