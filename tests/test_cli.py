"""The command line: what it writes, and how it fails."""

import importlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from deconjugate.astro import PSF, read_image
from deconjugate.astro.cli import main
from deconjugate.astro.deconvolve_file import deconvolve_file
from deconjugate.astro.reporting import one_line
from deconjugate.operators.convolution import Binning, Convolution

SKY, RMS, FWHM = 50.0, 2.0, 3.2
STARS = [(21, 30, 4000.0), (70, 84, 9000.0), (55, 41, 2500.0)]  # fine row, fine column, counts
CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.0, "CRPIX2": 18.0, "CRVAL1": 30.0, "CRVAL2": -4.0}
CARDS |= {"CDELT1": -1e-4, "CDELT2": 1e-4, "BUNIT": "adu"}
SHAPE = (47, 53)


@pytest.fixture(scope="module")
def frame():
    """A noisy frame of three stars on a flat sky."""
    fine = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]))
    for row, column, counts in STARS:
        fine[row, column] = counts
    blur = Binning(fine.shape, 2) @ Convolution(fine.shape, PSF.moffat(FWHM).fine(2))
    noise = RMS * np.random.default_rng(3).standard_normal(SHAPE)
    return (blur.apply(fine) + SKY + noise).astype(np.float32)


@pytest.fixture
def field(tmp_path, frame, monkeypatch):
    """A FITS file of the frame, in a folder of its own that is the current one."""
    monkeypatch.chdir(tmp_path)
    fits.PrimaryHDU(frame, fits.Header(CARDS)).writeto("field.fits")
    return "field.fits"


@pytest.fixture
def rich(field, frame):
    """The frame with its noise, flags and a catalogue, all in one file."""
    flags = np.zeros(SHAPE, np.int16)
    flags[5:8, 9] = 1
    data = frame.copy()
    data[30, 30] = np.nan
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")
    hdus = [fits.PrimaryHDU(header=fits.Header({"TELESCOP": "some dome"}))]
    hdus += [fits.ImageHDU(data, fits.Header(CARDS), name="SCI"), fits.ImageHDU(np.full(SHAPE, RMS), name="ERR")]
    fits.HDUList([*hdus, fits.ImageHDU(flags, name="DQ"), table]).writeto("rich.fits")
    return "rich.fits"


def scatter(residual):
    """Of the bulk of the pixels: in units of sigma, whatever the brightest star leaves."""
    return 1.4826 * np.median(np.abs(residual))


def run(*arguments):
    return main(["deconvolve", *map(str, arguments)])


def test_a_frame_is_sharpened_with_its_flux_sky_and_positions(field, capsys):
    assert run(field, "--fwhm-pix", FWHM, "--no-network") == 0
    out, err = capsys.readouterr()
    assert out.startswith("field_deconvolved.fits: 106 x 94 pixels, reduced chi2 ")
    assert err == ""
    assert sorted(os.listdir()) == ["field.fits", "field_deconvolved.fits"]
    sharp = read_image("field_deconvolved.fits")
    assert sharp.shape == (94, 106)
    light = sharp.data - SKY / 4
    wcs, native = sharp.wcs, WCS(fits.Header(CARDS))
    for row, column, counts in STARS:
        window = np.s_[row - 9 : row + 10, column - 9 : column + 10]
        assert light[window].sum() == pytest.approx(counts, rel=0.05)
        peak = np.unravel_index(np.argmax(light[window]), (19, 19))
        assert peak == (9, 9)
        sky = wcs.pixel_to_world_values(column, row)
        np.testing.assert_allclose(sky, native.pixel_to_world_values((column - 0.5) / 2, (row - 0.5) / 2), atol=1e-6)
    with fits.open("field_deconvolved.fits") as hdus:
        assert [hdu.name for hdu in hdus][:2] == ["PRIMARY", "SCI"]
        assert {"RESIDUAL", "PSF"} <= {hdu.name for hdu in hdus}
        assert hdus["SCI"].header["BITPIX"] == -32
        assert hdus["SCI"].header["BUNIT"] == "adu"
        history = " ".join(hdus["SCI"].header["HISTORY"])
        for word in (
            "deconjugate 0",
            "field.fits",
            "Moffat, FWHM 3.200 pixels",
            "counts conserved",
            "k_sigma",
            "lambda",
            "chi^2",
        ):
            assert word in history
        assert hdus["RESIDUAL"].shape == SHAPE
        assert scatter(hdus["RESIDUAL"].data) == pytest.approx(1.0, abs=0.1)
        assert hdus["PSF"].data.sum() == pytest.approx(1.0, abs=1e-5)


