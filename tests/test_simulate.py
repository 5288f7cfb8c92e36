"""Scenes against the forward model written as plain loops, Gaussian algebra and the statistics of their noise."""

import numpy as np
import pytest
import scipy.signal

from deconjugate.astro import PSF, random_flip, scatter_sources, simulate, target_psf
from deconjugate.astro.shape import fwhm_pix, windowed_centroid


def gaussian(shape, std, centre=None, flux=1.0):
    y, x = np.indices(shape)
    cy, cx = centre or ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    g = np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / std**2)
    return flux * g / g.sum()


P = gaussian((25, 21), 2.4)  # p on the fine grid


@pytest.fixture
def sky():
    rng = np.random.default_rng(1)
    sky = np.zeros((66, 87))
    sky[rng.integers(12, 54, 9), rng.integers(12, 75, 9)] = rng.uniform(10.0, 500.0, 9)
    return sky


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_data_and_truth_are_the_model(sky, upsample):
    scene = simulate(sky, P, upsample=upsample, sigma=1e-9)
    h, w = (n // upsample for n in sky.shape)
    sky = sky[: h * upsample, : w * upsample]
    blurred = scipy.signal.convolve2d(sky, P, mode="same").reshape(h, upsample, w, upsample).sum(axis=(1, 3))
    np.testing.assert_allclose(scene.noiseless, blurred, atol=1e-10)
    np.testing.assert_allclose(scene.data, blurred, atol=1e-7)
    np.testing.assert_allclose(scene.truth, scipy.signal.convolve2d(sky, target_psf(), mode="same"), atol=1e-10)
    np.testing.assert_allclose(scene.psf, P, rtol=1e-12)
    assert not scene.mask.any()


def test_flux_is_kept_from_sky_to_data_and_truth(sky):
    scene = simulate(sky[:, :86], PSF.gaussian(2.5), upsample=2, sigma=1.0)
    assert scene.truth.sum() == pytest.approx(sky.sum(), rel=1e-9)
    assert scene.noiseless.sum() == pytest.approx(sky.sum(), rel=1e-4)


def test_target_is_a_gaussian_of_two_fine_pixels():
    r = target_psf()
    assert r.shape[0] % 2 == 1
    assert r.sum() == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose(r, gaussian(r.shape, 2.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))), atol=1e-15)


def test_a_psf_in_native_pixels_gives_its_own_width():
    sky = np.zeros((99, 99))
    sky[49, 49] = 1.0  # the middle fine pixel of the middle native pixel
    scene = simulate(sky, PSF.moffat(4.0), upsample=3, sigma=1e-12)
    assert fwhm_pix(scene.noiseless) == pytest.approx(4.0, rel=2e-3)


