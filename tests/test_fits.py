"""Images in and out of FITS files, and every way in which that can go wrong."""

import errno
import gzip
import os
import stat

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

from deconjugate.astro import read_image, write_image
from deconjugate.astro.fits import read_frame, read_others
from deconjugate.astro.scratch import Scratch, is_mapped

rng = np.random.default_rng(11)
IMAGE = rng.normal(10.0, 2.0, (37, 41)).astype(np.float32)
RMS = rng.uniform(1.0, 2.0, IMAGE.shape).astype(np.float32)
FLAGS = (rng.random(IMAGE.shape) < 0.1).astype(np.int16) * 4
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.0, "CRPIX2": 18.0, "CRVAL1": 30.0, "CRVAL2": -4.0}
SKY |= {"CD1_1": -1e-4, "CD1_2": 2e-5, "CD2_1": 2e-5, "CD2_2": 1e-4}


def image_hdu(array, name="", **cards):
    return fits.ImageHDU(array, fits.Header(cards), name=name)


@pytest.fixture
def several(tmp_path):
    """A file with an empty primary HDU, a cube, image, noise, flags and a table."""
    path = tmp_path / "several.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")
    primary = fits.PrimaryHDU(header=fits.Header({"TELESCOP": "some dome", "OBJECT": "field"}))
    hdus = [primary, image_hdu(np.zeros((3, 5, 6), np.float32), "CUBE"), image_hdu(2 * IMAGE, "other")]
    hdus += [
        image_hdu(IMAGE, "sci ", **SKY, BUNIT="adu", OBJECT="galaxy"),
        image_hdu(RMS, "ERR"),
        image_hdu(FLAGS, "DQ"),
    ]
    hdus += [image_hdu(RMS**2, "VAR"), image_hdu(1.0 / RMS**2, "IVAR"), image_hdu(3 * IMAGE, "SCI"), table]
    hdus[8].ver = 2
    fits.HDUList(hdus).writeto(path)
    return path


def single(path, array=IMAGE, **cards):
    fits.PrimaryHDU(array, fits.Header(cards)).writeto(path, overwrite=True)
    return path


def test_primary_image_is_read_with_its_unit_and_sky(tmp_path):
    image = read_image(single(tmp_path / "a.fits", **SKY, BUNIT="adu"))
    assert isinstance(image, CCDData)
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, IMAGE)
    assert image.unit == u.adu
    assert image.mask is None
    assert image.uncertainty is None
    assert image.wcs.wcs.crpix.tolist() == [20.0, 18.0]


@pytest.mark.parametrize(
    ("ext", "factor"),
    [(None, 1), ("SCI", 1), (" sci  ", 1), ("Sci,2", 3), (3, 1), ("3", 1), ("OTHER", 2), (2, 2), ("sci,1", 1)],
)
def test_extension_by_name_or_number(several, ext, factor):
    np.testing.assert_array_equal(read_image(several, ext=ext).data, factor * IMAGE)


def test_primary_cards_are_inherited_unless_the_extension_has_its_own(several):
    meta = read_image(several).meta
    assert meta["TELESCOP"] == "some dome"
    assert meta["OBJECT"] == "galaxy"


def test_primary_image_comes_before_sci(tmp_path):
    path = tmp_path / "b.fits"
    fits.HDUList([fits.PrimaryHDU(5 * IMAGE), image_hdu(IMAGE, "SCI")]).writeto(path)
    np.testing.assert_array_equal(read_image(path).data, 5 * IMAGE)


def test_axes_of_length_one_are_dropped(tmp_path):
    assert read_image(single(tmp_path / "radio.fits", IMAGE[None, None])).data.shape == IMAGE.shape


@pytest.mark.parametrize("noise", ["ERR", "VAR", "IVAR", 4, "err "])
def test_noise_extension_is_understood_by_its_name(several, noise):
    image = read_image(several, noise=noise)
    assert isinstance(image.uncertainty, StdDevUncertainty)
    np.testing.assert_allclose(image.uncertainty.array, RMS, rtol=1e-6)
    assert image.mask is None


