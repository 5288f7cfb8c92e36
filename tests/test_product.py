"""What a deconvolved file holds, read back; what the input may look like."""

import gzip
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from deconjugate.astro import PSF, read_image
from deconjugate.astro.cards import derived_header, with_third_axis
from deconjugate.astro.deconvolve_file import deconvolve_file, file_options
from deconjugate.astro.detector import header_gain, header_read_noise
from deconjugate.astro.fingerprint import fingerprint
from deconjugate.astro.hdus import find_all_images, open_fits

SHAPE, FWHM = (31, 37), 3.2
CARDS = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRPIX1": 11.0, "CRPIX2": 9.0, "CRVAL1": 30.0}
CARDS |= {"CRVAL2": -4.0, "CD1_1": -1e-4, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 1e-4, "BUNIT": "adu", "MAGZERO": 25.0}
CARDS |= {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_1_1": 1e-5, "CCDSEC": "[1:9,1:9]", "SATURATE": 6e4}
OPTIONS = {"fwhm_pix": FWHM, "network": None, "sky": "flat"}


def star(seed=0, counts=90.0, rms=1.0):
    y, x = np.indices(SHAPE)
    profile = counts * (1.0 + ((y - 14) ** 2 + (x - 17) ** 2) / 9.85) ** -3.0  # FWHM 3.2 pixels
    return (profile + 20.0 + rms * np.random.default_rng(seed).standard_normal(SHAPE)).astype(np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(*hdus[0]), *(fits.ImageHDU(*hdu) for hdu in hdus[1:])]).writeto(path)
    return path


def check_fits(path):
    """fitsverify where it is installed: no error, no warning."""
    if shutil.which("fitsverify"):
        done = subprocess.run(["fitsverify", "-q", str(path)], capture_output=True, text=True)
        assert done.stdout.startswith("verification OK"), done.stdout


def test_every_extension_is_there_and_says_what_it_is(here):
    data = star()
    data[3, 4], data[20, 5] = np.nan, 7e4
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")
    table.add_checksum()
    primary = fits.PrimaryHDU(data, fits.Header(CARDS))
    primary.header["LONGSTRN"] = "OGIP 1.0"
    primary.header["HIERARCH ESO DET NAME"] = "chip"
    primary.add_checksum()
    fits.HDUList([primary, table]).writeto("in.fits")
    options = OPTIONS | {"uncertainty": 4, "support": True, "keep_hdus": True}
    result = deconvolve_file("in.fits", "out.fits", **options)
    with fits.open("out.fits", checksum=True) as hdus:
        names = ["PRIMARY", "SCI", "ERR", "DQ", "RESIDUAL", "PSF", "SUPPORT", "CATALOG"]
        assert [hdu.name for hdu in hdus] == names
        shapes = {hdu.name: hdu.shape for hdu in hdus[1:7]}
        fine = (62, 74)
        assert shapes == dict.fromkeys(names[1:4], fine) | {"RESIDUAL": SHAPE, "PSF": (13, 13), "SUPPORT": SHAPE}
        header = hdus["SCI"].header
        assert hdus["SCI"].data.dtype == np.dtype(">f4")
        assert hdus["ERR"].header["BUNIT"] == header["BUNIT"] == "adu"
        assert header["MAGZERO"] == 25.0
        assert not {"CCDSEC", "SATURATE"} & set(header)
        assert header["HIERARCH ESO DET NAME"] == "chip"
        assert header["UPSAMPLE"] == 2
        assert header["CONSERVE"] == "counts"
        assert header["REDCHI2"] == pytest.approx(result.reduced_chi2, abs=1e-6)
        assert header["FLUXRAT"] == pytest.approx(result.flux_ratio, abs=1e-6)
        assert header["TIKLAMB"] == pytest.approx(result.regularization, rel=1e-5)
        assert header["INFWHM"] == pytest.approx(FWHM, abs=1e-3)
        flags = hdus["DQ"].data
        assert flags[6, 8] & 9 == 1
        assert flags[40, 10] & 9 == 9
        assert flags[30, 30] & 11 == 0
        assert hdus["DQ"].header.comments["DQBIT3"] == "saturated in the input"
        native, sharp, residual = WCS(fits.getheader("in.fits")), WCS(header), WCS(hdus["RESIDUAL"].header)
        for wcs, x in ((sharp, 20.5), (WCS(hdus["DQ"].header), 20.5), (residual, 10.0)):
            np.testing.assert_allclose(wcs.all_pix2world(x, x, 0), native.all_pix2world(10.0, 10.0, 0), atol=1e-8)
        support = hdus["SUPPORT"].data
        assert support.dtype == np.uint8
        assert support[14, 17] > 0
        np.testing.assert_array_equal(support & 1 > 0, result.support[0])
        assert hdus["PSF"].data.sum() == pytest.approx(1.0, abs=1e-5)
    check_fits("out.fits")