def test_noise_mask_psf_file_and_page(rich, capsys):
    fits.PrimaryHDU(PSF.moffat(FWHM).fine(1)).writeto("psf.fits")
    options = [
        "--psf",
        "psf.fits",
        "--noise",
        "err",
        "--mask",
        "DQ",
        "--qa",
        "page.png",
        "-o",
        "out.fits",
        "--no-network",
        "--keep-hdus",
    ]
    assert run(rich, *options) == 0
    assert Path("page.png").read_bytes()[:4] == b"\x89PNG"
    with fits.open("out.fits") as hdus:
        assert "CATALOG" in hdus
        assert [hdu.name for hdu in hdus].count("DQ") == 1
        assert hdus["SCI"].header["TELESCOP"] == "some dome"
        assert np.isfinite(hdus["SCI"].data).all()
        residual = hdus["RESIDUAL"].data
    assert scatter(residual) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("unit", ["MJy/sr", "JY/BEAM"])
def test_surface_brightness_stays_surface_brightness(unit, field, frame):
    cards = fits.Header(CARDS | {"BUNIT": unit, "PIXAR_SR": 4e-12})
    fits.PrimaryHDU(frame, cards).writeto("sb.fits")
    assert run("sb.fits", "--fwhm", FWHM * 0.36, "--no-network", "--quiet", "-o", "sb_out.fits", "--qa", "sb.svg") == 0
    assert "<svg" in Path("sb.svg").read_text()
    with fits.open("sb_out.fits") as hdus:
        assert np.median(hdus["SCI"].data) == pytest.approx(SKY, abs=1.0)
        assert hdus["SCI"].header["PIXAR_SR"] == pytest.approx(1e-12)
        assert "surface brightness conserved" in " ".join(hdus["SCI"].header["HISTORY"])


def test_saturated_and_impossible_pixels_are_masked(field, frame):
    data = frame.copy()
    data[12:14, 40] = -300.0
    fits.PrimaryHDU(data, fits.Header(CARDS | {"SATURATE": 300.0})).writeto("sat.fits")
    bad = (data >= 300.0) | (data < -200.0)
    assert np.count_nonzero(bad) > 5
    assert run("sat.fits", "--fwhm-pix", FWHM, "--no-network", "-o", "one.fits") == 0
    with fits.open("one.fits") as hdus:
        np.testing.assert_array_equal(hdus["DQ"].data[::2, ::2] & 1 > 0, bad)
        np.testing.assert_array_equal(hdus["DQ"].data[1::2, 1::2] & 1 > 0, bad)
        np.testing.assert_array_equal(hdus["DQ"].data[1::2, ::2] & 8 > 0, data >= 300.0)
        assert np.isfinite(hdus["SCI"].data).all()
        assert f"saturation 300.0: {np.count_nonzero(bad)} bad pixels" in " ".join(hdus["SCI"].header["HISTORY"])
    assert run("sat.fits", "--fwhm-pix", FWHM, "--no-network", "-o", "two.fits", "--saturation", "1e5") == 0
    assert np.count_nonzero(fits.getdata("two.fits", "DQ") & 1) == 8


def test_the_network_and_the_uncertainty(field, capsys):
    assert run(field, "--fwhm-pix", FWHM, "--uncertainty", 4, "-o", "out.fits") == 0
    with fits.open("out.fits") as hdus:
        history = " ".join(hdus["SCI"].header["HISTORY"])
        assert "network weights: swin-unet.safetensors, sha256 " in history
        error = hdus["ERR"].data
        assert error.shape == hdus["SCI"].shape
        assert (error > 0).all()
    capsys.readouterr()
    assert run(field, "--fwhm-pix", FWHM, "--network", "other.safetensors", "-o", "none.fits") == 1
    message = capsys.readouterr().err
    assert "other.json does not exist" in message
    assert "--no-network" in message
    assert message.count("\n") == 1
    assert not os.path.exists("none.fits")


def test_names_beyond_ascii(field):
    Path(field).rename("champ été.fits")
    assert run("champ été.fits", "--fwhm-pix", FWHM, "--no-network", "--quiet") == 0
    assert "champ ?t?.fits" in str(fits.getheader("champ été_deconvolved.fits", "SCI")["HISTORY"])


