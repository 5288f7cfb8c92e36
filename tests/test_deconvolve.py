import warnings

import numpy as np
import pytest
from astropy import units
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty
from astropy.wcs import WCS

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.metrics import flux_error, nmse
from deconjugate.astro.tiling import tiling

PROFILE = PSF.moffat(3.0)


def galaxy(shape, *places):
    rows, columns = np.indices(shape)
    return sum(np.exp(-np.hypot(rows - r, (columns - c) / 1.4) / 3.5) for r, c in places)


def scene_of(shape=(86, 104), snr=60, upsample=2, seed=3, **options):
    sky = galaxy(shape, (0.45 * shape[0], 0.5 * shape[1]))
    return simulate(sky, PROFILE, upsample=upsample, peak_snr=snr, seed=seed, **options)


def classical(image, psf=PROFILE, **options):
    return deconvolve(image, psf, **{"network": None, **options})


@pytest.fixture(scope="module")
def scene():
    return scene_of()


@pytest.fixture(scope="module")
def result(scene):
    return classical(scene.data, noise=scene.noise_map)


def test_image_is_sharper_and_keeps_the_flux(scene, result):
    error = nmse(result.image.data, scene.truth)
    assert error < 0.02
    assert error < 0.5 * nmse(result.stages["tikhonov"], scene.truth)
    assert abs(flux_error(result.image.data, scene.truth)) < 0.02
    assert result.flux_ratio == pytest.approx(1.0, abs=0.02)
    assert 0.9 < result.reduced_chi2 < 1.1


def test_result_holds_what_it_promises(scene, result):
    assert isinstance(result.image, CCDData)
    assert result.image.shape == scene.truth.shape
    assert result.residual.shape == scene.data.shape
    assert result.support.shape == (5, *scene.data.shape)
    assert list(result.stages) == ["tikhonov", "classical", "debiased"]
    assert set(result.timings) >= {"tikhonov", "classical", "debiased"}
    assert result.psf.sum() == pytest.approx(1.0)
    assert result.mismatch < 1e-2
    assert result.reduced_chi2 == pytest.approx(np.mean(result.residual**2), rel=1e-4)
    np.testing.assert_array_equal(result.image.data, result.stages["debiased"])


def test_the_network_that_ships_does_better_than_the_classical_path(scene, result):
    learned = deconvolve(scene.data, PROFILE, noise=scene.noise_map)
    assert list(learned.stages) == ["tikhonov", "network", "debiased"]
    assert learned.network.startswith("swin-unet.safetensors, sha256 ")
    assert result.network == "none"
    assert nmse(learned.image.data, scene.truth) < nmse(result.image.data, scene.truth)
    assert abs(flux_error(learned.image.data, scene.truth)) < 0.02
    assert learned.flux_ratio == pytest.approx(1.0, abs=0.02)


def test_units_of_the_data_do_not_matter(scene, result):
    small = classical(1e-18 * scene.data, noise=1e-18 * scene.noise_map)
    np.testing.assert_allclose(1e18 * small.image.data, result.image.data, atol=1e-3 * result.image.data.max())
    assert small.reduced_chi2 == pytest.approx(result.reduced_chi2, rel=1e-3)


@pytest.mark.parametrize("upsample", [1, 3, 4])
def test_other_factors(upsample):
    psf = PSF.moffat(4.0)
    scene = simulate(galaxy((72, 96), (30, 50)), psf, upsample=upsample, peak_snr=60, seed=4)
    result = classical(scene.data, psf, upsample=upsample, noise=scene.noise_map)
    assert result.image.shape == scene.truth.shape
    assert nmse(result.image.data, scene.truth) < nmse(result.stages["tikhonov"], scene.truth)
    assert abs(flux_error(result.image.data, scene.truth)) < 0.04


def test_psf_as_an_array_is_the_effective_one(scene, result):
    effective = PROFILE.fine(2)
    effective = np.pad(effective, ((0, 1), (0, 1)))  # the native PSF of a star between four fine pixels
    half = effective.shape[0] // 2
    effective = effective[: 2 * half, : 2 * half].reshape(half, 2, half, 2).sum(axis=(1, 3))
    middle = half // 2
    effective = effective[middle - 15 : middle + 16, middle - 15 : middle + 16]
    again = classical(scene.data, effective, noise=scene.noise_map)
    assert nmse(again.image.data, scene.truth) < 2 * nmse(result.image.data, scene.truth) + 0.01


def test_bad_pixels_have_no_weight_and_never_leak(scene):
    data, mask = scene.data.copy(), np.zeros(scene.data.shape, bool)
    data[5, 7], data[30, 3] = np.nan, -np.inf
    data[10:12, 40:43], mask[10:12, 40:43] = 1e9, True
    result = classical(data, noise=scene.noise_map, mask=mask)
    assert np.isfinite(result.image.data).all()
    assert result.image.mask.sum() == 4 * 8
    assert not result.residual[result.image.mask[::2, ::2]].any()
    assert abs(flux_error(result.image.data, scene.truth)) < 0.02
    other = data.copy()
    other[10:12, 40:43] = -7e5
    np.testing.assert_array_equal(classical(other, noise=scene.noise_map, mask=mask).image.data, result.image.data)