@pytest.mark.skipif(not shutil.which("fitsverify"), reason="fitsverify (a Debian package) is not installed")
def test_fitsverify_finds_no_error_where_the_header_is_a_mess(here):
    header = fits.Header(CARDS | {"EQUINOX": 2000.0, "LTV1": 3.0, "ZBLANK": 3})
    header.append(fits.Card.fromstring("DATE-OBS= 'yesterday"))
    header.append(fits.Card.fromstring("bad key = 12"))
    header.append(fits.Card.fromstring("NUMBER  = 1,5"))
    header.add_history("cafe")
    hdu = fits.PrimaryHDU(star())
    hdu.header.extend(header.cards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu.writeto("mess.fits", output_verify="ignore")
    content = Path("mess.fits").read_bytes()
    Path("mess.fits").write_bytes(content.replace(b"MAGZERO =", b"MAG ERO =").replace(b"cafe", b"caf\xe9"))
    deconvolve_file("mess.fits", "out.fits", **OPTIONS)
    check_fits("out.fits")
    assert fits.getheader("out.fits", "SCI")["BUNIT"] == "adu"


def test_other_hdus_are_kept_only_when_asked_for(here):
    write("in.fits", (None,), (star(), fits.Header(CARDS), "SCI"), (star(1), None, "OTHER"))
    deconvolve_file("in.fits", "out.fits", **OPTIONS)
    with fits.open("out.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "DQ", "RESIDUAL", "PSF"]


def test_a_cube_is_done_plane_by_plane_and_an_empty_plane_stays_empty(here):
    cards = {k: v for k, v in CARDS.items() if k[:2] not in ("A_", "B_")} | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    cards |= {"CTYPE3": "WAVE", "CRVAL3": 5e-7, "CRPIX3": 1.0, "CD3_3": 1e-9, "CUNIT3": "m"}
    cube = np.stack([star(0), np.full(SHAPE, np.nan), star(2, counts=50.0)])
    write("cube.fits", (cube.astype(">f4"), fits.Header(cards)))
    with pytest.warns(UserWarning, match="plane 2 of cube.fits is empty and left so"):
        results = deconvolve_file("cube.fits", "out.fits", **OPTIONS)
    assert results[1] is None
    with fits.open("out.fits") as hdus:
        sharp = hdus["SCI"]
        assert sharp.shape == (3, 62, 74)
        assert np.isnan(sharp.data[1]).all()
        assert (hdus["DQ"].data[1] == 1).all()
        for k in (0, 2):
            np.testing.assert_allclose(sharp.data[k], results[k].image.data, rtol=1e-6)
            assert hdus["RESIDUAL"].data[k].std() == pytest.approx(1.0, abs=0.1)
        wcs = WCS(sharp.header)
        sky = wcs.all_pix2world([[20.5, 20.5, 2]], 0)[0]
        np.testing.assert_allclose(sky[:2], WCS(fits.Header(cards)).all_pix2world([[10, 10, 2]], 0)[0][:2], atol=1e-9)
        assert sky[2] == pytest.approx(5.02e-7)
        history = str(sharp.header["HISTORY"])
        assert "plane 2: no data" in history
        assert "plane 3: lambda" in history
    check_fits("out.fits")
    alone = deconvolve_file(write("one.fits", (cube[2],)), "one_out.fits", **OPTIONS)
    np.testing.assert_allclose(alone.image.data, results[2].image.data, rtol=1e-5)


def test_a_cube_of_nothing_and_a_third_axis_askew(here):
    write("cube.fits", (np.full((2, *SHAPE), np.nan, np.float32),))
    with pytest.warns(UserWarning, match="is empty"), pytest.raises(ValueError, match=r"no plane of .* holds"):
        deconvolve_file("cube.fits", "out.fits", **OPTIONS)
    with pytest.warns(UserWarning, match=r"not at right angles to the sky \(CD1_3\)"):
        with_third_axis(fits.Header({"WCSAXES": 2}), fits.Header({"CD1_3": 1e-3, "CTYPE3": "WAVE"}))


def test_all_images_of_a_file_with_their_own_noise(here):
    hdus = [(None,)]
    for k in (1, 2):
        hdus += [(star(k, rms=k), fits.Header(CARDS), "SCI"), (np.full(SHAPE, k, np.float32), None, "ERR")]
    path = write("two.fits", *hdus)
    with fits.open(path, mode="update") as opened:
        opened[3].ver = opened[4].ver = 2
    results = deconvolve_file(path, "out.fits", all_ext=True, noise="ERR", keep_hdus=True, **OPTIONS)
    with fits.open("out.fits") as out:
        assert [(hdu.name, hdu.ver) for hdu in out[1:]] == [
            (n, k) for k in (1, 2) for n in ("SCI", "DQ", "RESIDUAL", "PSF")
        ]
        assert out["SCI", 2].header["SRCEXT"] == "SCI,2"
        for k in (1, 2):
            assert out["RESIDUAL", k].data.std() == pytest.approx(1.0, abs=0.1)
    assert len(results) == 2
    alone = deconvolve_file(path, "second.fits", ext="sci,2", noise="err", **OPTIONS)
    np.testing.assert_allclose(alone.image.data, results[1].image.data, rtol=1e-5)
    with pytest.raises(ValueError, match="ext is 1 and all_ext is set"):
        file_options(ext=1, all_ext=True, fwhm_pix=3.0)


def test_what_counts_as_an_image_of_a_file(here):
    names = ["im1", "ERR", "bpm", "im2", "weight", "mine"]
    path = write("chips.fits", (None,), *((star(), None, name) for name in names))
    with open_fits(path) as hdus:
        assert find_all_images(hdus, path, ("mine", None)) == [1, 4]
    path = write("masks.fits", (None,), (star(), None, "DQ"))
    with open_fits(path) as hdus, pytest.raises(ValueError, match="holds no 2-D image"):
        find_all_images(hdus, path)


@pytest.mark.parametrize("form", ["gz", "fz", "scaled", "big-endian", "double"])
def test_the_same_image_in_every_form(here, form):
    data = np.round(10.0 * star()).astype(np.int16)
    write("plain.fits", (data.astype(np.float32),))
    if form == "gz":
        Path("x.fits.gz").write_bytes(gzip.compress(Path("plain.fits").read_bytes()))
        path = "x.fits.gz"
    elif form == "fz":
        path = "x.fits.fz"
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type="RICE_1")]).writeto(path)
    elif form == "scaled":
        path = "x.fits"
        hdu = fits.PrimaryHDU(data.astype(np.float64))
        hdu.scale("int32", bscale=0.5, bzero=100.0)
        hdu.writeto(path)
    else:
        path = write("x.fits", (data.astype(">i2" if form == "big-endian" else ">f8"),))
    expected = deconvolve_file("plain.fits", "plain_out.fits", **OPTIONS)
    result = deconvolve_file(path, "out.fits", **OPTIONS)
    np.testing.assert_allclose(result.image.data, expected.image.data, rtol=1e-3, atol=1e-2)


