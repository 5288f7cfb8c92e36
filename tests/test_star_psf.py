"""The PSF measured on the stars of fields whose PSF is known, and of real ones."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.interpolate import BSpline

from deconjugate.astro import PSF, simulate
from deconjugate.astro.cli import main
from deconjugate.astro.star_finding import find_stars
from deconjugate.astro.star_fit import Stars, spline_coefficients, spline_samples, spline_weights
from deconjugate.astro.star_profile import ellipse, moffat, outside, profile_samples, width_gradient
from deconjugate.astro.star_psf import measure_psf

UPSAMPLE = 4


def star_field(psf, n=45, shape=(311, 347), peak_snr=1000, seed=0, galaxies=0):
    """Stars at any place within a pixel, a hundredfold range of brightness, and round galaxies."""
    rng = np.random.default_rng(seed)
    sky = np.zeros([UPSAMPLE * s for s in shape], np.float32)
    for flux in 1e5 * 10 ** rng.uniform(-2, 0, n):
        sky[tuple(rng.integers(0, s) for s in sky.shape)] += flux
    y, x = np.mgrid[-40:41, -40:41]
    for _ in range(galaxies):
        i, j = (rng.integers(60, s - 60) for s in sky.shape)
        galaxy = np.exp(-np.hypot(x, y / rng.uniform(0.4, 1.0)) / rng.uniform(3.0, 8.0))
        sky[i - 40 : i + 41, j - 40 : j + 41] += galaxy * 1e5 * 10 ** rng.uniform(-1, 0) / galaxy.sum()
    return simulate(sky, psf, upsample=UPSAMPLE, peak_snr=peak_snr, background=50.0, seed=seed)


def difference(one, other, upsample=UPSAMPLE):
    """||one - other||_1 on the fine grid."""
    arrays = [p.fine(upsample) for p in (one, other)]
    side = max(max(a.shape) for a in arrays)
    return float(np.abs(np.subtract(*(np.pad(a, (side - a.shape[0]) // 2) for a in arrays))).sum())


@pytest.fixture(scope="module")
def elliptical():
    psf = PSF.moffat(3.6, beta=2.8, ellipticity=0.15, pa=30.0)
    return psf, star_field(psf, n=60, galaxies=12)


@pytest.fixture(scope="module")
def measured(elliptical):
    _, scene = elliptical
    return measure_psf(scene.data, 50.0, scene.noise_map)


def test_known_psf_among_galaxies(elliptical, measured):
    psf, _ = elliptical
    assert measured.count > 20
    assert measured.oversampling == 2
    assert measured.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.005)
    assert measured.psf.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.01)
    assert measured.ellipticity == pytest.approx(0.145, abs=0.01)  # the pixel rounds it a little
    assert measured.pa == pytest.approx(30.0, abs=2.0)
    assert difference(measured.psf, psf) < 0.02
    assert measured.error < 0.01
    assert np.median(measured.stars["misfit"]) < 0.005
    assert abs(measured.gradient) < 0.02
    assert measured.array.sum() == pytest.approx(1.0)
    assert np.abs(measured.residual).max() < 0.01
    assert f"{measured.count} stars, FWHM 3." in measured.summary(0.2)


def test_a_psf_that_is_no_moffat():
    """Two cores and a halo: what the profile cannot show is taken from the stars."""
    a, b = PSF.gaussian(3.0).fine(UPSAMPLE), PSF.moffat(6.0, beta=3.0, ellipticity=0.3, pa=70.0).fine(UPSAMPLE)
    p = 0.4 * b
    inner = [slice((n - m) // 2, (n + m) // 2) for n, m in zip(b.shape, a.shape)]
    p[tuple(inner)] += 0.6 * a
    scene = star_field(PSF.from_array(p, oversampling=UPSAMPLE, includes_pixel=False), n=60)
    psf = PSF.from_array(scene.psf, oversampling=UPSAMPLE, includes_pixel=False)
    found = measure_psf(scene.data, 50.0, scene.noise_map)
    assert found.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.02)
    profile = profile_samples((np.log(found.fwhm_pix), found.beta, 0.0, 0.0), found.array.shape[0] // 2, 2)
    assert difference(found.psf, psf) < 0.04
    assert difference(PSF.from_array(profile, oversampling=2), psf) > 0.1


def test_undersampled_stars():
    psf = PSF.moffat(1.8, beta=3.5)
    scene = star_field(psf, n=80)
    found = measure_psf(scene.data, 50.0, scene.noise_map)
    assert found.oversampling == 3
    assert found.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.02)
    assert difference(found.psf, psf) < 0.04
    assert measure_psf(scene.data, 50.0, scene.noise_map, oversampling=4).oversampling == 4


def test_cosmic_rays_bad_and_saturated_pixels_do_no_harm(elliptical, measured):
    psf, scene = elliptical
    rng = np.random.default_rng(3)
    data = np.minimum(scene.data, np.quantile(scene.data, 0.9997)).astype(np.float64)
    for _ in range(150):
        data[tuple(rng.integers(0, n) for n in data.shape)] += 300.0 * scene.noise_map[0, 0]
    data[100:103] = np.nan
    found = measure_psf(data, 50.0)
    assert found.rejected["saturated"] > 0
    assert found.rejected["near bad pixels"] > 0
    assert found.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.02)
    assert difference(found.psf, psf) < 0.05


def test_shot_noise_may_be_told(elliptical, measured):
    psf, scene = elliptical
    found = measure_psf(scene.data, 50.0, scene.noise_map, gain=1.0, max_stars=12)
    assert found.count <= 12
    assert found.fwhm_pix == pytest.approx(psf.fwhm_pix, rel=0.02)


def test_splines_are_splines():
    places = np.random.default_rng(0).uniform(-6.0, 6.0, (3, 7))
    for order in (0, 1):
        basis = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False).derivative(order)
        expected = np.nan_to_num([basis(2 * places - k) for k in range(-15, 16)]) * 2**order
        np.testing.assert_allclose(spline_weights(15, 2, places, order), np.moveaxis(expected, 0, -1), atol=1e-13)
    samples = profile_samples((np.log(3.0), 3.0, 0.1, 0.2), 15, 2)
    coefficients = spline_coefficients(samples)
    np.testing.assert_allclose(spline_samples(coefficients)[3:-3, 3:-3], samples[3:-3, 3:-3], atol=1e-5)


def test_flux_place_and_level_are_recovered():
    c = spline_coefficients(profile_samples((np.log(3.0), 3.0, 0.0, 0.0), 24, 2))
    truth = Stars(np.zeros((3, 23, 23)), np.ones((3, 23, 23)), np.ones((3, 23, 23), bool), 2)
    truth.flux, truth.level = np.array([900.0, 50.0, 7000.0]), np.array([3.0, -1.0, 0.0])
    truth.places = np.array([[0.3, -0.2], [-0.4, 0.45], [0.0, 0.1]])
    stars = Stars(-truth.residual(c), truth.variance, truth.good, 2)
    stars.flux = 0.7 * truth.flux
    stars.refit(c, np.ones((3, 23, 23)), passes=8)
    np.testing.assert_allclose(stars.flux, truth.flux, rtol=1e-6)
    np.testing.assert_allclose(stars.places, truth.places, atol=1e-6)
    np.testing.assert_allclose(stars.level, truth.level, atol=1e-5)


def test_profile_is_normalised_and_has_its_width():
    parameters = np.log(4.0), 2.5, 0.0, 0.0
    assert profile_samples(parameters, 400, 2).sum() / 4.0 + outside(parameters, 225.0) == pytest.approx(1.0, abs=2e-3)
    assert moffat(parameters, 0.0, 2.0) == pytest.approx(0.5)
    y, x = np.mgrid[-30:31, -30:31] / 2.0
    assert ellipse(moffat((np.log(4.0), 3.0, 0.2, 0.0), y, x)) == pytest.approx(
        (1.0 - np.sqrt(0.8 / 1.2), 0.0), abs=2e-3
    )


def test_width_gradient_is_that_of_a_plane():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 300, 40), rng.uniform(0, 200, 40)
    gradient, error = width_gradient(x, y, 4.0 * (1.0 + 0.1 * x / 300), (200, 300))
    assert gradient == pytest.approx(0.1 / 1.05, rel=1e-6)
    assert error < 1e-6
    assert width_gradient(x[:4], y[:4], np.ones(4), (200, 300)) == (0.0, np.inf)


def test_too_few_stars_is_said_with_the_reasons():
    scene = star_field(PSF.moffat(3.5), n=2, shape=(101, 103))
    with pytest.raises(ValueError, match=r"only \d stars fit to show the PSF.* 3 are needed: lower min_snr"):
        measure_psf(scene.data, 50.0, scene.noise_map)
    noise = np.random.default_rng(1).standard_normal((91, 97))
    with pytest.raises(ValueError, match=r"only 0 stars .*\(left out: no brighter peak at all\)"):
        find_stars(noise, 1.0, np.zeros(noise.shape, bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.ones(5)}, r"data has shape \(5,\)"),
        ({"data": np.full((9, 9), np.nan)}, "no pixel of the image is good"),
        ({"oversampling": 0}, "oversampling is 0; give a whole number from 1 to 10"),
        ({"oversampling": 2.5}, "oversampling is 2.5"),
        ({"min_snr": -1.0}, "min_snr is -1.0"),
        ({"max_stars": 2}, "max_stars is 2"),
        ({"gain": 0.0}, "gain is 0.0"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        measure_psf(**{"data": np.ones((9, 9)), "rms": 1.0, **changes})


WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 60.5, "CRVAL1": 30.0, "CRVAL2": -5.0}


@pytest.fixture
def field(elliptical, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = fits.Header({**WCS, "CDELT1": -1e-4, "CDELT2": 1e-4})
    fits.PrimaryHDU(elliptical[1].data, header).writeto("field.fits")
    return "field.fits"


def test_the_command_writes_what_deconvolve_reads(field, elliptical, capsys):
    assert main(["psf", field, "-o", "psf.fits", "--qa", "page.png"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "psf.fits: " in out
    assert "arcsec" in out
    assert Path("page.png").read_bytes()[:4] == b"\x89PNG"
    with fits.open("psf.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "STARS", "RESIDUAL"]
        assert hdus[0].header["OVERSAMP"] == 2
        assert hdus[0].header["PIXSCALE"] == pytest.approx(0.18)
        assert hdus[0].header["PSFFWHM"] == pytest.approx(3.6, rel=0.01)
        assert hdus[0].header["PSFNSTAR"] == len(hdus["STARS"].data)
        assert np.abs(hdus["STARS"].data["ra"] - 30.0).max() < 0.1
    assert difference(PSF.from_file("psf.fits"), elliptical[0]) < 0.03
    small = fits.getdata(field)[100:164, 120:190]
    fits.PrimaryHDU(small).writeto("part.fits")
    assert (
        main(["deconvolve", "part.fits", "--psf", "psf.fits", "-o", "sharp.fits", "--no-network", "--upsample", "1"])
        == 0
    )
    assert main(["psf", field, "-o", "psf.fits"]) == 1
    assert "psf.fits exists" in capsys.readouterr().err


def test_a_weight_is_relative_and_ivar_is_not(field, capsys):
    shape = fits.getdata(field).shape
    fits.PrimaryHDU(np.full(shape, 1e-6, np.float32)).writeto("wht.fits")
    assert main(["psf", field, "-o", "psf.fits", "--quiet"]) == 0
    given = ["psf", field, "--noise", "wht.fits", "--noise-type"]
    assert main([*given, "weight", "-o", "weight.fits", "--quiet"]) == 0
    stars = [fits.getval(name, "PSFNSTAR") for name in ("psf.fits", "weight.fits")]
    assert abs(stars[0] - stars[1]) <= 2
    assert main([*given, "ivar", "-o", "ivar.fits"]) == 1  # a noise of 1000 drowns them
    assert "stars fit to show the PSF" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(field, capsys):
    fits.PrimaryHDU(np.random.default_rng(0).normal(size=(80, 90)).astype(np.float32)).writeto("noise.fits")
    for arguments, message in (
        (["noise.fits", "-o", "x.fits"], "only 0 stars fit to show the PSF"),
        ([field, "-o", field, "--overwrite"], "is the input; choose another name"),
        ([field, "-o", "a.png", "--qa", "./a.png"], "the page and the output are the same file"),
        ([field, "-o", "x.fits", "--qa", "x.doc"], "must end in .png, .pdf or .svg"),
    ):
        assert main(["psf", *arguments]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["psf", field, "-o", "x.fits", "--noise-type", "rms"])
    assert "--noise-type belongs to --noise" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_doubtful_psfs_are_warned_of(tmp_path, capsys):
    shape = 260, 300
    y, x = np.indices(shape)
    data = np.random.default_rng(5).standard_normal(shape)
    for k, (i, j) in enumerate((i, j) for i in range(25, 250, 42) for j in range(25, 290, 42)):
        alpha2 = (1.8 * (1.0 + 0.15 * j / 300)) ** 2 / (2.0 ** (1 / 3) - 1.0)
        data += 800.0 * 0.96**k * (1.0 + ((y - i - 0.13) ** 2 + (x - j - 0.1 * (k % 5)) ** 2) / alpha2) ** -3.0
    path = tmp_path / "gradient.fits"
    fits.PrimaryHDU(data.astype(np.float32)).writeto(path)
    assert main(["psf", str(path), "-o", str(tmp_path / "p.fits"), "--sky", "flat"]) == 0
    assert "the width of the stars changes by 1" in capsys.readouterr().err
    fits.PrimaryHDU(data[:120, :120].astype(np.float32)).writeto(path, overwrite=True)
    assert main(["psf", str(path), "-o", str(tmp_path / "q.fits"), "--sky", "none"]) == 0
    assert "stars show the PSF: look at it" in capsys.readouterr().err


def test_m13_is_crowded_and_photographic():
    path = Path(find_spec("astropy").origin).parent / "io/fits/hdu/compressed/tests/data/m13.fits"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = fits.getdata(path).astype(np.float64)
    from deconjugate.astro.background import background_and_rms

    found = measure_psf(data, *background_and_rms(data, sky="flat"))
    assert found.count > 30
    assert 3.1 < found.fwhm_pix < 3.5
    assert found.error < 0.05


def test_a_real_frame(data_dir):
    data = fits.getdata(data_dir / "frames" / "deepdisc_decam_img_r.fits").astype(np.float64)
    from deconjugate.astro.background import background_and_rms

    found = measure_psf(data, *background_and_rms(data))
    assert found.count > 15
    assert 1.8 < found.fwhm_pix < 2.1
    assert found.error < 0.05