def test_a_result_that_is_not_finite_is_not_written(field, monkeypatch, capsys):
    module = importlib.import_module("deconjugate.astro.deconvolve")
    honest = module.deconvolve

    def broken(*args, **kwargs):
        result = honest(*args, **kwargs)
        result.image.data[3, 4] = np.nan
        return result

    monkeypatch.setattr(module, "deconvolve", broken)
    assert "the result is not finite" in failure(capsys, field, "--fwhm-pix", FWHM)


def test_from_python_the_psf_is_given_once(field):
    with pytest.raises(ValueError, match="2 of psf, fwhm_arcsec and fwhm_pix are given; give one"):
        deconvolve_file(field, "out.fits", psf=PSF.moffat(3.0), fwhm_pix=3.0)
    result = deconvolve_file(field, "out.fits", psf=PSF.moffat(FWHM), network=None)
    np.testing.assert_allclose(fits.getdata("out.fits", "SCI"), result.image.data, rtol=1e-6)


def test_interrupt_leaves_nothing(field, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    # The name deconjugate.astro.deconvolve is the function; its module has to be asked for.
    monkeypatch.setattr(importlib.import_module("deconjugate.astro.deconvolve"), "deconvolve", interrupted)
    assert run(field, "--fwhm-pix", 3) == 130
    assert capsys.readouterr().err == "deconjugate: interrupted, nothing written\n"
    assert os.listdir() == ["field.fits"]


def contents():
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def failure(capsys, *arguments):
    """The one line of a command that could not do it."""
    before = contents()
    assert run(*arguments, "--no-network") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert contents() == before
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.fits", "--fwhm-pix", 3], "no such file: nothing.fits"),
        (["notes.txt", "--fwhm-pix", 3], "notes.txt is not a FITS file"),
        (["cut.fits", "--fwhm-pix", 3], "cut.fits is truncated"),
        (
            ["table.fits", "--fwhm-pix", 3],
            "table.fits holds no 2-D image; it has 0 PRIMARY no image, 1 CATALOG",
        ),
        (["field.fits", "--ext", "SCI", "--fwhm-pix", 3], "no extension 'SCI'; it has 0 PRIMARY (53, 47)"),
        (
            ["field.fits", "--noise", "RMS", "--fwhm-pix", 3],
            "no file RMS, and field.fits has no extension 'RMS'",
        ),
        (["field.fits", "--psf", "nothing.psf"], "no such file: nothing.psf"),
        (["field.fits", "--psf", "zero.fits"], "the PSF in zero.fits is all zero"),
        (["field.fits", "--psf", "negative.fits"], "the PSF in negative.fits has the sum -25"),
        (["field.fits", "--psf", "nan.fits"], "the PSF in nan.fits holds 25 NaN"),
        (["field.fits", "--psf", "table.fits"], "neither a 2-D image nor a PSFEx model"),
        (["plain.fits", "--fwhm", 1], "no sky coordinates to turn arcsec into pixels"),
        (["field.fits", "--fwhm-pix", 1.0], "a pixel alone shows a width of 1.13"),
        (["field.fits", "--fwhm-pix", 3, "-o", "absent/out.fits"], "absent of the output does not exist"),
        (["field.fits", "--fwhm-pix", 3, "-o", "precious.fits"], "precious.fits exists; choose another output"),
        (["field.fits", "--fwhm-pix", 3, "--qa", "precious.png"], "precious.png exists; choose another output"),
        (["field.fits", "--fwhm-pix", 3, "--qa", "page.doc"], "page.doc must end in .png, .pdf or .svg"),
        (["field.fits", "--fwhm-pix", 200], "the PSF is larger than the image: its FWHM is 400 fine pixels"),
        (["field.fits", "--fwhm-pix", 3, "-o", "./field.fits", "--overwrite"], "./field.fits is an input"),
        (
            ["field.fits", "--fwhm-pix", 3, "-o", "a.png", "--qa", "./a.png"],
            "the page and the output are the same file",
        ),
        (["field.fits", "--fwhm-pix", 3, "-o", "."], "is not a plain file"),
        (["dark.fits", "--fwhm-pix", 3], "no pixel of the image is good"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(field, frame, capsys, arguments, message):
    Path("notes.txt").write_text("not an image")
    Path("cut.fits").write_bytes(Path(field).read_bytes()[:7000])
    fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.arange(3.0))], name="CATALOG").writeto("table.fits")
    shapes = {"zero": np.zeros((5, 5)), "negative": -np.ones((5, 5)), "nan": np.full((5, 5), np.nan)}
    shapes |= {"huge": PSF.gaussian(60.0).fine(1), "plain": frame, "dark": np.full(SHAPE, np.nan)}
    for name, array in shapes.items():
        fits.PrimaryHDU(array).writeto(f"{name}.fits")
    for name in ("precious.fits", "precious.png"):
        Path(name).write_text("precious")
    assert message in failure(capsys, *arguments)


