"""PSFs of every form on the fine grid, held against Gaussian algebra and against PSFEx's own definition."""

import types

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import erf

from deconjugate.astro import PSF
from deconjugate.astro.shape import fwhm_pix, windowed_centroid


def integral(sigma, low, high):
    """The unit Gaussian's integral over intervals."""
    return 0.5 * (erf(high / (np.sqrt(2.0) * sigma)) - erf(low / (np.sqrt(2.0) * sigma)))


def effective(sigma, n, centre, sampling=1):
    """An optical Gaussian integrated over native pixels, at n points ``1 / sampling`` apart."""
    x = (np.arange(n) - centre) / sampling
    return integral(sigma, x - 0.5, x + 0.5)


def exact_fine(sigma, shape, upsample):
    """The same Gaussian integrated over fine pixels."""
    axes = [(np.arange(n) - n // 2) / upsample for n in shape]
    half = 0.5 / upsample
    return np.outer(*(integral(sigma, x - half, x + half) for x in axes))


def block_sums(p, u):
    """All u x u sums of p: row m sums p[m : m + u]."""
    rows = np.lib.stride_tricks.sliding_window_view(p, u, 0).sum(-1)
    return np.lib.stride_tricks.sliding_window_view(rows, u, 1).sum(-1)


@pytest.mark.parametrize("upsample", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("shape", "centre"), [((31, 35), (15.0, 17.0)), ((32, 30), (15.5, 14.5)), ((33, 30), (14.3, 15.8))]
)
@pytest.mark.parametrize("sampling", [1, 2, 3])
def test_pixel_response_is_taken_out_exactly(upsample, shape, centre, sampling):
    sigma = 1.7
    n = [s * sampling for s in shape]
    middle = [(m - 1) / 2 + sampling * (c - (s - 1) / 2) for m, c, s in zip(n, centre, shape)]
    array = 7.3 * np.outer(*(effective(sigma, m, c, sampling) for m, c in zip(n, middle)))
    p = PSF.from_array(array, oversampling=sampling).fine(upsample)
    assert p.dtype == np.float64
    assert all(n % 2 for n in p.shape)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    # A native-sampled Gaussian of this width holds 8e-7 beyond its Nyquist frequency; nothing finer can be known.
    if upsample > 1:
        assert np.abs(p - exact_fine(sigma, p.shape, upsample)).sum() < (2e-6 if sampling == 1 else 1e-12)


@pytest.mark.parametrize("upsample", [1, 2, 3, 4])
@pytest.mark.parametrize("sampling", [1, 2])
def test_block_sums_are_the_effective_psf_half_pixel_shift_included(upsample, sampling):
    sigma, n = 1.6, 41 * sampling
    array = np.outer(effective(sigma, n, (n - 1) / 2, sampling), effective(sigma, n, (n - 1) / 2, sampling))
    p = PSF.from_array(array, oversampling=sampling).fine(upsample)
    sums = block_sums(p, upsample)
    # p[m : m + u] with m counted from the middle pixel is the native pixel at (m + (u - 1) / 2) / u
    axes = [(np.arange(s) - p.shape[0] // 2 + (upsample - 1) / 2) / upsample for s in sums.shape]
    expected = np.outer(*(integral(sigma, x - 0.5, x + 0.5) for x in axes))
    np.testing.assert_allclose(sums, expected, atol=3e-8)


def test_a_source_in_a_fine_pixel_sits_where_the_convention_says():
    u, j = 2, (21, 26)  # fine pixel; native coordinate (j - (u - 1) / 2) / u = 10.25, 12.75
    p = PSF.gaussian(4.0).fine(u)
    scene = np.zeros((60, 64))
    h, w = (n // 2 for n in p.shape)
    big = np.zeros((60 + 2 * h, 64 + 2 * w))
    big[j[0] : j[0] + 2 * h + 1, j[1] : j[1] + 2 * w + 1] += p
    scene = big[h : h + 60, w : w + 64].reshape(30, 2, 32, 2).sum((1, 3))
    y, x = np.indices(scene.shape)
    assert (scene * y).sum() / scene.sum() == pytest.approx(10.25, abs=1e-3)
    assert (scene * x).sum() / scene.sum() == pytest.approx(12.75, abs=1e-3)


@pytest.mark.parametrize("upsample", [2, 3])
def test_optical_arrays_get_the_fine_pixel_only(upsample):
    sigma, sampling = 1.2, 3
    x = (np.arange(121) - 60) / sampling
    optical = np.exp(-0.5 * (x[:, None] ** 2 + x**2) / sigma**2)
    p = PSF.from_array(optical, oversampling=sampling, includes_pixel=False).fine(upsample)
    assert np.abs(p - exact_fine(sigma, p.shape, upsample)).sum() < 1e-10


def test_gaussian_profile_is_integrated_over_fine_pixels():
    sigma = 1.1
    p = PSF.gaussian(sigma * 2.0 * np.sqrt(2.0 * np.log(2.0)), includes_pixel=False).fine(3)
    assert np.abs(p - exact_fine(sigma, p.shape, 3)).sum() < 1e-6


@pytest.mark.parametrize("psf", [PSF.moffat(3.2), PSF.moffat(2.0, beta=4.765), PSF.gaussian(2.7), PSF.gaussian(5.5)])
def test_profiles_show_the_width_asked_for_on_the_image(psf):
    asked = {0: 3.2, 1: 2.0, 2: 2.7, 3: 5.5}
    wanted = min(asked.values(), key=lambda width: abs(width - psf.fwhm_pix))
    assert psf.fwhm_pix == pytest.approx(wanted, rel=5e-4)
    p = psf.fine(2)
    assert p.min() > 0.0
    np.testing.assert_allclose(p, p[::-1, ::-1], rtol=1e-9)
    np.testing.assert_allclose(p, p.T, rtol=1e-9)


def test_ellipticity_and_position_angle_are_those_of_the_second_moments():
    p = PSF.gaussian(6.0, ellipticity=0.3, pa=25.0, includes_pixel=False).fine(1)
    y, x = np.indices(p.shape) - p.shape[0] // 2
    xx, yy, xy = (p * x * x).sum(), (p * y * y).sum(), (p * x * y).sum()
    assert 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy)) == pytest.approx(25.0, abs=0.1)
    large, small = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[::-1] - 1.0 / 12.0
    assert 1.0 - np.sqrt(small / large) == pytest.approx(0.3, abs=1e-3)


def test_max_size_cuts_profiles():
    p = PSF.moffat(4.0, beta=2.5).fine(2, max_size=50)
    assert p.shape == (49, 49)
    assert p.sum() == pytest.approx(1.0)


def test_profiles_wider_than_the_image_are_refused():
    assert PSF.moffat(500.0).fine(1, max_size=501).shape == (501, 501)
    with pytest.raises(ValueError, match="larger than the image: its FWHM is 1000 fine pixels, the image 501 wide"):
        PSF.moffat(500.0).fine(2, max_size=501)


def test_samples_that_span_more_than_the_image_are_cropped_and_the_loss_is_told():
    psf = PSF.from_array(np.ones((30, 21)), oversampling=2)
    whole = psf.fine(2, max_size=30)
    assert whole.shape[0] >= 30
    inner = whole[(whole.shape[0] - 19) // 2 :, (whole.shape[1] - 19) // 2 :][:19, :19]
    message = f"31 fine pixels wide, is larger than the image, 20: it is cropped, and {1 - inner.sum():.1%} of its flux"
    with pytest.warns(UserWarning, match=message):
        cropped = psf.fine(2, max_size=20)
    np.testing.assert_allclose(cropped, inner / inner.sum(), atol=1e-12)
    # What is lost of faint wings is not worth a word: warnings are errors here.
    faint = np.pad(PSF.gaussian(3.0).fine(1), 20)
    assert PSF.from_array(faint, includes_pixel=False).fine(1, max_size=24).shape == (23, 23)


def test_the_error_is_what_it_is_said_to_be(tmp_path):
    assert PSF.moffat(3.0).error is None
    assert PSF.gaussian(3.0, error=0.02).error == 0.02
    array = PSF.moffat(3.0).fine(1)
    assert PSF.from_array(array, error=0.1).error == 0.1
    for value, expected in ((0.03, 0.03), (None, None), ("much", None), (True, None), (-1.0, None)):
        header = fits.Header() if value is None else fits.Header({"PSFERROR": value})
        fits.PrimaryHDU(array, header).writeto(tmp_path / "p.fits", overwrite=True)
        assert PSF.from_file(tmp_path / "p.fits").error == expected
    assert PSF.from_file(tmp_path / "p.fits", error=0.2).error == 0.2
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"error is .*; give the sum of \|PSF - true PSF\|"):
            PSF.moffat(3.0, error=wrong)


def test_a_patch_is_where_the_psf_may_be_taken_for_one():
    x = np.arange(-15, 16)
    narrow, wide = (np.exp(-0.5 * (x[:, None] ** 2 + x**2) / s**2) for s in (2.0, 2.4))
    model = types.SimpleNamespace(
        data=np.stack([narrow / narrow.sum(), wide / wide.sum()]), oversampling=1, grid_xypos=[(0, 0), (200, 0)]
    )
    psf = PSF.from_epsf(model, error=0.01)
    assert psf.error == 0.01
    side = psf.patch((101, 201), tolerance=0.02)
    here, there = (psf.fine(1, position=(100 + d, 0)) for d in (0.0, side / 2))
    assert np.abs(here - there).sum() == pytest.approx(0.02, rel=0.05)
    assert PSF.moffat(3.0).patch((10, 20)) == np.inf
    with pytest.raises(ValueError, match="tolerance is 0; give a change of the PSF"):
        psf.patch((10, 20), tolerance=0)


def test_keep_leaves_the_centring_alone():
    sigma, shift = 1.5, 0.4
    array = np.outer(effective(sigma, 25, 12 + shift), effective(sigma, 25, 12))
    kept = PSF.from_array(array).fine(2, center="keep")
    moved = PSF.from_array(array).fine(2)
    assert windowed_centroid(kept)[0] - kept.shape[0] // 2 == pytest.approx(2 * shift, abs=1e-4)
    assert windowed_centroid(moved)[0] - moved.shape[0] // 2 == pytest.approx(0.0, abs=1e-4)


def test_noisy_wings_do_not_move_the_centre():
    rng = np.random.default_rng(5)
    array = np.outer(effective(1.5, 51, 25.0), effective(1.5, 51, 25.0))
    offsets = []
    for _ in range(10):
        centre = windowed_centroid(array + 3e-4 * rng.standard_normal(array.shape))
        offsets.append(np.hypot(centre[0] - 25.0, centre[1] - 25.0))
    assert max(offsets) < 0.02


@pytest.mark.parametrize(("sigma", "centre"), [(1.0, 15.0), (1.3, 15.5), (2.2, 14.2), (4.0, 15.1)])
def test_fwhm_of_sampled_gaussians(sigma, centre):
    x = np.arange(33) - centre
    assert fwhm_pix(np.exp(-0.5 * (x[:, None] ** 2 + x**2) / sigma**2)) == pytest.approx(2.3548 * sigma, rel=3e-3)


def test_fwhm_of_an_ellipse_is_the_geometric_mean():
    x = np.arange(61) - 30.0
    assert fwhm_pix(np.exp(-0.5 * (x[:, None] ** 2 / 9.0 + x**2 / 4.0))) == pytest.approx(
        2.3548 * np.sqrt(6.0), rel=2e-3
    )


def test_from_epsf_takes_a_photutils_model():
    from photutils.psf import ImagePSF

    array = np.outer(effective(1.6, 51, 25.0, 2), effective(1.6, 51, 25.0, 2))
    p = PSF.from_epsf(ImagePSF(array, oversampling=2)).fine(2)
    np.testing.assert_allclose(p, PSF.from_array(array, oversampling=2).fine(2), rtol=0, atol=1e-15)
    with pytest.raises(TypeError, match="ndarray is no ePSF model"):
        PSF.from_epsf(array)


def psfex_file(path, coefficients, *, step=1.0, zero=(101.0, 201.0), scale=(50.0, 80.0), degree=1, **changes):
    dim = coefficients.shape[::-1]
    column = fits.Column("PSF_MASK", f"{coefficients.size}E", dim=str(dim), array=coefficients[None])
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    cards = {"POLNAXIS": 2, "POLNAME1": "X_IMAGE", "POLNAME2": "Y_IMAGE", "POLDEG1": degree, "PSF_SAMP": step}
    cards |= {"POLZERO1": zero[0], "POLZERO2": zero[1], "POLSCAL1": scale[0], "POLSCAL2": scale[1]}
    table.header.update({**cards, **changes})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def test_psfex_polynomial_counts_pixels_from_one_and_x_fastest(tmp_path):
    g = [np.outer(effective(s, 31, 15.0), effective(s, 31, 15.0)) for s in (1.5, 2.0, 1.8)]
    path = psfex_file(tmp_path / "a.psf", np.array(g, dtype=np.float32))
    # FITS pixel (151, 121) is pixel (150, 120) from 0: X = 1, Y = -1
    p = PSF.from_file(path).fine(2, position=(150.0, 120.0), center="keep")
    expected = PSF.from_array(g[0] + g[1] - g[2]).fine(2, center="keep")
    np.testing.assert_allclose(p, expected, atol=1e-8)
    middle = PSF.from_file(path).fine(2, center="keep")
    np.testing.assert_allclose(middle, PSF.from_array(g[0]).fine(2, center="keep"), atol=1e-8)


def test_psfex_step_is_in_image_pixels(tmp_path):
    sigma, step = 1.7, 0.5
    g = np.outer(effective(sigma, 61, 30.0, 1 / step), effective(sigma, 61, 30.0, 1 / step))
    path = psfex_file(tmp_path / "b.psf", g[None].astype(np.float32), step=step, degree=0)
    p = PSF.from_file(path).fine(2)
    assert np.abs(p - exact_fine(sigma, p.shape, 2)).sum() < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"POLDEG1": 2}, "does not fit a polynomial of degree 2"),
        ({"PSF_SAMP": 0.0}, "PSF_SAMP is 0.0"),
        ({"POLNAME1": "MAG_AUTO"}, "varies with MAG_AUTO and Y_IMAGE"),
        ({"POLNAXIS": 1}, "varies with 1 variables"),
    ],
)
def test_psfex_files_that_cannot_be_read(tmp_path, changes, message):
    g = np.repeat(np.outer(effective(1.5, 15, 7.0), effective(1.5, 15, 7.0))[None], 3, 0).astype(np.float32)
    with pytest.raises(ValueError, match=message):
        PSF.from_file(psfex_file(tmp_path / "c.psf", g, **changes))