def test_noise_kind_overrides_the_name(several):
    np.testing.assert_allclose(
        read_image(several, noise="ERR", noise_kind="variance").uncertainty.array ** 2, RMS, rtol=1e-6
    )
    with pytest.raises(ValueError, match="noise_kind is 'flux'; choose one of rms, variance, ivar, weight"):
        read_image(several, noise="ERR", noise_kind="flux")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("M51_var.fits", 2), ("varnish.fits", 1), ("m.weight.fits", -2), ("MAP_RMS.fits", 1), ("a-ivar.fits", -2)],
)
def test_noise_files_are_understood_by_the_words_of_their_names(tmp_path, name, kind):
    image = read_image(single(tmp_path / "image.fits"), noise=single(tmp_path / name, RMS.astype(float) ** kind))
    np.testing.assert_allclose(image.uncertainty.array, RMS, rtol=1e-6)


def test_noise_and_mask_from_other_files(tmp_path):
    path = single(tmp_path / "c.fits")
    weight = 1.0 / RMS**2
    weight[3, 4] = 0.0
    weight[5, 6] = -1.0
    image = read_image(
        path, noise=single(tmp_path / "c.weight.fits", weight), mask=str(single(tmp_path / "flags.fits", FLAGS))
    )
    expected = FLAGS != 0
    expected[3, 4] = expected[5, 6] = True
    np.testing.assert_array_equal(image.mask, expected)
    np.testing.assert_allclose(image.uncertainty.array[~expected], RMS[~expected], rtol=1e-6)


def test_nan_and_blank_pixels_are_masked(tmp_path):
    array = IMAGE.copy()
    array[2, 3] = np.nan
    array[4, 5] = np.inf
    assert np.argwhere(read_image(single(tmp_path / "d.fits", array)).mask).tolist() == [[2, 3], [4, 5]]
    blank = np.round(IMAGE).astype(np.int16)
    blank[1, 7] = -32768
    assert np.argwhere(read_image(single(tmp_path / "e.fits", blank, BLANK=-32768)).mask).tolist() == [[1, 7]]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("i2", "f4"), ("u2", "f4"), ("u1", "f4"), ("i4", "f8"), ("f4", "f4"), ("f8", "f8")]
)
def test_no_value_is_lost_in_conversion(tmp_path, dtype, expected):
    array = np.arange(20, dtype=dtype).reshape(4, 5)
    array[0, 0] = np.iinfo(dtype).max if dtype[0] in "iu" else 0.1
    data = read_image(single(tmp_path / "f.fits", array)).data
    assert data.dtype == expected
    np.testing.assert_array_equal(data, array)


def test_compressed_files(tmp_path):
    single(tmp_path / "g.fits")
    with open(tmp_path / "g.fits", "rb") as file, gzip.open(tmp_path / "g.fits.gz", "wb") as packed:
        packed.write(file.read())
    np.testing.assert_array_equal(read_image(tmp_path / "g.fits.gz").data, IMAGE)
    tiles = fits.CompImageHDU(np.round(IMAGE).astype(np.int16), fits.Header(SKY), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(tmp_path / "g.fits.fz")
    image = read_image(tmp_path / "g.fits.fz")
    np.testing.assert_array_equal(image.data, np.round(IMAGE))
    write_image(tmp_path / "h.fits", image)
    assert not [
        key for key in fits.getheader(tmp_path / "h.fits", 1) if key.startswith(("ZIM", "ZCM", "ZTI", "ZN", "TFORM"))
    ]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ADU", u.adu),
        ("MJy/sr", u.MJy / u.sr),
        ("MJY/SR", u.MJy / u.sr),
        ("mJy/sr", u.mJy / u.sr),
        ("JY/BEAM", u.Jy / u.beam),
        ("counts per furlong", u.dimensionless_unscaled),
        ("", u.dimensionless_unscaled),
    ],
)
def test_units(tmp_path, text, unit):
    image = read_image(single(tmp_path / "u.fits", BUNIT=text))
    assert image.unit == unit
    write_image(tmp_path / "v.fits", image)
    written = fits.getheader(tmp_path / "v.fits", 1)["BUNIT"]
    assert u.Unit(written) == unit if unit != u.dimensionless_unscaled else written == text


def test_a_cube_of_science_goes_before_images_of_something_else(tmp_path):
    """As in the deconvolution of a cube, whose PSF is the only 2-D image."""
    cube, path = image_hdu(np.stack([IMAGE, IMAGE]), "SCI"), tmp_path / "cube.fits"
    fits.HDUList([fits.PrimaryHDU(), image_hdu(IMAGE[:5, :5], "PSF"), cube]).writeto(path)
    assert read_image(path, plane=1).shape == IMAGE.shape
    with pytest.raises(ValueError, match=r"SCI holds an image of axes .*; a 2-D image is needed, of a cube a plane"):
        read_image(path)


