"""Images in magnitudes are refused at every door."""

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData

from deconjugate.astro import PSF, deconvolve
from deconjugate.astro.cli import main
from deconjugate.astro.light import check_light

IMAGE = np.random.default_rng(5).normal(21.0, 0.1, (65, 83)).astype(np.float32)
CARDS = {"UPSAMPLE": 1, "INNOISE": 0.1, "INFWHM": 3.0}


def write(path, unit):
    fits.PrimaryHDU(IMAGE, fits.Header(CARDS | {"BUNIT": unit})).writeto(path)
    return str(path)


@pytest.mark.parametrize(
    "text",
    ["mag", "MAG", "mag/arcsec2", "mag arcsec-2", "mag(AB)", "ABmag", "AB mag/arcsec^2", "mag/sq.arcsec", "mag_AB"]
    + ["magnitudes", "dex", "dB", "log(Jy)", "log10(erg/s)"],
)
def test_logarithms_in_the_words_of_headers(text):
    image = CCDData(IMAGE, unit="", meta={"BUNIT": text})
    with pytest.raises(ValueError, match=r"is in .*\(BUNIT\), a logarithm: make it counts or a flux first"):
        check_light(image, "sky.fits")


@pytest.mark.parametrize("text", ["", "adu", "nanomaggies", "nmgy", "maggies", "Jy/beam", "MJy/sr", "e-/s", "dbl"])
def test_what_adds_up(text):
    check_light(CCDData(IMAGE, unit="", meta={"BUNIT": text}))


@pytest.mark.parametrize("unit", ["mag", "mag/arcsec2"])
def test_arrays_with_such_a_unit(unit):
    for image in (CCDData(IMAGE, unit=unit), IMAGE * units.Unit(unit)):
        with pytest.raises(ValueError, match=r"the image is in mag.*, a logarithm"):
            deconvolve(image, PSF.moffat(3.0), noise=0.1, network=None)


@pytest.mark.parametrize(
    "command",
    [
        "deconvolve {mag} --fwhm-pix 3 --no-network -o out.fits",
        "deconvolve {mag} --fwhm-pix 3 --no-network -o out.fits --dry-run",
        "deconvolve {good} {mag} --match --fwhm-pix 3 --no-network",
        "psf {mag} -o out.fits",
        "photometry {mag} {good} -o out.ecsv",
        "photometry {good} {mag} -o out.ecsv",
        "clumps {mag} -o out.ecsv",
        "clumps {good} -o out.ecsv --colour {good} {mag}",
    ],
)
def test_every_command_refuses_them_in_one_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good, mag = write("good.fits", "adu"), write("mag.fits", "mag/arcsec2")
    assert main(command.format(good=good, mag=mag).split()) == 1
    error = capsys.readouterr().err.strip()
    assert "mag.fits is in mag / arcsec2 (BUNIT), a logarithm: make it counts or a flux first" in error
    assert not [line for line in error.splitlines() if "Traceback" in line]
    assert not list(tmp_path.glob("out*"))
