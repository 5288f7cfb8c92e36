"""Clumps of drawn galaxies, in images and in files."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from astropy.io import fits
from astropy.table import Table

from deconjugate.astro import PSF, simulate
from deconjugate.astro import clumps as clumps_module
from deconjugate.astro.cli import main
from deconjugate.astro.clump_completeness import clump_completeness
from deconjugate.astro.clump_completeness_file import completeness_files
from deconjugate.astro.clump_files import clumps_files
from deconjugate.astro.clumps import NoDisc, disc_model, find_clumps
from deconjugate.astro.zero_point import magnitude, zero_point

SHAPE = 101, 127
CLUMPS = ((40.0, 50.0, 0.12), (63.0, 72.0, 0.07), (46.0, 80.0, 0.05))  # row, column, share of the disc


def galaxy(shape=SHAPE, centre=(50.0, 62.0), clumps=CLUMPS, radius=9.0, flux=1.0, ratio=0.7):
    """An exponential disc of given flux with Gaussian clumps at the target resolution."""
    y, x = np.indices(shape)
    disc = np.exp(-np.hypot(x - centre[1], (y - centre[0]) / ratio) / radius)
    image = disc / disc.sum()
    for row, column, share in clumps:
        clump = np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / 1.0**2)
        image = image + share * clump / clump.sum()
    return flux * image


def test_clumps_of_a_disc_with_fluxes_and_places():
    (found,) = find_clumps(galaxy(flux=500.0), noise=0.05, seeing=6.0, upsample=2)
    assert (found.x, found.y) == (pytest.approx(62.0, abs=0.5), pytest.approx(50.0, abs=0.5))
    assert found.axis_ratio == pytest.approx(0.7, abs=0.08)
    assert found.disc_flux == pytest.approx(500.0, rel=0.06)
    assert found.flux == pytest.approx(found.disc_flux + sum(c.flux for c in found.clumps))
    assert [(c.y, c.x) for c in found.clumps] == [clump[:2] for clump in CLUMPS]
    for clump, (_, _, share) in zip(found.clumps, CLUMPS):
        assert clump.flux == pytest.approx(500.0 * share, rel=0.08)
        assert clump.share == pytest.approx(share, rel=0.12)
        assert clump.significance == pytest.approx(clump.flux / clump.error)
        assert clump.significance > 5.0


def test_a_smooth_disc_and_empty_sky_have_none():
    (found,) = find_clumps(galaxy(clumps=()), noise=2e-4, seeing=6.0, upsample=2)
    assert found.clumps == []
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    assert find_clumps(noise, noise=2.0, seeing=6.0, upsample=2) == []
    small = galaxy(radius=0.5, clumps=())
    assert find_clumps(small, noise=0.02, seeing=6.0, upsample=2) == []


def test_two_galaxies_and_a_mask():
    image = np.hstack([galaxy(), galaxy(flux=0.5, clumps=CLUMPS[:1])])
    first, second = find_clumps(image, noise=2e-4, seeing=6.0, upsample=2)
    assert [len(first.clumps), len(second.clumps)] == [3, 1]
    assert second.clumps[0].x == 50.0 + SHAPE[1]
    assert not (first.outline & second.outline).any()
    mask = np.zeros(image.shape, bool)
    mask[:, SHAPE[1] :] = True
    assert len(find_clumps(image, noise=2e-4, seeing=6.0, upsample=2, mask=mask)) == 1
    assert len(find_clumps(np.where(mask, np.nan, image), noise=2e-4, seeing=6.0, upsample=2)) == 1


def test_strips_change_nothing(monkeypatch):
    image = np.vstack([galaxy(), galaxy(flux=0.5, clumps=CLUMPS[:1])])
    image[7, 9], given = np.nan, {"noise": 2e-4, "seeing": 6.0, "upsample": 2}
    good = np.isfinite(image)
    smooth = scipy.ndimage.gaussian_filter(np.where(good, image, 0.0), 2.5) * 4.0 * np.pi * 2.5**2
    whole = find_clumps(image, **given)
    monkeypatch.setattr(clumps_module, "STRIP", 1)
    np.testing.assert_array_equal(clumps_module._bright(image, good, 2.5, 1e-3), smooth > 1e-3)
    parts = find_clumps(image, **given)
    assert [(g.flux, g.disc_flux, g.clumps) for g in parts] == [(g.flux, g.disc_flux, g.clumps) for g in whole]
    assert len(parts) == 2


def test_limits_of_brightness():
    image = galaxy()
    assert len(find_clumps(image, noise=2e-4, seeing=6.0, upsample=2, min_share=0.06)[0].clumps) == 2
    assert len(find_clumps(image, noise=2e-4, seeing=6.0, upsample=2, min_snr=1e4)[0].clumps) == 0


def test_the_disc_is_what_clumps_lie_on():
    image, smooth = galaxy(), galaxy(clumps=())
    disc, centre, *_ = disc_model(image, smooth > 1e-5, 6.0, [c[:2] for c in CLUMPS])
    assert np.abs(disc - smooth).sum() < 0.05
    np.testing.assert_allclose(centre, (50.0, 62.0), atol=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.ones(5)}, r"image has shape \(5,\)"),
        ({"noise": 0.0}, "noise is 0.0; give a positive number"),
        ({"seeing": np.nan}, "seeing is nan"),
        ({"resolution": -1.0}, "resolution is -1.0"),
        ({"min_snr": 0.0}, "min_snr is 0.0"),
        ({"min_share": -0.1}, "min_share is -0.1; give a fraction"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        find_clumps(**{"image": np.ones((9, 9)), "noise": 1.0, "seeing": 4.0, **changes})


def test_completeness_rises_with_brightness():
    psf = PSF.moffat(3.0)
    scene = simulate(galaxy((96, 116), (48.0, 57.0), clumps=()), psf, upsample=2, peak_snr=50, seed=1)
    found = clump_completeness(
        scene.data, psf, scene.noise_map, shares=(0.002, 0.12), trials=2, seed=3, network=None, min_share=0.001
    )
    assert list(found.injected) == [2, 2]
    assert found.fraction[0] <= 0.5
    assert found.fraction[1] == 1.0
    assert found.flux_ratio[1] == pytest.approx(1.0, abs=0.35)
    with pytest.raises(ValueError, match="trials is 0"):
        clump_completeness(scene.data, psf, scene.noise_map, trials=0)
    with pytest.raises(ValueError, match="there is no galaxy"):
        clump_completeness(0 * scene.data, psf, scene.noise_map, network=None)


def test_zero_points_and_magnitudes():
    from astropy import units

    assert zero_point({"ZP": 27.0}) == 27.0
    assert zero_point({"MAGZERO": "none", "FLUXMAG0": 1e8}) == pytest.approx(20.0)
    assert zero_point({"MAGZERO": True}) is None
    assert zero_point({}, units.adu) is None
    assert zero_point({}, units.uJy) == pytest.approx(23.9, abs=0.01)
    assert zero_point({}, units.Jy / units.pix) == pytest.approx(8.9, abs=0.01)
    assert zero_point({}, units.MJy / units.sr) is None
    np.testing.assert_allclose(magnitude([100.0, -1.0], 25.0), [20.0, np.nan])


CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.0, "CRPIX2": 60.0, "CRVAL1": 30.0, "CRVAL2": -5.0}
CARDS |= {
    "CDELT1": -3e-5,
    "CDELT2": 3e-5,
    "UPSAMPLE": 2,
    "TGTFWHM": 2.0,
    "INFWHM": 3.0,
    "INNOISE": 0.01,
    "BUNIT": "adu",
}


def write(name, image, **changes):
    cards = {key: value for key, value in {**CARDS, **changes}.items() if value is not None}
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image.astype(np.float32), fits.Header(cards), "SCI")]).writeto(name)
    return name


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("out.fits", galaxy(flux=100.0), MAGZERO=25.0)
    write("blue.fits", galaxy(flux=100.0, clumps=[(r, c, 3 * s) for r, c, s in CLUMPS]), MAGZERO=25.0)
    write("red.fits", galaxy(flux=200.0), MAGZERO=25.5)
    return tmp_path


def test_the_command_writes_tables_and_a_figure(files, capsys):
    options = "--colour", "blue.fits", "red.fits", "--figure", "figure.png", "--sky", "none"
    assert main(["clumps", "out.fits", "-o", "clumps.ecsv", *options]) == 0
    assert capsys.readouterr().out == "clumps.ecsv: 3 clumps in 1 galaxy\n"
    clumps, galaxies = Table.read("clumps.ecsv"), Table.read("clumps_galaxies.ecsv")
    assert list(clumps["galaxy"]) == [1, 1, 1]
    assert clumps["mag"][0] == pytest.approx(25.0 - 2.5 * np.log10(12.0), abs=0.1)
    assert clumps["ra"][0] == pytest.approx(30.0, abs=0.01)
    assert str(clumps["ra"].unit) == "deg"
    assert galaxies["n_clumps"][0] == 3
    # The disc alone, whatever the clumps are: 2.5 log10(2) of flux and half a magnitude of zero point.
    assert galaxies["disc_colour"][0] == pytest.approx(2.5 * np.log10(2.0) - 0.5, abs=0.03)
    assert galaxies.meta["colour"] == "blue - red, calibrated"
    assert Path("figure.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["clumps", "out.fits", "-o", "clumps.ecsv"]) == 1
    assert "clumps.ecsv exists" in capsys.readouterr().err
    assert main(["clumps", "out.fits", "-o", "clumps.ecsv", "--overwrite", "--quiet", "--figure", "two.svg"]) == 0
    assert "<svg" in Path("two.svg").read_text()


@pytest.mark.filterwarnings("default")
def test_several_files_make_one_table_and_one_that_is_bad_does_not_stop_the_rest(files, capsys):
    write("second.fits", galaxy(clumps=CLUMPS[:1], flux=100.0))
    write("bare.fits", galaxy(), INNOISE=None, INFWHM=None)
    write("empty.fits", np.zeros(SHAPE))
    images = "out.fits", "second.fits", "bare.fits", "empty.fits"
    colours = [word for _ in images for word in ("--colour", "blue.fits", "red.fits")]
    assert main(["clumps", *images, "-o", "all.ecsv", *colours, "--figure", "all.png", "--sky", "none"]) == 1
    out, err = capsys.readouterr()
    assert out == "all.ecsv: 4 clumps in 2 galaxies of 3 files\n"
    assert "error: bare.fits does not say the noise and the seeing" in err
    clumps, galaxies = Table.read("all.ecsv"), Table.read("all_galaxies.ecsv")
    assert list(clumps["file"]) == ["out.fits"] * 3 + ["second.fits"]
    assert list(galaxies["n_clumps"]) == [3, 1]
    assert list(galaxies["galaxy"]) == [1, 1]
    assert galaxies.meta["colour"] == "blue - red, calibrated"
    assert galaxies["disc_mag"].mask.tolist() == [False, True]  # the second has no zero point
    assert Path("all.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["clumps", *images[:2], "-o", "two.ecsv", "--figure", "two.svg", "--sky", "none", "--quiet"]) == 0
    write("nozero.fits", galaxy())
    mixed = ["--colour", "blue.fits", "red.fits", "--colour", "nozero.fits", "red.fits"]
    assert main(["clumps", *images[:2], "-o", "mixed.ecsv", *mixed, "--sky", "none"]) == 0
    assert "some colours are calibrated and others instrumental" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["clumps", *images, "-o", "x.ecsv", "--colour", "blue.fits", "red.fits"])
    assert "--colour is given 1 times for 4 images" in capsys.readouterr().err
    with pytest.raises(ValueError, match="colour holds 1 pairs of bands; there are 2 files"):
        clumps_files(images[:2], "x.ecsv", colour=[("blue.fits", "red.fits")])
    assert main(["clumps", "bare.fits", "bare.fits", "-o", "x.ecsv"]) == 1
    assert not Path("x.ecsv").exists()


def test_an_empty_field_makes_empty_tables(files):
    write("empty.fits", np.random.default_rng(1).normal(0.0, 1e-4, SHAPE))
    assert main(["clumps", "empty.fits", "-o", "e.ecsv", "--colour", "blue.fits", "red.fits"]) == 0
    assert len(Table.read("e.ecsv")) == len(Table.read("e_galaxies.ecsv")) == 0


@pytest.mark.filterwarnings("default")
def test_what_is_not_known_or_does_not_match_is_said(files, capsys):
    write("bare.fits", galaxy(), INNOISE=None, INFWHM=None)
    write("nowhere.fits", galaxy(), CTYPE1=None, CTYPE2=None, CRVAL1=None, CRVAL2=None, CDELT1=None, CDELT2=None)
    write("coarse.fits", galaxy(), TGTFWHM=3.0)
    write("moved.fits", galaxy(), CRPIX1=52.0)
    write("small.fits", galaxy()[:50])
    for arguments, message in (
        (["bare.fits"], "does not say the noise and the seeing"),
        (["nowhere.fits", "--seeing", "0.3"], "has no sky coordinates to turn the seeing into pixels"),
        (["out.fits", "--colour", "small.fits", "red.fits"], "both bands must be alike"),
        (["out.fits", "--colour", "coarse.fits", "red.fits"], "TGTFWHM is 3.0, that of the image 2.0"),
        (["out.fits", "--colour", "moved.fits", "red.fits"], "moved.fits lies 2 pixels from the image"),
    ):
        assert main(["clumps", *arguments, "-o", "x.ecsv"]) == 1
        assert message in capsys.readouterr().err
    assert main(["clumps", "out.fits", "-o", "x.txt"]) == 1
    assert "must end in .ecsv" in capsys.readouterr().err
    assert main(["clumps", "bare.fits", "--noise", "0.0002", "--seeing", "0.324", "--sky", "none", "-o", "x.ecsv"]) == 0
    assert len(Table.read("x.ecsv")) == 3
    write("nozero.fits", galaxy())
    assert main(["clumps", "out.fits", "-o", "y.ecsv", "--colour", "nozero.fits", "red.fits"]) == 0
    assert "a band has no zero point" in capsys.readouterr().err
    write("bright.fits", 100.0 * galaxy(), CONSERVE="surface brightness")
    assert main(["clumps", "bright.fits", "-o", "z.ecsv", "--sky", "none"]) == 0
    assert main(["clumps", "out.fits", "-o", "w.ecsv", "--sky", "none"]) == 0
    one, other = (Table.read(f"{name}.ecsv")["flux_error"][0] for name in "zw")
    assert one >= other


def test_a_cluster_of_stars_is_no_galaxy():
    rng = np.random.default_rng(0)
    image = np.zeros((161, 161))
    y, x = np.mgrid[:161, :161]
    for row, column in 80 + 25 * rng.standard_normal((60, 2)):
        image += rng.uniform(5, 50) * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / 0.85**2)
    for galaxy in find_clumps(image, noise=0.02, seeing=6.6, upsample=2):
        assert np.isfinite([galaxy.x, galaxy.y, galaxy.flux]).all()
    point = np.where((y - 80) ** 2 + (x - 80) ** 2 < 4, 50.0, 0.0)
    with pytest.raises(NoDisc):
        disc_model(point, point > 0, 6.6, [(80, 80)])


def put_in_arguments(*more):
    images = ["g1_deconvolved.fits", "g2_deconvolved.fits", "-o", "c.ecsv", "--completeness", "g1.fits"]
    return ["clumps", *images, "--completeness", "g2.fits", "--no-network", "--fwhm-pix", "3", *more]


@pytest.fixture
def observed(tmp_path, monkeypatch):
    """Two galaxies, and what the command makes of them; the sky known to be zero."""
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        scene = simulate(galaxy((96, 116), (48.0, 57.0), clumps=()), PSF.moffat(3.0), peak_snr=50, seed=seed)
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(scene.data.astype(np.float32), name="SCI")]
        fits.HDUList([*hdus, fits.ImageHDU(scene.noise_map.astype(np.float32), name="ERR")]).writeto(f"g{seed}.fits")
    how = "--fwhm-pix", "3", "--no-network", "--sky", "none", "--noise", "ERR", "--output-dir", ".", "--quiet"
    assert main(["deconvolve", "g1.fits", "g2.fits", *how]) == 0


def test_the_command_puts_clumps_into_the_images_behind_the_files(observed, capsys):
    more = "--sky", "none", "--image-noise", "ERR", "--shares", "0.004", "0.12", "--trials", "1"
    assert main(put_in_arguments(*more)) == 0
    assert "c_completeness.ecsv: found " in capsys.readouterr().out
    table = Table.read("c_completeness.ecsv")
    assert list(table["injected"]) == [2, 2]
    assert table["found"][1] == 2
    assert table["fraction"][0] <= 0.5
    assert (table["fraction_low"] <= table["fraction"]).all()
    assert (table["fraction_high"] >= table["fraction"]).all()
    assert table["flux_ratio"][1] == pytest.approx(1.0, abs=0.35)
    assert table.meta["source"] == "g1.fits, g2.fits"
    Path("c.ecsv").unlink()
    Path("c_galaxies.ecsv").unlink()
    assert main(put_in_arguments()) == 1
    assert "c_completeness.ecsv exists" in capsys.readouterr().err
    assert not Path("c.ecsv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shares", "0.1"], "--shares belongs to --completeness"),
        (["--fwhm-pix", "3"], "--fwhm-pix belongs to --completeness"),
        (["--completeness", "g1.fits", "--fwhm-pix", "3"], "--completeness is given 1 times for 2 images"),
        (["--completeness", "g1.fits", "--completeness", "g2.fits"], "give the PSF by one of"),
        (["--completeness", "g1.fits"] * 2 + ["--fwhm-pix", "3", "3", "3"], "--fwhm-pix has 3 values for 2 images"),
    ],
)
def test_usage_of_completeness(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["clumps", "a.fits", "b.fits", "-o", "c.ecsv", *words])
    assert message in capsys.readouterr().err


def test_completeness_of_files_that_do_not_fit_is_refused(observed):
    how = {"shares": (0.1,), "trials": 1, "network": None}
    with pytest.raises(ValueError, match="completeness names 1 images for 2 files"):
        completeness_files(["a.fits", "b.fits"], ["c.fits"], [{}], **how)
    with pytest.raises(ValueError, match=r"g1\.fits does not say how it was made"):
        completeness_files(["g1.fits"], ["g1.fits"], [{"fwhm_pix": 3.0}], **how)
    with pytest.raises(ValueError, match=r"FWHM of 3\.5.* that which g1_deconvolved\.fits was made with 3"):
        completeness_files(["g1_deconvolved.fits"], ["g1.fits"], [{"fwhm_pix": 3.5}], **how)
