"""``deconjugate deconvolve --match``: bands of one object in files."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deconjugate.astro import PSF, simulate
from deconjugate.astro.band_files import deconvolve_band_files
from deconjugate.astro.cli import main

SCALE = 0.26  # arcsec per pixel
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.0, "CRPIX2": 15.0, "CRVAL1": 30.0, "CRVAL2": -4.0}
SKY |= {"CDELT1": -SCALE / 3600, "CDELT2": SCALE / 3600, "MAGZERO": 25.0}
BANDS = {"g": (4.2, 0.7), "r": (3.0, 1.0), "i": (3.4, 1.1)}  # FWHM and light
NAMES = [f"{band}.fits" for band in BANDS]
SHARP = [f"out/{band}_deconvolved.fits" for band in BANDS]
WIDTHS = [width for width, _ in BANDS.values()]


def write(name, data, **cards):
    fits.PrimaryHDU(data.astype(np.float32), fits.Header(SKY | cards)).writeto(name, overwrite=True)


@pytest.fixture
def bands(tmp_path, monkeypatch):
    """Three bands of a disc with a clump at (48, 66) of the fine grid."""
    monkeypatch.chdir(tmp_path)
    y, x = np.indices((90, 118))
    sky = np.exp(-np.hypot(x - 52, 1.6 * (y - 43)) / 8.0) + 0.7 * np.exp(-0.5 * ((y - 48) ** 2 + (x - 66) ** 2))
    for seed, (band, (width, light)) in enumerate(BANDS.items()):
        write(f"{band}.fits", simulate(light * sky, PSF.moffat(width), peak_snr=80, background=5.0, seed=seed).data)


def run(*args):
    return main(["deconvolve", *(str(arg) for arg in args)])


def match(*args, widths=WIDTHS):
    return run(*NAMES, "--match", "--fwhm-pix", *widths, "--no-network", "--sky", "flat", "--output-dir", "out", *args)


def test_bands_come_out_alike_and_say_so(bands, capsys):
    assert match() == 0
    assert "3 done" in capsys.readouterr().out
    sums = []
    for number, name in enumerate(SHARP, 1):
        with fits.open(name) as hdus:
            header, image = hdus["SCI"].header, hdus["SCI"].data
            sums.append(image[46:51, 64:69].sum() - 25 * np.median(image))
            assert header["NBANDS"] == 3
            assert header["TGTARCS"] == pytest.approx(SCALE)
            assert header[f"BAND{number}"] == NAMES[number - 1]
            assert [header[f"BFWHM{n}"] for n in (1, 2, 3)] == pytest.approx([SCALE * w for w in WIDTHS], abs=1e-3)
            assert "shape shared by 3 bands" in str(header["HISTORY"])
    g, r, i = sums
    assert abs(g / r / 0.7 - 1.0) < 0.1
    assert abs(i / r / 1.1 - 1.0) < 0.1


def test_a_file_of_the_psf_for_each_or_one_for_all(bands, capsys):
    for band, (width, _) in BANDS.items():
        fits.PrimaryHDU(PSF.moffat(width, includes_pixel=False).fine(1, max_size=31)).writeto(f"{band}.psf.fits")
    psfs = [f"{band}.psf.fits" for band in BANDS]
    given = [*NAMES, "--match", "--no-network", "--quiet"]
    assert run(*given, "--psf", *psfs, "--output-dir", "out") == 0
    widths = [fits.getval(name, "INFWHM", "SCI") for name in SHARP]
    assert widths[1] < widths[2] < widths[0]
    assert run(*given, "--psf", psfs[0], "--output-dir", "one") == 0
    alike = [fits.getval(name.replace("out", "one"), "INFWHM", "SCI") for name in SHARP]
    assert alike == [widths[0]] * 3


def test_resume_does_all_bands_anew_where_one_has_changed(bands, capsys):
    assert match("--quiet") == 0
    first = [Path(name).read_bytes() for name in SHARP]
    assert match("--resume", "--json") == 0
    assert {json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()} == {"skipped"}
    Path(SHARP[1]).unlink()  # as an interrupt leaves it
    assert match("--resume", "--quiet") == 0
    assert [Path(name).read_bytes() for name in SHARP] == first
    assert match("--resume", "--quiet", widths=[4.0, 3.0, 3.4]) == 1
    assert "exists; choose another output" in capsys.readouterr().err


def test_dry_run_writes_nothing_and_finds_what_does_not_fit(bands, capsys):
    assert match("--dry-run") == 0
    assert capsys.readouterr().out.count("would take") == 3
    write("i.fits", np.ones((45, 59)), CDELT1=-2 * SCALE / 3600)
    assert match("--dry-run") == 0
    assert "i.fits is resampled to the pixels of g.fits" in capsys.readouterr().err
    write("i.fits", np.ones((45, 59)), CRVAL1=200.0)
    assert match("--dry-run") == 1
    assert not Path("out").exists()
    assert "i.fits cannot be brought to the pixels of g.fits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"CRVAL1": 30.1}, "i.fits cannot be brought to the pixels of g.fits: the images do not overlap"),
        ({"CRVAL1": 210.0, "CRVAL2": 4.0}, "i.fits cannot be brought to the pixels of g.fits: the images lie on"),
        ({"shape": (45, 58), "CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "i.fits is (58, 45) pixels, g.fits (59, 45)"),
        ({"shape": (2, 45, 59)}, "i.fits holds several images or a cube; bands are matched one image each"),
    ],
)
def test_bands_that_do_not_fit_are_refused_and_none_is_written(bands, capsys, change, said):
    shape = change.pop("shape", (45, 59))
    write("i.fits", np.random.default_rng(1).standard_normal(shape), **change)
    assert match() == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("not done, since the bands are matched or none is") == 2
    assert not list(Path("out").iterdir())


def test_bands_have_the_deviations_of_their_pixels(bands):
    assert match("--uncertainty", 4, "--quiet") == 0
    for name in SHARP:
        with fits.open(name) as hdus:
            image, error = hdus["SCI"].data, hdus["ERR"].data
        assert (error > 0).all()
        assert error.shape == image.shape
        assert error[42, 52] > 1.1 * np.median(error)  # light has its own error


@pytest.mark.filterwarnings("default")
def test_bands_on_other_pixels_are_brought_to_the_finest(bands, capsys):
    """The i band observed with pixels 1.3 times as large, turned by a right angle and cut."""
    scale = 1.3 * SCALE
    cards = {"CDELT1": 0.0, "CDELT2": 0.0, "CRPIX1": 21.0, "CRPIX2": 17.0}
    row, column = (p * 1.3 for p in (np.arange(4 * 38) / 4 - 16.0 - 0.375, np.arange(4 * 40) / 4 - 20.0 - 0.375))
    # Its rows run along the columns of the others.
    down, right = np.meshgrid(row, column, indexing="ij")
    fine_x, fine_y = (2 * (p + c) + 0.5 for p, c in ((down, 19.0), (-right, 14.0)))
    sky = np.exp(-np.hypot(fine_x - 52, 1.6 * (fine_y - 43)) / 8.0)
    sky += 0.7 * np.exp(-0.5 * ((fine_y - 48) ** 2 + (fine_x - 66) ** 2))
    sky *= 1.1 * (1.3 * 2 / 4) ** 2
    seen = simulate(sky, PSF.moffat(3.4 / 1.3), upsample=4, peak_snr=80, background=5.0, seed=2)
    turned = {"CD1_1": 0.0, "CD1_2": -scale / 3600, "CD2_1": -scale / 3600, "CD2_2": 0.0}
    turned |= {"PIXSCALE": scale}
    header = fits.Header({k: v for k, v in (SKY | cards | turned).items() if not k.startswith("CDELT")})
    fits.PrimaryHDU(seen.data.astype(np.float32), header).writeto("i.fits", overwrite=True)
    assert match(widths=[4.2, 3.0, 3.4 / 1.3]) == 0
    assert "i.fits is resampled to the pixels of g.fits: its noise is correlated" in capsys.readouterr().err
    images, sums = [], []
    for name in SHARP:
        with fits.open(name) as hdus:
            image = hdus["SCI"].data
            assert image.shape == (90, 118)
            images.append(hdus["SCI"].header)
            sums.append(image[46:51, 64:69].sum() - 25 * np.median(image))
    assert abs(sums[2] / sums[1] / 1.1 - 1.0) < 0.15
    assert images[2]["PIXSCALE"] == pytest.approx(SCALE / 2, rel=1e-5)
    assert images[2]["CRPIX1"] == images[0]["CRPIX1"]
    assert images[2]["BFWHM3"] == pytest.approx(3.4 * SCALE, rel=0.01)
    assert "resampled" in str(images[2]["HISTORY"])


def test_an_output_that_is_an_input_of_another_band_is_refused(bands, capsys):
    Path("out").mkdir()
    Path(SHARP[0]).symlink_to(Path("r.fits").resolve())
    assert match("--overwrite") == 1
    assert "is an input; choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["g.fits", "--fwhm-pix", 3], "--match is for two images or more"),
        ([*NAMES, "--fwhm-pix", 3, 4], "--fwhm-pix has 2 values for 3 images"),
        ([*NAMES, "--fwhm-pix", 3, "--jobs", 2], "--jobs is not for --match"),
        ([*NAMES, "--fwhm-pix", 3, "--all-ext"], "--all-ext is not for --match"),
    ],
)
def test_what_bands_cannot_have_is_wrong_usage(bands, capsys, args, said):
    with pytest.raises(SystemExit, match="2"):
        run(*args, "--match")
    assert said in capsys.readouterr().err


def test_without_match_a_psf_before_the_image_takes_one_word(bands):
    assert run("--fwhm-pix", 3, "r.fits", "--no-network", "--quiet", "-o", "r_sharp.fits") == 0
    assert Path("r_sharp.fits").exists()


def test_two_bands_are_not_written_to_one_file(bands):
    with pytest.raises(ValueError, match="two bands would be written to one file"):
        deconvolve_band_files(NAMES[:2], ["x.fits", "x.fits"], fwhm_pix=3.0)
    with pytest.raises(ValueError, match="there are 3 images, 2 outputs and options for 3"):
        deconvolve_band_files(NAMES, ["x.fits", "y.fits"], fwhm_pix=3.0)
    with pytest.raises(ValueError, match="upsample, k_sigma and the arguments of deconvolve are of all bands"):
        deconvolve_band_files(NAMES[:2], ["x.fits", "y.fits"], [{"upsample": 2}, {"upsample": 3}], fwhm_pix=3.0)


def test_bands_from_python_share_options_or_have_their_own(bands):
    widths = [{"fwhm_pix": width} for width in WIDTHS]
    results = deconvolve_band_files(NAMES, [f"x_{name}" for name in NAMES], widths, network=None, sky="flat")
    assert [result.image.shape for result in results] == [(90, 118)] * 3
    assert Path("x_i.fits").exists()