def test_bits_of_a_mask(here):
    flags = np.zeros(SHAPE, np.int16)
    flags[2, 3], flags[4, 5], flags[6, 7] = 1, 4, 6
    write("in.fits", (star(),), (flags, None, "DQ"), (flags + 0.5, None, "ODD"))
    assert np.argwhere(read_image("in.fits", mask="DQ", bad_bits=5).mask).tolist() == [[2, 3], [4, 5], [6, 7]]
    assert np.argwhere(read_image("in.fits", mask="DQ", bad_bits=3).mask).tolist() == [[2, 3], [6, 7]]
    with pytest.raises(ValueError, match="the mask ODD does not hold whole numbers"):
        read_image("in.fits", mask="ODD", bad_bits=1)


def test_weights_are_relative_and_inverse_variances_are_not(here):
    rms = np.full(SHAPE, 1.0, np.float32)
    rms[:, 20:] = 2.0
    weight = rms**-2.0
    weight[5, 6] = 0.0
    data = star(3) + (rms - 1.0) * np.random.default_rng(4).standard_normal(SHAPE).astype(np.float32)
    write("in.fits", (data,), (7.0 * weight, None, "WHT"), (weight, None, "IVAR"), (rms**2, None, "VAR"))
    results = {}
    for name in ("WHT", "IVAR", "VAR"):
        results[name] = deconvolve_file("in.fits", f"{name}.fits", noise=name, **OPTIONS)
    assert results["IVAR"].reduced_chi2 == pytest.approx(1.0, abs=0.3)
    assert results["WHT"].reduced_chi2 == pytest.approx(results["IVAR"].reduced_chi2, rel=0.4)
    assert fits.getdata("WHT.fits", "DQ")[10, 12] & 1
    assert fits.getdata("VAR.fits", "DQ")[10, 12] == 0
    assert "noise WHT, weight times" in str(fits.getheader("WHT.fits", "SCI")["HISTORY"])
    write("none.fits", (data,), (0.0 * weight, None, "WHT"))
    with pytest.raises(ValueError, match="no pixel of the image is good"):
        deconvolve_file("none.fits", "none_out.fits", noise="WHT", **OPTIONS)


