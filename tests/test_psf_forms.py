"""PSFs as files and objects of other software give them."""

import numpy as np
import pytest
from astropy.io import fits
from photutils.psf import GriddedPSFModel, ImagePSF

from deconjugate.astro import PSF
from deconjugate.astro.cli import main
from deconjugate.astro.psf_grid import sample_grid


def samples(fwhm, shape=(41, 44), sampling=1, centre=None, ellipticity=0.0):
    """An effective PSF on a grid of any parity and centring."""
    middle = [(n - 1) / 2 for n in shape] if centre is None else centre
    y, x = (np.arange(n) - m for n, m in zip(shape, middle))
    sigma = sampling * fwhm / 2.3548
    return np.exp(-0.5 * (y[:, None] ** 2 * (1 + ellipticity) + x**2) / sigma**2)


def same(one, other, upsample=2):
    return np.abs(np.subtract(*cut(one.fine(upsample), other.fine(upsample)))).max() / other.fine(upsample).max()


def cut(*arrays):
    side = min(min(a.shape) for a in arrays)
    return [a[tuple(slice((n - side) // 2, (n + side) // 2) for n in a.shape)] for a in arrays]


@pytest.mark.parametrize("shape", [(41, 43), (40, 44), (41, 44), (50, 39)])
@pytest.mark.parametrize("shift", [0.0, 0.3, -1.7])
def test_parity_centring_and_scale_do_not_matter(tmp_path, shape, shift):
    array = 17.0 * samples(3.0, shape, centre=[(n - 1) / 2 + shift for n in shape])
    fits.PrimaryHDU(array).writeto(tmp_path / "p.fits")
    psf = PSF.from_file(tmp_path / "p.fits")
    assert psf.fine(2).sum() == pytest.approx(1.0)
    assert same(psf, PSF.from_array(samples(3.0))) < 1e-3


def test_the_sampling_of_an_image_is_told_in_many_ways(tmp_path):
    path = tmp_path / "p.fits"
    expected = PSF.from_array(samples(3.0, sampling=4, shape=(120, 131)), oversampling=4)
    cd = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 5.0, "CRPIX1": 1.0, "CRPIX2": 1.0}
    cd |= {"CD1_1": -0.05 / 3600, "CD2_2": 0.05 / 3600, "CD1_2": 0.0, "CD2_1": 0.0}
    for cards, given in (
        ({"OVERSAMP": 4}, {}),
        ({"OVERSAMP": 4}, {"pixel_scale": 0.9}),
        ({"OVERSAMP": 3}, {"oversampling": 4}),
        ({"PIXSCALE": 0.05}, {"pixel_scale": 0.2}),
        ({"PIXELSCL": 0.05}, {"pixel_scale": 0.2003}),
        (cd, {"pixel_scale": 0.2}),
    ):
        fits.PrimaryHDU(samples(3.0, sampling=4, shape=(120, 131)), fits.Header(cards)).writeto(path, overwrite=True)
        assert same(PSF.from_file(path, **given), expected) < 1e-9
    # Without a scale to compare with, or with a broken one, samples are pixels.
    for cards, given in ((cd, {}), ({"PIXSCALE": "wide"}, {"pixel_scale": 0.2}), ({}, {"pixel_scale": 0.2})):
        fits.PrimaryHDU(samples(3.0), fits.Header(cards)).writeto(path, overwrite=True)
        assert same(PSF.from_file(path, **given), PSF.from_array(samples(3.0))) < 1e-9
    with pytest.raises(ValueError, match="oversampling is -1"):
        PSF.from_file(path, oversampling=-1)


def test_a_scale_that_is_no_whole_fraction(tmp_path):
    fits.PrimaryHDU(samples(3.0, sampling=1.7, shape=(90, 90)), fits.Header({"PIXSCALE": 0.1})).writeto(
        tmp_path / "p.fits"
    )
    assert PSF.from_file(tmp_path / "p.fits", pixel_scale=0.17).fwhm_pix == pytest.approx(3.0, rel=1e-3)


def test_extensions_of_a_psf_file(tmp_path):
    path = tmp_path / "p.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(samples(3.0), name="blue"), fits.ImageHDU(samples(4.0), name="red")]
    fits.HDUList(hdus).writeto(path)
    assert PSF.from_file(path).fwhm_pix == pytest.approx(3.0, rel=2e-3)
    assert PSF.from_file(path, ext="RED").fwhm_pix == pytest.approx(4.0, rel=2e-3)
    with pytest.raises(KeyError, match="no extension 'green'"):
        PSF.from_file(path, ext="green")
    with pytest.raises(ValueError, match="neither a 2-D image nor a PSFEx model"):
        PSF.from_file(path, ext=0)


def psfex_table(*widths, names=None):
    masks = np.array([samples(w, (31, 31))[None] for w in widths], dtype=np.float32)
    columns = [fits.Column("PSF_MASK", f"{31 * 31}E", dim="(31,31,1)", array=masks)]
    if names:
        columns += [fits.Column("ccdname", "4A", array=names)]
    cards = {"POLNAXIS": 2, "POLNAME1": "X_IMAGE", "POLNAME2": "Y_IMAGE", "POLDEG1": 0, "PSF_SAMP": 1.0}
    cards |= {"POLZERO1": 10.0, "POLZERO2": 10.0, "POLSCAL1": 10.0, "POLSCAL2": 10.0}
    table = fits.BinTableHDU.from_columns(columns, name="PSF_DATA")
    table.header.update(cards)
    return table


def test_psfex_models_of_several_chips(tmp_path):
    path = tmp_path / "chips.psf"
    fits.HDUList([fits.PrimaryHDU(), psfex_table(3.0), psfex_table(4.0)]).writeto(path)
    assert PSF.from_file(path, ext=2).fwhm_pix == pytest.approx(4.0, rel=2e-3)
    with pytest.raises(ValueError, match=r"models of 2 chips \(1 PSF_DATA, 2 PSF_DATA\); choose one \(--psf-ext\)"):
        PSF.from_file(path)
    with pytest.raises(ValueError, match="extension 0 holds no PSFEx model"):
        PSF.from_file(path, ext=0)
    merged = tmp_path / "merged.fits"
    fits.HDUList([fits.PrimaryHDU(), psfex_table(3.0, 3.5, 4.0, names=["N1", "S7", "S8"])]).writeto(merged)
    assert PSF.from_file(merged, ext="s7").fwhm_pix == pytest.approx(3.5, rel=2e-3)
    assert PSF.from_file(merged, ext=2).fwhm_pix == pytest.approx(4.0, rel=2e-3)
    for wrong in (None, "N9", 3):
        with pytest.raises(ValueError, match=r"3 chips \(N1, S7, S8\); choose one"):
            PSF.from_file(merged, ext=wrong)


def write_chips(path, *names):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:33, :35]
    star = 80.0 * (1.0 + ((y - 15) ** 2 + (x - 17) ** 2) / 9.85) ** -3.0
    images = [fits.ImageHDU((star + rng.standard_normal(star.shape)).astype("f4"), name=name) for name in names]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)


def test_every_image_of_a_file_has_its_chip(tmp_path, monkeypatch, capsys):
    from deconjugate.astro.cli import main

    monkeypatch.chdir(tmp_path)
    write_chips("f.fits", "S7", "N1", "S8")
    fits.HDUList([fits.PrimaryHDU(), psfex_table(3.0, 3.5, 4.0, names=["N1", "S7", "S8"])]).writeto("merged.psf")
    fits.HDUList([fits.PrimaryHDU(), *(psfex_table(w) for w in (3.0, 3.5, 4.0))]).writeto("three.psf")
    fits.HDUList([fits.PrimaryHDU(), psfex_table(3.0), psfex_table(4.0)]).writeto("two.psf")
    given = ["deconvolve", "f.fits", "--all-ext", "--no-network", "--quiet", "--overwrite", "-o", "out.fits", "--psf"]
    for psf, widths in (("merged.psf", (3.5, 3.0, 4.0)), ("three.psf", (3.0, 3.5, 4.0))):
        assert main([*given, psf]) == 0
        with fits.open("out.fits") as hdus:
            assert [hdus["SCI", v].header["INFWHM"] for v in (1, 2, 3)] == pytest.approx(widths, rel=3e-3)
            assert "merged.psf, chip 1" in str(hdus["SCI", 1].header["HISTORY"]) or psf == "three.psf"
        assert main([*given, psf, "--dry-run"]) == 0
    assert main([*given, "three.psf", "--psf-ext", "3"]) == 0
    assert fits.getval("out.fits", "INFWHM", 1) == pytest.approx(4.0, rel=3e-3)
    assert main([*given, "two.psf"]) == 1
    said = "two.psf holds PSFEx models of 2 chips, and there are 3 images (S7, N1, S8): choose one for all (--psf-ext)"
    assert said in capsys.readouterr().err


def test_photutils_models():
    array = samples(3.0, sampling=2, shape=(61, 61))
    expected = PSF.from_array(array, oversampling=2)
    psf = PSF.from_epsf(ImagePSF(array, oversampling=2, flux=70.0))
    assert same(psf, expected) < 1e-12
    assert not psf.varies
    old = type("EPSFModel", (), {"data": array, "oversampling": (2, 2)})()  # photutils before 3
    assert same(PSF.from_epsf(old), expected) < 1e-12


def test_a_gridded_model_of_photutils():
    from astropy.nddata import NDData

    positions = [(0, 0), (100, 0), (0, 60), (100, 60), (0, 200), (100, 200)]
    stack = np.array([samples(w, (61, 61), sampling=2) for w in (3.0, 3.4, 3.2, 3.8, 3.1, 4.0)])
    stack /= stack.sum(axis=(1, 2), keepdims=True) / 4.0
    model = GriddedPSFModel(NDData(stack, meta={"grid_xypos": positions, "oversampling": 2}))
    psf = PSF.from_epsf(model)
    assert psf.varies
    assert "3x2 positions of 61x61 samples, 2 a pixel" in repr(psf)
    for x, y in ((0.0, 0.0), (100.0, 60.0), (30.0, 20.0), (81.0, 173.0), (-20.0, 250.0), (100.0, 10.0)):
        yy, xx = np.mgrid[-10:11, -10:11]
        inside = np.clip(x, 0, 100), np.clip(y, 0, 200)
        model.x_0, model.y_0 = inside
        expected = PSF.from_array(model(xx + inside[0], yy + inside[1])).fine(1)
        ours = psf.fine(1, position=(x, y))
        ours, expected = cut(ours, expected)
        assert np.abs(ours - expected).max() < 2e-3 * expected.max()
    middle = psf.fine(2)
    assert np.array_equal(middle, psf.fine(2, position=(50.0, 100.0)))


@pytest.mark.parametrize(
    ("data", "positions", "message"),
    [
        (np.ones((3, 5, 5)), [(0, 0), (9, 0)], r"positions have shape \(2, 2\); give x and y of each of the 3 PSFs"),
        (np.ones((3, 5, 5)), [(0, 0), (9, 0), (0, 9)], "do not make a rectangular grid"),
        (np.ones((4, 5, 5)), [(0, 0), (9, 0), (0, 9), (0, 9)], "do not make a rectangular grid"),
        (np.zeros((1, 5, 5)), [(0, 0)], "PSF 0 of the grid is all zero"),
    ],
)
def test_grids_that_are_none(data, positions, message):
    with pytest.raises(ValueError, match=message):
        sample_grid(data, positions, 1)


def test_a_moffat_keeps_its_ellipticity_and_angle_in_the_image():
    from deconjugate.astro.star_profile import ellipse

    for pa in (0.0, 30.0, 117.0):
        e, angle = ellipse(PSF.moffat(6.0, beta=3.0, ellipticity=0.25, pa=pa).fine(3))
        assert e == pytest.approx(0.25, abs=0.005)
        assert abs((angle - pa + 90.0) % 180.0 - 90.0) < 0.5


def test_the_options_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(60, 63)) + 500.0 * np.pad(samples(3.0, (21, 21)), ((20, 19), (20, 22)))
    fits.PrimaryHDU(image.astype(np.float32)).writeto("i.fits")
    hdus = [fits.PrimaryHDU(samples(9.0)), fits.ImageHDU(samples(3.0, (63, 63), sampling=3), name="FINE")]
    fits.HDUList(hdus).writeto("p.fits")
    options = (
        "--psf",
        "p.fits",
        "--psf-oversampling",
        "3",
        "--psf-ext",
        "fine",
        "--no-network",
        "--quiet",
        "-o",
        "o.fits",
    )
    assert main(["deconvolve", "i.fits", *options]) == 0
    header = fits.getheader("o.fits", "SCI")
    assert header["INFWHM"] == pytest.approx(3.0, rel=0.01)
    assert header["INNOISE"] == pytest.approx(1.0, rel=0.1)
    with pytest.raises(SystemExit):
        main(["deconvolve", "i.fits", "--fwhm-pix", "3", "--psf-oversampling", "2"])
    assert "--psf-oversampling belongs to --psf" in capsys.readouterr().err
