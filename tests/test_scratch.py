"""Arrays in files in place of memory, and what is written from them: nothing may differ."""

import gc
import os

import numpy as np
import pytest
from astropy.io import fits

from deconjugate.astro import PSF, deconvolve, deconvolve_bands, scratch, simulate, uncertainty
from deconjugate.astro.deconvolve_file import deconvolve_file
from deconjugate.astro.fits import write_hdus
from deconjugate.astro.large_hdus import encoded, ones_complement_sum
from deconjugate.astro.scratch import Scratch, forget, is_mapped, strips


@pytest.fixture
def eager(monkeypatch):
    """Even small arrays go into files, in strips of a few rows."""
    monkeypatch.setattr(scratch, "SMALL", 1)
    monkeypatch.setattr(scratch, "STRIP", 2000)


def test_what_is_forgotten_is_still_there(eager, tmp_path):
    made = Scratch(tmp_path)
    array = made.zeros((37, 41), np.int16)
    array[3:9] = 5
    view = array[2:12, ::3]
    forget(view, np.ones(3))
    assert is_mapped(array)
    assert is_mapped(view)
    assert not is_mapped(view.copy())
    assert array.sum() == 6 * 41 * 5
    copy = made.kept(view)
    assert is_mapped(copy)
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, view)
    assert os.listdir(tmp_path) == []


def test_without_a_folder_and_small_arrays_are_in_memory(tmp_path):
    assert not is_mapped(Scratch().zeros((5000, 5000), np.uint8))
    assert not is_mapped(Scratch(tmp_path).zeros((37, 41)))


def test_the_file_goes_with_the_array(eager, tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    array = Scratch(tmp_path).zeros((37, 41))
    del array
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_is_found_at_once(eager, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"has no room for 0\.00 GB more: No space left on device"):
        Scratch(tmp_path).zeros((37, 41))


@pytest.mark.parametrize("shape", [(1, 7), (37, 41), (5, 4001)])
def test_strips_cover_the_rows_once(eager, shape):
    array = np.zeros(shape)
    for rows in strips(array):
        array[rows] += 1
        assert rows.stop == len(array) or (rows.stop - rows.start) % 4 == 0
    assert (array == 1).all()


def test_checksums_are_those_of_astropy():
    rng = np.random.default_rng(3)
    hdu = fits.ImageHDU()
    for size in (0, 3, 4, 2880, 99991):
        content = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        expected = int(hdu._compute_checksum(np.frombuffer(content, np.uint8), 12345))
        assert ones_complement_sum(content, 12345) == expected
    for value in (0, 1, 0xFFFFFFFF, *(int(v) for v in rng.integers(0, 2**32, 300))):
        assert encoded(value) == hdu._char_encode(value)


def test_the_same_bytes_from_files_and_from_memory(eager, tmp_path):
    rng = np.random.default_rng(5)
    made, written = Scratch(tmp_path), []
    arrays = rng.normal(size=(37, 41)).astype(np.float32), rng.integers(0, 9, (3, 17, 23)).astype(np.int16)
    arrays += (rng.integers(0, 9, (11, 13)).astype(np.uint8),)
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")
    for keep in (np.copy, made.kept):
        hdus = [
            fits.ImageHDU(keep(array), fits.Header({"BUNIT": "adu"}), name=f"A{k}") for k, array in enumerate(arrays)
        ]
        path = tmp_path / f"{len(written)}.fits"
        write_hdus(path, [hdus[0], table, *hdus[1:], fits.ImageHDU(np.eye(3))])
        written.append(path.read_bytes())
    assert written[0] == written[1]
    with fits.open(tmp_path / "1.fits", checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[1].data, arrays[0])


@pytest.mark.parametrize("shape", [(49, 231), (2, 49, 61)])
def test_a_file_is_deconvolved_to_the_same_bytes(tmp_path, monkeypatch, shape):
    sky = np.zeros([*shape[:-2], *(2 * n for n in shape[-2:])])
    sky[..., 50, 61] = sky[..., 44, 74] = 900.0
    data = simulate(sky, PSF.moffat(3.0), sigma=1.0, background=20.0, seed=8).data
    data[..., 5, 7] = np.nan
    fits.PrimaryHDU(data.astype(np.float32)).writeto(tmp_path / "in.fits")
    options = {"psf": PSF.moffat(3.0), "network": None, "tile": 144, "support": True}
    outputs = []
    for small in (scratch.SMALL, 1):
        monkeypatch.setattr(scratch, "SMALL", small)
        path = tmp_path / f"{small}.fits"
        results = deconvolve_file(tmp_path / "in.fits", path, **options)
        image = (results if isinstance(results, list) else [results])[-1].image
        assert is_mapped(image.data) == (small == 1)
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]


def test_deviations_and_matched_bands_are_the_same_in_files(tmp_path, monkeypatch):
    y, x = np.indices((62, 74))
    psfs = [PSF.moffat(3.0), PSF.moffat(4.0)]
    seen = [simulate(np.exp(-np.hypot(x - 35, y - 30) / 6.0), psf, peak_snr=40, seed=i) for i, psf in enumerate(psfs)]
    given = [scene.data for scene in seen], psfs
    options = {"noise": [scene.noise_map for scene in seen], "network": None, "uncertainty": 4}
    in_memory = deconvolve_bands(*given, **options)
    for module in (scratch, uncertainty):
        monkeypatch.setattr(module, "STRIP", 4000)
    monkeypatch.setattr(scratch, "SMALL", 1)
    for one, other in zip(in_memory, deconvolve_bands(*given, scratch=tmp_path, **options)):
        assert is_mapped(other.image.data)
        assert is_mapped(other.image.uncertainty.array)
        np.testing.assert_allclose(other.image.data, one.image.data, atol=1e-4 * one.image.data.max())
        errors = other.image.uncertainty.array, one.image.uncertainty.array
        np.testing.assert_allclose(*errors, rtol=0.02)
    alone = deconvolve(given[0][0], psfs[0], noise=1.0, network=None, uncertainty=4, scratch=tmp_path)
    assert is_mapped(alone.image.uncertainty.array)