def test_a_filled_border_is_masked_with_a_warning(here):
    data = np.zeros((130, 140), np.float32)
    data[:, :96] = 5.0 + np.random.default_rng(1).standard_normal((130, 96))
    write("in.fits", (data,))
    with pytest.warns(UserWarning, match="5[0-9]{3} pixels in patches of one value are masked"):
        deconvolve_file("in.fits", "out.fits", fwhm_pix=FWHM, network=None)
    flags = fits.getdata("out.fits", "DQ")
    assert flags[100, 270] & 1
    assert not flags[100, 50] & 1


@pytest.mark.parametrize(
    ("cards", "unit", "gain"),
    [
        ({"GAIN": 2.0}, "adu", 2.0),
        ({"GAIN": 2.0, "EGAIN": 3.0}, "", 3.0),
        ({"GAIN": 0.0}, "adu", None),
        ({"GAIN": "high"}, "adu", None),
        ({"GAIN": 2.0}, "electron", 1.0),
        ({"GAIN": 2.0, "EXPTIME": 30.0}, "electron / s", 30.0),
        ({"GAIN": 2.0, "EXPTIME": 30.0}, "ct / s", 60.0),
        ({"GAIN": 2.0}, "ct / s", None),
        ({"GAIN": 2.0}, "nJy", None),
        ({}, "adu", None),
    ],
)
def test_gain_of_the_header(cards, unit, gain):
    assert header_gain(cards, u.Unit(unit)) == gain
    assert header_read_noise(cards | {"RDNOISE": 6.0}, gain) == (0.0 if gain is None else 6.0 / gain)


def test_the_gain_of_the_header_is_used_and_said(here):
    write("in.fits", (star(), fits.Header({"GAIN": 1.5})))
    deconvolve_file("in.fits", "with.fits", gain="header", **OPTIONS)
    assert "noise measured, gain 1.5;" in str(fits.getheader("with.fits", "SCI")["HISTORY"])
    deconvolve_file("in.fits", "without.fits", **OPTIONS)
    assert "noise measured, gain None;" in str(fits.getheader("without.fits", "SCI")["HISTORY"])


def test_a_result_is_known_by_what_it_was_made_from(here):
    write("in.fits", (star(),))
    key = fingerprint("in.fits", file_options(**OPTIONS))
    assert key == fingerprint(here / "in.fits", file_options(**OPTIONS, overwrite=True, qa="page.png", progress=True))
    shutil.copy("in.fits", "copy.fits")
    assert key == fingerprint("copy.fits", file_options(**OPTIONS))
    assert key != fingerprint("in.fits", file_options(**OPTIONS, upsample=3))
    assert key != fingerprint(write("other.fits", (star(5),)), file_options(**OPTIONS))
    assert fingerprint("in.fits", file_options(psf=PSF.moffat(3.0))) is None
    deconvolve_file("in.fits", "out.fits", **OPTIONS)
    assert fits.getheader("out.fits", "SCI")["DCKEY"] == key


