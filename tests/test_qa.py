"""The page of pictures, of frames that are shown pixel by pixel and of larger ones."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.nddata import CCDData

from deconjugate.astro.qa import _Pixels, busiest_window, qa_page

SHAPE, UPSAMPLE = (67, 53), 2


@pytest.fixture
def scene():
    """An image on a sky of 7, and a result of the same light."""
    y, x = np.indices([n * UPSAMPLE for n in SHAPE])
    fine = 3.0 * np.exp(-np.hypot(x - 60, y - 80) / 9.0) + 7.0 / UPSAMPLE**2
    native = fine.reshape(SHAPE[0], UPSAMPLE, SHAPE[1], UPSAMPLE).sum(axis=(1, 3))
    mask = np.zeros(SHAPE, bool)
    mask[4:9, 30:40] = True
    rng = np.random.default_rng(3)
    result = SimpleNamespace(
        image=CCDData(fine, unit="adu"),
        residual=rng.standard_normal(SHAPE),
        support=rng.random((4, *SHAPE)) < 0.3,
        psf=np.eye(5) / 5,
        reduced_chi2=1.0,
        flux_ratio=1.0,
        timings={"tikhonov": 0.5},
    )
    image = CCDData(native + 0.1 * rng.standard_normal(SHAPE), mask=mask, unit="adu")
    return image, result


def pixels(image, result, background=7.0):
    return _Pixels(image.data, background, image.mask, result, UPSAMPLE, UPSAMPLE**2)


@pytest.mark.parametrize("background", [7.0, np.full(SHAPE, 7.0)])
def test_pictures_of_large_frames_are_means(scene, monkeypatch, background):
    image, result = scene
    small = pixels(image, result, background)
    assert small.step == 1
    whole = small.whole(small.native), small.whole(small.fine)
    assert np.isnan(whole[0][5, 35])
    assert np.isnan(whole[1][11, 71])
    monkeypatch.setattr("deconjugate.astro.qa.SHOWN", 24)
    monkeypatch.setattr("deconjugate.astro.qa.BAND", 4)
    large = pixels(image, result, background)
    assert large.step == 3
    native, fine = large.whole(large.native), large.whole(large.fine)
    assert native.shape == (22, 17)
    assert fine.shape == (44, 34)
    assert native[10, 4] == pytest.approx(whole[0][30:33, 12:15].mean())
    assert fine[21, 9] == pytest.approx(whole[1][63:66, 27:30].mean())
    assert np.isnan(native[2, 11])  # a block without a good pixel
    assert np.nanmedian(fine) < 0.5  # the sky is off in both


def test_the_page_is_drawn_either_way(scene, monkeypatch, tmp_path):
    image, result = scene
    for name, shown in (("small.png", 1024), ("large.png", 24)):
        monkeypatch.setattr("deconjugate.astro.qa.SHOWN", shown)
        qa_page(tmp_path / name, image, result, np.eye(7), upsample=UPSAMPLE, background=7.0)
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FileExistsError, match=r"small\.png exists"):
        qa_page(tmp_path / "small.png", image, result, np.eye(7), upsample=UPSAMPLE)
    with pytest.raises(ValueError, match=r"must end in \.png, \.pdf or \.svg"):
        qa_page(tmp_path / "page.gif", image, result, np.eye(7), upsample=UPSAMPLE)


def test_the_busiest_window_holds_the_light():
    image = np.zeros((40, 60))
    image[28:32, 11:15] = 5.0
    rows, columns = busiest_window(image, 12)
    assert rows.start <= 28 < 32 <= rows.stop
    assert columns.start <= 11 < 15 <= columns.stop