def test_a_masked_core_is_filled_from_its_wings(scene):
    mask = np.zeros(scene.data.shape, bool)
    mask[18:20, 25:27] = True
    result = classical(np.where(mask, np.nan, scene.data), noise=scene.noise_map)
    assert abs(flux_error(result.image.data, scene.truth)) < 0.1


def test_a_source_cut_by_an_edge_leaves_no_ghost():
    sky = np.zeros((120, 150))
    sky[30, 75] = 1.0
    scene = simulate(sky, PROFILE, peak_snr=200, margin=15, seed=5)
    image = classical(scene.data, noise=scene.noise_map).image.data
    rows, columns = np.indices(image.shape)
    assert np.abs(image[np.hypot(rows, columns - 45) > 24]).max() < 1e-3 * image.max()


def test_nothing_is_made_of_noise():
    for seed in range(3):
        frame = np.random.default_rng(seed).standard_normal((96, 117))
        result = classical(frame, noise=1.0)
        assert not result.image.data.any()
        assert np.isnan(result.flux_ratio)


def test_a_constant_sky_comes_out_as_one():
    frame = 40.0 + np.random.default_rng(1).standard_normal((50, 61))
    image = classical(frame, noise=1.0).image.data
    np.testing.assert_allclose(image, 10.0, atol=0.5)


def test_empty_sky_around_a_source_changes_little():
    sky = galaxy((72, 80), (30.0, 41.0))
    scene = simulate(sky, PROFILE, peak_snr=30, seed=9)
    sigma = scene.noise_map[0, 0]
    around = sigma * np.random.default_rng(10).standard_normal((236, 240))
    here, fine = np.s_[100:136, 100:140], np.s_[200:272, 200:280]
    around[here] = scene.data
    alone = classical(scene.data, noise=sigma).image.data
    within = classical(around, noise=sigma).image.data[fine]
    assert nmse(within, scene.truth) < 1.1 * nmse(alone, scene.truth)


def test_tiles_leave_no_seam():
    sky = galaxy((150, 300), (70, 60), (80, 150), (60, 155), (75, 240))
    scene = simulate(sky, PSF.gaussian(3.0), upsample=2, peak_snr=60, seed=6)
    psf = PSF.gaussian(3.0).fine(1)
    psf = psf[psf.shape[0] // 2 - 5 : psf.shape[0] // 2 + 6, psf.shape[1] // 2 - 5 : psf.shape[1] // 2 + 6]
    whole = classical(scene.data, PSF.from_array(psf, includes_pixel=False), noise=scene.noise_map)
    tiled = classical(scene.data, PSF.from_array(psf, includes_pixel=False), noise=scene.noise_map, tile=100)
    assert nmse(tiled.image.data, whole.image.data) < 3e-3
    assert nmse(tiled.image.data, scene.truth) < 1.2 * nmse(whole.image.data, scene.truth)
    assert tiled.reduced_chi2 == pytest.approx(whole.reduced_chi2, abs=0.02)


def test_blend_weights_sum_to_one_and_reach_into_the_margin():
    tiles = tiling((53, 91), 40, 12)
    total = np.zeros((53 + 8, 91 + 6))
    for place in tiles.places():
        target = tuple(slice(s.start, s.stop + 2 * m) for s, m in zip(place, (4, 3)))
        total[target] += tiles.window(place, (4, 3))
    np.testing.assert_allclose(total, 1.0)


def test_stamps_with_one_psf_or_one_each():
    scenes = [scene_of((56, 60), seed=s) for s in range(3)]
    data = np.stack([s.data for s in scenes])
    sigma = np.stack([s.noise_map for s in scenes])
    together = classical(data, noise=sigma)
    assert together.image.shape == (3, 56, 60)
    assert together.support.shape[0] == together.residual.shape[0] == 3
    assert np.shape(together.reduced_chi2) == (3,)
    alone = classical(data[1], noise=sigma[1])
    np.testing.assert_allclose(together.image.data[1], alone.image.data, rtol=1e-6)
    each = classical(data, [PROFILE, PROFILE, PSF.moffat(3.3)], noise=sigma)
    np.testing.assert_allclose(each.image.data[1], alone.image.data, rtol=1e-6)
    assert nmse(each.image.data[2], together.image.data[2]) > 1e-6


@pytest.mark.parametrize("uncertainty", [StdDevUncertainty, InverseVariance])
def test_ccddata_in_and_out(scene, result, uncertainty):
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 10.5, "CRPIX2": 20.5, "CDELT1": -1e-4,
               "CDELT2": 1e-4, "CRVAL1": 30.0, "CRVAL2": -5.0})  # fmt: skip
    sigma = scene.noise_map if uncertainty is StdDevUncertainty else scene.noise_map**-2
    mask = np.zeros(scene.data.shape, bool)
    mask[2, 3] = True
    image = CCDData(scene.data, uncertainty=uncertainty(sigma), mask=mask, wcs=wcs, unit="electron")
    output = classical(image).image
    assert output.unit == units.electron
    assert output.mask.sum() == 4
    x, y = output.wcs.world_to_pixel_values(*wcs.pixel_to_world_values(12.0, 7.0))
    np.testing.assert_allclose([x, y], [2 * 12.0 + 0.5, 2 * 7.0 + 0.5], atol=1e-6)
    np.testing.assert_allclose(output.data, result.image.data, atol=0.05 * result.image.data.max())