def test_an_unreadable_wcs_is_left_out_with_a_warning(tmp_path):
    path = single(tmp_path / "w.fits", **SKY | {"CD1_1": 0.0, "CD1_2": 0.0})
    with pytest.warns(UserWarning, match=r"the WCS \(RA---TAN, DEC--TAN\) cannot be read and is left out: Linear"):
        image = read_image(path)
    assert image.wcs is None
    assert read_image(single(tmp_path / "x.fits")).wcs is None


def test_what_is_written_is_what_is_read_back(tmp_path):
    mask = FLAGS != 0
    image = CCDData(IMAGE, StdDevUncertainty(RMS), mask=mask, wcs=WCS(fits.Header(SKY)), unit="adu")
    image.meta["OBSERVER"] = "someone"
    history = ["deconjugate 0.1", "a long line " * 12]
    extensions = [("RESIDUAL", IMAGE[:5], None), ("PSF", np.eye(3), fits.Header({"FWHM": 2.0}))]
    path = tmp_path / "out.fits"
    write_image(path, image, extensions=extensions, history=history)
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "MASK", "RESIDUAL", "PSF"]
        assert [hdu.header["BITPIX"] for hdu in hdus[1:]] == [-32, -32, 8, -32, -32]
        assert hdus["SCI"].header["BUNIT"] == "adu"
        assert hdus["SCI"].header["OBSERVER"] == "someone"
        assert hdus["PSF"].header["FWHM"] == 2.0
        assert "".join(str(hdus["SCI"].header["HISTORY"]).split()) == "".join("".join(history).split())
        assert hdus["ERR"].header["CRVAL1"] == 30.0
        assert hdus.verify("exception") is None
    again = read_image(path, noise="ERR", mask="MASK")
    np.testing.assert_array_equal(again.data, IMAGE)
    np.testing.assert_array_equal(again.uncertainty.array, RMS)
    np.testing.assert_array_equal(again.mask, mask)
    np.testing.assert_allclose(again.wcs.wcs.cd, image.wcs.wcs.cd)
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0o066 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_other_uncertainties_become_standard_deviations(tmp_path):
    write_image(tmp_path / "v.fits", CCDData(IMAGE, VarianceUncertainty(RMS**2), unit="adu"))
    np.testing.assert_allclose(fits.getdata(tmp_path / "v.fits", "ERR"), RMS, rtol=1e-6)


def test_stale_cards_are_dropped_and_the_rest_stays(tmp_path):
    path = tmp_path / "stale.fits"
    hdu = fits.PrimaryHDU(
        np.round(10 * IMAGE).astype(np.int32), fits.Header({**SKY, "OBSERVER": "x", "DATASEC": "[1:4,1:4]"})
    )
    hdu.header["PV1_1"] = 1.0
    hdu.header["CNPIX1"] = 671
    hdu.header.add_history("flat fielded")
    hdu.header.add_comment("a remark")
    hdu.scale("int16", bscale=0.1, bzero=3.0)
    hdu.header["BLANK"] = -32768
    hdu.add_checksum()
    hdu.writeto(path)
    image = read_image(path)
    write_image(tmp_path / "fresh.fits", image)
    # A checksum that does not hold would warn, and warnings are errors.
    with fits.open(tmp_path / "fresh.fits", checksum=True) as hdus:
        assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
    header = fits.getheader(tmp_path / "fresh.fits", "SCI")
    for key in ("BSCALE", "BZERO", "BLANK", "DATASEC", "CNPIX1", "EXTEND"):
        assert key not in header
    assert header["OBSERVER"] == "x"
    assert str(header["HISTORY"]) == "flat fielded"
    assert str(header["COMMENT"]).endswith("a remark")
    np.testing.assert_allclose(fits.getdata(tmp_path / "fresh.fits"), image.data)