def test_psfex_with_nan_or_without_zero_point(tmp_path):
    g = np.repeat(np.outer(effective(1.5, 15, 7.0), effective(1.5, 15, 7.0))[None], 3, 0).astype(np.float32)
    path = psfex_file(tmp_path / "d.psf", g)
    fits.delval(path, "POLZERO1", ext=1)
    with pytest.raises(ValueError, match="has no POLZERO1"):
        PSF.from_file(path)
    g[1, 3, 3] = np.nan
    with pytest.raises(ValueError, match="PSF_MASK holds NaN"):
        PSF.from_file(psfex_file(tmp_path / "e.psf", g))
    rows = fits.Column("PSF_MASK", "225E", dim="(15,15)", array=np.ones((2, 15, 15), dtype=np.float32))
    fits.BinTableHDU.from_columns([rows]).writeto(tmp_path / "f.psf")
    with pytest.raises(ValueError, match=r"models of 2 chips \(0 to 1\); choose one"):
        PSF.from_file(tmp_path / "f.psf")


def test_psf_image_file_with_and_without_oversampling(tmp_path):
    array = np.outer(effective(1.6, 51, 25.0, 2), effective(1.6, 51, 25.0, 2))
    fits.PrimaryHDU(array, fits.Header({"OVERSAMP": 2})).writeto(tmp_path / "p.fits")
    np.testing.assert_allclose(
        PSF.from_file(tmp_path / "p.fits").fine(2), PSF.from_array(array, oversampling=2).fine(2)
    )
    fits.PrimaryHDU(array).writeto(tmp_path / "q.fits")
    np.testing.assert_allclose(PSF.from_file(tmp_path / "q.fits").fine(2), PSF.from_array(array).fine(2))
    fits.PrimaryHDU(array, fits.Header({"OVERSAMP": -1})).writeto(tmp_path / "r.fits")
    with pytest.raises(ValueError, match="OVERSAMP is -1"):
        PSF.from_file(tmp_path / "r.fits")
    fits.PrimaryHDU(0 * array).writeto(tmp_path / "s.fits")
    with pytest.raises(ValueError, match=r"the PSF in .*s.fits is all zero"):
        PSF.from_file(tmp_path / "s.fits")
    fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(tmp_path / "t.fits")
    with pytest.raises(ValueError, match="neither a 2-D image nor a PSFEx model"):
        PSF.from_file(tmp_path / "t.fits")