def test_full_disk_keeps_the_old_output(field, monkeypatch, capsys):
    Path("out.fits").write_text("precious")

    def full(self, name, *args, **kwargs):
        Path(name).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.HDUList, "writeto", full)
    line = failure(capsys, field, "--fwhm-pix", FWHM, "-o", "out.fits", "--overwrite")
    assert "No space left on device" in line
    assert sorted(os.listdir()) == ["field.fits", "out.fits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required"),
        (["deconvolve"], "the following arguments are required: IMAGE.fits"),
        (["sharpen", "a.fits"], "invalid choice: 'sharpen'"),
        (["deconvolve", "a.fits"], "give the PSF by one of --psf, --fwhm and --fwhm-pix"),
        (["deconvolve", "a.fits", "--psf", "p.fits", "--fwhm", "1"], "give the PSF by one of"),
        (["deconvolve", "a.fits", "--psf", "p.fits", "--beta", "3"], "--beta belongs to --fwhm"),
        (["deconvolve", "a.fits", "--fwhm", "1", "--beta", "1"], "'1' is not a number above 1"),
        (["deconvolve", "a.fits", "--fwhm", "-1"], "'-1' is not a positive number"),
        (["deconvolve", "a.fits", "--fwhm", "nan"], "'nan' is not a positive number"),
        (["deconvolve", "a.fits", "--fwhm", "1", "--upsample", "1.5"], "'1.5' is not a whole number"),
        (["deconvolve", "a.fits", "--fwhm", "1", "--upsample", "0"], "'0' is not a whole number"),
        (["deconvolve", "a.fits", "--fwhm", "1", "--k-sigma", "x"], "'x' is not a positive number"),
        (["deconvolve", "a.fits", "--fwhm", "1", "--noise-type", "rms"], "--noise-type belongs to --noise"),
        (
            ["deconvolve", "a.fits", "--fwhm", "1", "--noise", "ERR", "--gain", "2"],
            "--gain belongs to a measured",
        ),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_debug_shows_the_traceback(field):
    with pytest.raises(FileNotFoundError, match="no such file"):
        run("nothing.fits", "--fwhm-pix", 3, "--debug")


def test_help_and_version_load_nothing_heavy(capsys):
    code = (
        "import sys\nfrom deconjugate.astro.cli import main\n"
        "try:\n    main(['deconvolve', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'numba', 'numpy', 'scipy', 'astropy', 'photutils'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--k-sigma" in done.stdout
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("deconjugate 0.")


def test_the_console_command_is_installed(tmp_path):
    command = os.path.join(sysconfig.get_path("scripts"), "deconjugate")
    done = subprocess.run(
        [command, "deconvolve", "nothing.fits", "--fwhm", "1"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr == "deconjugate: error: no such file: nothing.fits\n"
    assert done.stdout == ""


def test_wrong_usage_is_said_in_two_lines(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["deconvolve", "a.fits", "--fwhm", "wide"])
    said = "argument --fwhm: 'wide' is not a positive number\nTry `deconjugate deconvolve --help`.\n"
    assert capsys.readouterr().err == f"deconjugate deconvolve: error: {said}"
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.endswith("required: COMMAND\nTry `deconjugate --help`.\n")


def test_a_reader_that_goes_away_is_no_error():
    command = ["deconvolve", "no.fits", "--fwhm", "1", "--json"]
    block = f"import sys; from deconjugate.astro.cli import main; sys.exit(main({command}))"
    process = subprocess.Popen([sys.executable, "-c", block], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert said == "deconjugate: error: no such file: no.fits\n"


def test_what_the_system_refuses_is_said_in_words():
    assert one_line(PermissionError(13, "Permission denied", "night/sharp")) == "night/sharp: permission denied"
    assert one_line(OSError("the disk is full")) == "the disk is full"