def test_other_hdus_are_kept(several, tmp_path):
    others = read_others(several, used=[None, "ERR", "DQ"], taken=["SCI", "VAR"])
    assert [hdu.name for hdu in others] == ["CUBE", "OTHER", "IVAR", "CATALOG"]
    write_image(tmp_path / "kept.fits", read_image(several), others=others)
    with fits.open(tmp_path / "kept.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "CUBE", "OTHER", "IVAR", "CATALOG"]
        np.testing.assert_array_equal(hdus["CATALOG"].data["flux"], np.arange(3.0))
        np.testing.assert_array_equal(hdus["OTHER"].data, 2 * IMAGE)


def test_a_primary_image_that_was_not_used_is_kept_too(tmp_path):
    path = tmp_path / "both.fits"
    tiles = fits.CompImageHDU(np.round(IMAGE).astype(np.int16), name="TILES")
    fits.HDUList([fits.PrimaryHDU(5 * IMAGE), image_hdu(IMAGE, "SCI"), tiles]).writeto(path)
    write_image(
        tmp_path / "kept.fits", read_image(path, ext="SCI"), others=read_others(path, used=["SCI"], taken=["SCI"])
    )
    with fits.open(tmp_path / "kept.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "INPUT", "TILES"]
        np.testing.assert_array_equal(hdus["INPUT"].data, 5 * IMAGE)
        np.testing.assert_array_equal(hdus["TILES"].data, np.round(IMAGE))


# Bad input


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing.fits"):
        read_image(tmp_path / "nothing.fits")
    with pytest.raises(OSError, match="is a folder; give a FITS file"):
        read_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GIF89a, not an image of the sky", b"SIMPLE  = nonsense" * 300])
def test_files_that_are_not_fits(tmp_path, content):
    path = tmp_path / "not.fits"
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"not.fits (is not a FITS file|holds no 2-D image)"):
        read_image(path)


@pytest.mark.parametrize("keep", [2880 + 400, 2881, 1000])
def test_truncated_files(tmp_path, keep):
    path = single(tmp_path / "cut.fits")
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(
        OSError, match=r"cut.fits is (truncated: HDU 0 ends at byte 8948|not a FITS file, or is damaged)"
    ):
        read_image(path)


def test_truncated_gzip(tmp_path):
    single(tmp_path / "cut.fits")
    packed = gzip.compress((tmp_path / "cut.fits").read_bytes())
    (tmp_path / "cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(OSError, match=r"cut.fits.gz"):
        read_image(tmp_path / "cut.fits.gz")


def test_damaged_tiles(tmp_path):
    path = tmp_path / "torn.fits.fz"
    tiles = fits.CompImageHDU(np.round(IMAGE).astype(np.int16), name="SCI", compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    content = bytearray(path.read_bytes())
    content[-2880:] = b"\x07" * 2880
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"torn.fits.fz: the pixels of SCI cannot be read"):
        read_image(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = single(tmp_path / "secret.fits")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=r"secret.fits may not be read: permission denied"):
        read_image(path)


def test_a_file_that_lacks_only_padding_is_read(tmp_path):
    path = single(tmp_path / "short.fits")
    path.write_bytes(path.read_bytes()[: 2880 + IMAGE.nbytes])
    np.testing.assert_array_equal(read_image(path).data, IMAGE)


@pytest.mark.parametrize("ext", ["NOPE", 17, "SCI,3", "-1"])
def test_missing_extension_lists_those_there_are(several, ext):
    with pytest.raises(
        KeyError, match=rf"has no extension '{ext}'; it has 0 PRIMARY no image, 1 CUBE \(6, 5, 3\), .*9 CATALOG"
    ):
        read_image(several, ext=ext)


def test_extensions_that_are_no_image(several, tmp_path):
    with pytest.raises(ValueError, match="extension CATALOG holds no image; a 2-D image is needed"):
        read_image(several, ext="CATALOG")
    with pytest.raises(ValueError, match=r"extension CUBE holds an image of axes \(6, 5, 3\)"):
        read_image(several, ext="CUBE")
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    with pytest.raises(ValueError, match=r"holds no 2-D image; it has 0 PRIMARY no image, 1 CATALOG no image"):
        read_image(tmp_path / "table.fits")


def test_noise_and_mask_that_do_not_fit(several, tmp_path):
    with pytest.raises(ValueError, match=r"the noise .*small.fits is \(4, 3\) pixels, the image \(41, 37\)"):
        read_image(several, noise=single(tmp_path / "small.fits", IMAGE[:3, :4]))
    with pytest.raises(KeyError, match=r"mask: no file NOPE, and .* has no extension 'NOPE'; it has 0 PRIMARY"):
        read_image(several, mask="NOPE")


def test_existing_output_is_kept_unless_overwritten(tmp_path):
    image, path = CCDData(IMAGE, unit="adu"), tmp_path / "out.fits"
    path.write_text("precious")
    path.chmod(0o640)
    with pytest.raises(FileExistsError, match=r"out.fits exists; choose another output or allow overwriting"):
        write_image(path, image)
    assert path.read_text() == "precious"
    write_image(path, image, overwrite=True)
    np.testing.assert_array_equal(fits.getdata(path, "SCI"), IMAGE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_output_through_a_link_replaces_what_it_points_to(tmp_path):
    (tmp_path / "real.fits").write_text("old")
    (tmp_path / "link.fits").symlink_to(tmp_path / "real.fits")
    write_image(tmp_path / "link.fits", CCDData(IMAGE, unit="adu"), overwrite=True)
    assert (tmp_path / "link.fits").is_symlink()
    np.testing.assert_array_equal(fits.getdata(tmp_path / "real.fits", "SCI"), IMAGE)


def test_compressed_output(tmp_path):
    write_image(tmp_path / "out.fits.gz", CCDData(IMAGE, unit="adu"))
    assert (tmp_path / "out.fits.gz").read_bytes()[:2] == b"\x1f\x8b"
    np.testing.assert_array_equal(read_image(tmp_path / "out.fits.gz").data, IMAGE)


def test_outputs_that_cannot_be(tmp_path, monkeypatch):
    image = CCDData(IMAGE, unit="adu")
    with pytest.raises(OSError, match=r"the folder .*absent of the output does not exist"):
        write_image(tmp_path / "absent" / "out.fits", image)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the folder .*file of the output does not exist"):
        write_image(tmp_path / "file" / "out.fits", image)
    with pytest.raises(OSError, match="is not a plain file; give a file name"):
        write_image(tmp_path, image, overwrite=True)

    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    with pytest.raises(OSError, match=r"the folder .* of the output is not writable: Permission denied"):
        write_image(tmp_path / "out.fits", image)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_full_disk_or_interrupt_leaves_the_old_output(tmp_path, monkeypatch, error):
    image, path = CCDData(IMAGE, unit="adu"), tmp_path / "out.fits"
    path.write_text("precious")

    def fail(self, name, *args, **kwargs):
        with open(name, "wb") as file:
            file.write(b"half of it")
        raise error

    monkeypatch.setattr(fits.HDUList, "writeto", fail)
    with pytest.raises(type(error), match="No space left on device" if isinstance(error, OSError) else None):
        write_image(path, image, overwrite=True)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["out.fits"]


@pytest.mark.parametrize("kind", ["float", "scaled", "unsigned", "cube", "gzip"])
def test_large_images_are_read_in_strips_and_are_the_same(tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(8)
    data = rng.normal(100.0, 5.0, (43, 29)).astype(np.float32)
    hdu = fits.PrimaryHDU(np.stack([data, 2 * data, data]) if kind == "cube" else data)
    if kind == "scaled":
        hdu = fits.PrimaryHDU((10 * data).astype(np.int16))
        hdu.header.update({"BSCALE": 0.1, "BZERO": 7.0, "BLANK": int(hdu.data[3, 4])})
    elif kind == "unsigned":
        hdu = fits.PrimaryHDU(data.astype(np.uint16))
    else:
        hdu.data[..., 3, 4] = np.nan
    path = tmp_path / ("image.fits.gz" if kind == "gzip" else "image.fits")
    hdu.writeto(path)
    plane = 1 if kind == "cube" else None
    whole = read_image(path, plane=plane)
    monkeypatch.setattr("deconjugate.astro.hdus.SMALL", 0)
    monkeypatch.setattr("deconjugate.astro.scratch.SMALL", 0)
    monkeypatch.setattr("deconjugate.astro.scratch.STRIP", 1000)
    image = read_frame(path, plane=plane, scratch=Scratch(tmp_path)).image
    assert is_mapped(image.data)
    assert image.data.dtype == whole.data.dtype
    np.testing.assert_array_equal(image.data, whole.data)
    assert kind == "unsigned" or image.mask[3, 4]