@pytest.mark.parametrize("name", ["train/DECam_00154912_12_psfcat.psf", "val/ksb_180313_081856_ooi_g_ls9-psfex.fits"])
def test_real_psfex_models(data_dir, name):
    psf = PSF.from_file(data_dir / "psfex" / name)
    assert 2.0 < psf.fwhm_pix < 8.0
    for position in (None, (100.0, 3500.0)):
        p = psf.fine(2, position=position)
        assert p.sum() == pytest.approx(1.0)
        assert np.allclose(windowed_centroid(p), [n // 2 for n in p.shape], atol=0.05)
        assert p.min() > -0.02 * p.max()


def test_real_psfex_model_against_its_own_samples(data_dir):
    path = data_dir / "psfex" / "val" / "decam-520206-S16-psfex.fits"  # PSF_SAMP = 1
    p = PSF.from_file(path).fine(3, center="keep")
    samples = fits.getdata(path)["PSF_MASK"][0][0].astype(float)
    samples /= samples.sum()
    # Upsampling by 3, the blocks that start one left of the middle pixel, or a multiple of 3 away, are native pixels.
    first = [n // 2 - 1 - 3 * (m // 2) for n, m in zip(p.shape, samples.shape)]
    sums = block_sums(p, 3)[first[0] :: 3, first[1] :: 3][: samples.shape[0], : samples.shape[1]]
    assert np.abs(sums - samples).max() < 2e-3 * samples.max()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((9, 9)), "psf is all zero"),
        (-np.ones((9, 9)), "psf has the sum -81; it must be positive"),
        (np.full((9, 7), np.nan), "psf holds 63 NaN or infinite values"),
        (np.ones(9), r"psf has shape \(9,\); give a 2-D array"),
        (np.ones((3, 9, 9)), r"psf has shape \(3, 9, 9\)"),
        (np.ones((9, 9), dtype=complex), "psf has dtype complex128"),
    ],
)
def test_arrays_that_are_no_psf(array, message):
    with pytest.raises(ValueError, match=message):
        PSF.from_array(array)