def test_cards_that_no_reader_takes_are_left_out():
    header = fits.Header({"OBJECT": "M 13", "NAXIS3": 4, "TRIMSEC": "[1:2,1:2]", "BLANK": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.append(fits.Card.fromstring("wrong key = 1"))
        header.append(fits.Card.fromstring("HISTORY caf\xe9".ljust(80)))
        assert list(derived_header(header)) == ["OBJECT"]


def test_an_image_that_does_not_explain_the_data_says_so(tmp_path):
    y, x = np.mgrid[:64, :70]
    star = 1e4 * np.exp(-0.5 * ((y - 30) ** 2 + (x - 33) ** 2) / 0.8**2)
    fits.PrimaryHDU((star + np.random.default_rng(0).standard_normal(star.shape)).astype(np.float32)).writeto(
        tmp_path / "sharp.fits"
    )
    with pytest.warns(UserWarning, match="does not explain the data .* the PSF is too wide, or bright pixels"):
        deconvolve_file(tmp_path / "sharp.fits", tmp_path / "out.fits", fwhm_pix=4.5, network=None)


def test_pixels_sharper_than_the_psf_are_warned_of(here):
    hot = star()
    hot[10, 12] += 60.0
    write("hot.fits", (hot,))
    with pytest.warns(UserWarning, match=r"^\d pixels are off by more than 10 sigma .* cosmic rays, hot or saturated"):
        deconvolve_file("hot.fits", "out.fits", **OPTIONS)


def test_a_noise_of_another_kind_is_warned_of(here):
    write("in.fits", (star(),))
    write("noise.fits", (np.full(SHAPE, 200.0, np.float32),))
    with pytest.warns(
        UserWarning, match=r"given is far above that of the image \(reduced chi2 0.0\d+\): is it of another"
    ):
        deconvolve_file("in.fits", "out.fits", noise="noise.fits", **OPTIONS)
    write("quiet.fits", (np.full(SHAPE, 0.01, np.float32),))
    with pytest.warns(UserWarning, match="noise given: is it of|does not explain the data") as caught:
        deconvolve_file("in.fits", "out2.fits", noise="quiet.fits", **OPTIONS)
    assert any("times as much as the noise given: is it of another kind" in str(one.message) for one in caught)


@pytest.mark.parametrize("exponent", [-28, -18, 27])
def test_numbers_whose_squares_single_precision_cannot_hold(here, exponent):
    """Fluxes in erg s-1 cm-2, say."""
    factor = np.float32(10.0**exponent)
    results = []
    for name, data in (("one", star(counts=900.0)), ("other", factor * star(counts=900.0))):
        write(f"{name}.fits", (data,), (np.full(SHAPE, data.max() / 900, np.float32), None, "ERR"))
        noise = "ERR" if exponent < 0 else None  # 1e15 and more stands for no data
        results.append(deconvolve_file(f"{name}.fits", f"{name}_out.fits", noise=noise, **OPTIONS))
    images = [fits.getdata(f"{name}_out.fits", "SCI") for name in ("one", "other")]
    assert images[1].dtype == np.dtype(">f4")
    assert np.abs(images[1] / factor - images[0]).max() < 0.02 * images[0].max()
    assert results[1].reduced_chi2 == pytest.approx(results[0].reduced_chi2, rel=0.02)


def test_magnitudes_and_a_saturation_below_everything_are_refused(here):
    write("mag.fits", (star(), fits.Header({"BUNIT": "mag"})))
    with pytest.raises(ValueError, match=r"mag\.fits is in mag \(BUNIT\), a logarithm: make it counts"):
        deconvolve_file("mag.fits", "out.fits", **OPTIONS)
    write("low.fits", (star(), fits.Header({"SATURATE": 1.0})))
    with pytest.raises(ValueError, match=r"every pixel is 1 or more, the saturation level \(SATURATE of the header\)"):
        deconvolve_file("low.fits", "out.fits", **OPTIONS)
    with pytest.raises(ValueError, match=r"every pixel is 2 or more, the saturation level \(--saturation\); give"):
        deconvolve_file("low.fits", "out.fits", saturation=2.0, **OPTIONS)