def test_noise_is_estimated_where_none_is_given(scene, result):
    found = classical(scene.data)
    assert found.reduced_chi2 == pytest.approx(result.reduced_chi2, abs=0.2)


def test_without_positivity_and_with_another_dictionary(scene):
    free = classical(scene.data, noise=scene.noise_map, positivity=False)
    assert abs(flux_error(free.image.data, scene.truth)) < 0.03
    other = classical(scene.data, noise=scene.noise_map, dictionary="db2", n_scales=3)
    assert nmse(other.image.data, scene.truth) < 0.1


def test_input_is_left_alone(scene):
    data, sigma = scene.data.copy(), scene.noise_map.copy()
    data[3, 3] = np.nan
    before = data.copy()
    classical(data, noise=sigma)
    np.testing.assert_array_equal(data, before)
    np.testing.assert_array_equal(sigma, scene.noise_map)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample": 0}, "upsample is 0; give a whole number, 1 or more"),
        ({"upsample": 1.5}, "upsample is 1.5; give a whole number"),
        ({"maxiter": -1}, "maxiter is -1"),
        ({"tile": 3}, "tile is 3; give a whole number, 8 or more"),
        ({"tile": 24}, "tile is 24; it must exceed"),
        ({"network": "best"}, "network is 'best'; give"),
        ({"k_sigma": 0.0}, "k_sigma is 0.0; give a positive number"),
        ({"regularization": -1.0}, "regularization is -1.0; give"),
        ({"uncertainty": 2}, "uncertainty is 2; give a whole number, 4 or more"),
        ({"device": "gpu"}, "device is 'gpu', but the network alone runs on a device"),
        ({"n_scales": 9}, "n_scales is 9; frames of"),
        ({"noise": np.ones((3, 4))}, r"noise has shape \(3, 4\); the image has"),
        ({"noise": 0.0}, "noise is zero, negative or NaN on 2236 pixels"),
        ({"noise": -1.0}, "noise is zero, negative or NaN"),
        ({"noise": np.nan}, "noise is zero, negative or NaN"),
        ({"mask": np.ones((43, 52), bool)}, "no pixel of the image is good"),
        ({"mask": np.ones((5, 5), bool)}, r"mask has shape \(5, 5\)"),
        ({"dictionary": "curvelet"}, "curvelet"),
        ({"psf_error": 1.0}, "psf_error is 1.0; give a fraction of the PSF, at least 0 and below 1"),
        ({"psf_error": -0.1}, "psf_error is -0.1; give a fraction"),
        ({"psf_error": np.nan}, "psf_error is nan; give a fraction"),
        ({"saturated": np.ones((5, 5), bool)}, r"saturated has shape \(5, 5\); the image has \(43, 52\)"),
    ],
)
def test_bad_options_are_named(scene, options, message):
    with pytest.raises(ValueError, match=message):
        classical(scene.data, **{"noise": scene.noise_map, **options})


def test_bad_images_and_psfs_are_named(scene):
    with pytest.raises(ValueError, match=r"image has shape \(5,\); give \(h, w\)"):
        classical(np.ones(5))
    with pytest.raises(ValueError, match="frames need 4 pixels a side or more"):
        classical(np.ones((3, 50)), noise=1.0)
    with pytest.raises(TypeError, match="image has dtype complex128"):
        classical(np.ones((50, 50), complex))
    with pytest.raises(ValueError, match="all are masked or not finite"):
        classical(np.full((20, 20), np.nan), noise=1.0)
    with pytest.raises(ValueError, match="no pixel of stamp 1 is good"):
        classical(np.stack([np.ones((20, 20)), np.full((20, 20), np.nan)]), noise=1.0)
    with pytest.raises(ValueError, match="no noise was found in the image: give noise="):
        classical(np.ones((20, 20)))
    with pytest.raises(ValueError, match="increase upsample"):
        classical(scene.data, PSF.gaussian(1.2), noise=scene.noise_map, upsample=1)
    with pytest.raises(ValueError, match="psf holds 2 PSFs; give one"):
        classical(scene.data, [PROFILE, PROFILE], noise=scene.noise_map)
    with pytest.raises(ValueError, match="psf holds 2 PSFs; give one, or 3, one per stamp"):
        classical(np.ones((3, 20, 20)), [PROFILE, PROFILE], noise=1.0)


def test_a_bar_is_shown_on_request_only(scene, capsys):
    classical(scene.data, noise=scene.noise_map)
    assert capsys.readouterr().err == ""
    classical(scene.data, noise=scene.noise_map, progress=True)
    assert "deconvolve" in capsys.readouterr().err


def test_no_warning_on_the_classical_path(scene):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classical(scene.data, noise=scene.noise_map)