@pytest.mark.parametrize("oversampling", [0, -1, np.nan, (1, 2, 3), (2, -2)])
def test_bad_oversampling(oversampling):
    with pytest.raises(ValueError, match=r"oversampling is .*; give the samples per native pixel"):
        PSF.from_array(np.ones((5, 5)), oversampling=oversampling)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fwhm_pix": -1.0}, "fwhm_pix is -1.0; give a positive width"),
        ({"fwhm_pix": np.nan}, "fwhm_pix is nan"),
        ({"fwhm_pix": 1.0}, "fwhm_pix is 1; a pixel alone shows a width of 1.13"),
        ({"fwhm_pix": 3.0, "beta": 1.0}, "beta is 1.0"),
        ({"fwhm_pix": 3.0, "ellipticity": 1.0}, "ellipticity is 1.0"),
        ({"fwhm_pix": 3.0, "pa": np.inf}, "pa is inf"),
    ],
)
def test_bad_profiles(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PSF.moffat(**kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((0,), {}, "upsample is 0; give a whole number"),
        ((1.5,), {}, "upsample is 1.5"),
        ((True,), {}, "upsample is True"),
        ((2,), {"center": "peak"}, 'center is \'peak\'; choose "centroid" or "keep"'),
        ((2,), {"position": 3.0}, "position is 3.0; give two pixel coordinates"),
    ],
)
def test_bad_requests(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        PSF.gaussian(3.0).fine(*args, **kwargs)


def test_repr_says_what_it_is():
    assert (
        repr(PSF.moffat(3.0, includes_pixel=False))
        == "PSF(Moffat beta 3, optical FWHM 3.000 pixels, ellipticity 0, pa 0)"
    )
    assert "31x33 samples, 1 a pixel, effective" in repr(PSF.from_array(np.ones((31, 33))))