@pytest.mark.parametrize("shift", [(3.0, -2.0), (0.37, -1.61)])
def test_shift_moves_data_and_truth_alike(shift):
    sky = np.zeros((80, 96))
    sky[40, 48] = 100.0
    scene = simulate(sky, P, upsample=2, sigma=1e-9, shift=shift)
    expected = np.array([40 + shift[0], 48 + shift[1]])
    truth = gaussian(sky.shape, 2.0 / (2.0 * np.sqrt(2.0 * np.log(2.0))), tuple(expected), 100.0)
    np.testing.assert_allclose(scene.truth, truth, atol=1e-10)
    np.testing.assert_allclose(windowed_centroid(scene.noiseless), (expected - 0.5) / 2, atol=1e-3)
    moved = gaussian(sky.shape, 2.4, tuple(expected), 100.0)
    moved = moved.reshape(40, 2, 48, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(scene.noiseless, moved, atol=2e-3 * moved.max())


def test_margin_keeps_the_light_from_outside(sky):
    whole = simulate(sky, P, upsample=2, sigma=1.0, background=4.0)
    part = simulate(sky, P, upsample=2, sigma=1.0, background=4.0, margin=6)
    np.testing.assert_array_equal(part.noiseless, whole.noiseless[6:-6, 6:-6])
    np.testing.assert_array_equal(part.truth, whole.truth[12:-12, 12:-12])
    assert part.truth.shape == (2 * part.data.shape[0], 2 * part.data.shape[1])


@pytest.mark.parametrize("noise", ["white", "poisson", "correlated"])
@pytest.mark.parametrize("peak_snr", [10.0, 200.0])
def test_peak_snr_is_the_largest_noiseless_pixel_over_its_sigma(sky, noise, peak_snr):
    scene = simulate(sky, P, peak_snr=peak_snr, noise=noise)
    k = np.unravel_index(np.argmax(scene.noiseless), scene.noiseless.shape)
    assert scene.noiseless[k] / scene.noise_map[k] == pytest.approx(peak_snr, rel=1e-12)


@pytest.mark.parametrize("noise", ["white", "poisson", "correlated"])
def test_the_noise_map_is_that_of_the_noise(noise):
    sky = np.broadcast_to(gaussian((48, 60), 7.0, flux=3e5), (4000, 48, 60))
    scene = simulate(sky, P, sigma=5.0, noise=noise, background=30.0, seed=3)
    residual = (scene.data - scene.noiseless) / scene.noise_map
    assert residual.mean() == pytest.approx(0.0, abs=5e-3)
    np.testing.assert_allclose(residual.std(axis=0), 1.0, atol=0.06)
    assert np.unique(scene.noise_map).size > 1 if noise == "poisson" else np.all(scene.noise_map == 5.0)
    neighbours = np.mean(residual[..., 1:] * residual[..., :-1])
    k = target_psf(fwhm_pix=1.5)
    expected = np.sum(k[:, 1:] * k[:, :-1]) / np.sum(k**2) if noise == "correlated" else 0.0
    assert neighbours == pytest.approx(expected, abs=0.01)


def test_shot_fraction_is_the_share_at_the_peak(sky):
    scene = simulate(sky, P, peak_snr=20.0, noise="poisson", shot_fraction=0.8)
    assert (scene.noise_map.min() / scene.noise_map.max()) ** 2 == pytest.approx(0.2, rel=1e-6)
    by_sigma = simulate(sky, P, sigma=float(scene.noise_map.min()), noise="poisson", shot_fraction=0.8)
    np.testing.assert_allclose(by_sigma.noise_map, scene.noise_map, rtol=1e-6)


@pytest.mark.parametrize("noise", ["white", "poisson", "correlated"])
def test_empty_sky_has_noise_alone(noise):
    scene = simulate(np.zeros((120, 150), np.float32), P, sigma=2.0, noise=noise, background=7.0)
    assert scene.data.dtype == scene.truth.dtype == scene.noise_map.dtype == np.float32
    np.testing.assert_allclose(scene.noise_map, 2.0)
    np.testing.assert_allclose(scene.truth, 7.0 / 4)
    assert scene.data.mean() == pytest.approx(7.0, abs=0.3)
    assert scene.data.std() == pytest.approx(2.0, rel=0.1)


def test_bad_pixels_are_nan_and_masked(sky):
    scene = simulate(sky, P, sigma=1.0, bad_fraction=0.1)
    assert 0.05 < scene.mask.mean() < 0.15
    np.testing.assert_array_equal(np.isnan(scene.data), scene.mask)
    assert np.isfinite(scene.noiseless).all()


def test_the_seed_decides_and_a_batch_has_its_own_peaks(sky):
    np.testing.assert_array_equal(simulate(sky, P, peak_snr=9, seed=4).data, simulate(sky, P, peak_snr=9, seed=4).data)
    assert not np.array_equal(simulate(sky, P, peak_snr=9, seed=4).data, simulate(sky, P, peak_snr=9, seed=5).data)
    batch = simulate(np.stack([sky, 100.0 * sky]), P, peak_snr=9)
    np.testing.assert_allclose(batch.noise_map[1], 100.0 * batch.noise_map[0], rtol=1e-12)


def test_flips_are_the_eight_symmetries():
    image = np.arange(6.0).reshape(2, 3)
    rng = np.random.default_rng(0)
    seen = {random_flip(image, seed=rng).tobytes() for _ in range(200)}
    seen_shapes = {random_flip(image, seed=rng).shape for _ in range(200)}
    assert len(seen) == 8
    assert seen_shapes == {(2, 3), (3, 2)}
    assert random_flip(np.stack([image, image]), seed=1).shape[0] == 2


def test_scattered_sources_keep_their_light_inside_the_frame():
    source = np.full((4, 7), 2.0, np.float32)
    sky = scatter_sources([source], (300, 400), 3, seed=2)
    assert sky.dtype == np.float32
    assert sky.shape == (300, 400)
    assert sky.sum() == pytest.approx(3 * source.sum())
    assert not scatter_sources([], (30, 40), 0).any()
    crowded = scatter_sources([np.ones((50, 60))], (20, 30), 40, seed=3)  # larger than the frame: cut at its edges
    assert crowded.min() > 0


def test_real_galaxies_make_scenes(data_dir):
    with np.load(data_dir / "galaxies" / "hst_val.npz") as images:
        names = [n for n in images.files if n.startswith("candels")][:3]
        galaxies = [images[n] for n in names]
    sky = scatter_sources(galaxies, (256, 256), 4, seed=1)
    scene = simulate(sky, PSF.moffat(4.0), upsample=2, peak_snr=50, noise="poisson", background=10.0, margin=8)
    assert scene.data.shape == (112, 112)
    assert np.isfinite(scene.data).all()
    assert scene.data.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak_snr": 5.0}, "give one of the two"),
        ({"sigma": None}, "give one of the two"),
        ({"sigma": -1.0}, "sigma is -1.0; it must be positive"),
        ({"sigma": None, "peak_snr": 0.0}, "peak_snr is 0.0; it must be positive"),
        ({"noise": "pink"}, "noise is 'pink'"),
        ({"shot_fraction": 1.5}, "shot_fraction is 1.5; it must be positive, at most 1"),
        ({"noise": "poisson", "shot_fraction": 1.0}, "shot_fraction is 1 and sigma is given"),
        ({"correlation_fwhm": 0.0}, "correlation_fwhm is 0.0"),
        ({"bad_fraction": 1.0}, "bad_fraction is 1.0"),
        ({"upsample": 0}, "upsample is 0"),
        ({"margin": 20}, "margin is 20"),
        ({"margin": -1}, "margin is -1"),
        ({"psf": P[:, :-1]}, "p on the fine grid has odd sides"),
        ({"psf": np.zeros((5, 5))}, "psf is all zero"),
        ({"sky": np.zeros(5)}, "sky is float64 of shape"),
        ({"sky": np.full((40, 40), np.nan)}, "sky has 1600 pixels that are not finite"),
        ({"sky": np.zeros((40, 40)), "sigma": None, "peak_snr": 5.0}, "peak_snr has no meaning, give sigma"),
    ],
)
def test_refuses(changes, message):
    arguments = {"sky": np.ones((40, 50)), "psf": P, "sigma": 1.0} | changes
    with pytest.raises(ValueError, match=message):
        simulate(arguments.pop("sky"), arguments.pop("psf"), **arguments)


def test_scatter_refuses():
    with pytest.raises(ValueError, match="n_sources is -1"):
        scatter_sources([np.ones((3, 3))], (9, 9), -1)
    with pytest.raises(ValueError, match="images is empty"):
        scatter_sources([], (9, 9), 1)
