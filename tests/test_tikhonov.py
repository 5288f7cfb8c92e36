import numpy as np
import pytest

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.forward import DataModel, kernel_to_target
from deconjugate.astro.simulate import target_psf
from deconjugate.astro.tikhonov import LEAST, BlockSolver, choose_regularization, laplacian, tikhonov
from deconjugate.operators import Binning, Convolution, dot_test


def model_of(shape=(13, 10), upsample=2, margin="auto", fwhm=3.0):
    return DataModel(shape, PSF.gaussian(fwhm).fine(upsample, max_size=21), upsample, margin=margin)


def dense(operator):
    return np.stack([operator.apply(e.reshape(operator.domain_shape)).ravel() for e in np.eye(operator.shape[1])], 1)


@pytest.mark.parametrize("upsample", [1, 2, 3, 4])
@pytest.mark.parametrize("margin", ["auto", 0])
def test_model_passes_the_dot_test(upsample, margin):
    model = model_of((9, 14), upsample, margin)
    assert dot_test(model, rtol=1e-5)
    assert dot_test(model, dtype=np.float32, rtol=1e-4)


@pytest.mark.parametrize("upsample", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(13, 10), (12, 15)])
def test_model_is_convolution_then_binning(upsample, shape):
    model = model_of(shape, upsample)
    x = np.random.default_rng(3).random(tuple(n * upsample for n in shape))
    padded = np.zeros(model.domain_shape)
    padded[model.inside] = x
    expected = (Binning(x.shape, upsample) @ Convolution(x.shape, model.kernel)).apply(x)
    np.testing.assert_allclose(model.apply(padded)[model.frame], expected, atol=1e-5)


def test_light_from_beyond_one_edge_does_not_reach_the_other():
    model = model_of((24, 31))
    x = np.zeros(model.domain_shape)
    x[0, :] = 1.0
    frame = model.apply(x)[model.frame]
    assert np.abs(frame[12:]).max() < 1e-6


def test_kernel_takes_the_target_to_the_psf():
    psf = PSF.moffat(3.2).fine(2)
    kernel, mismatch = kernel_to_target(psf, target_psf())
    assert kernel.sum() == pytest.approx(1.0)
    assert mismatch < 1e-3
    truth = Convolution((129, 129), kernel).apply(np.pad(target_psf(), (129 - target_psf().shape[0]) // 2))
    start = (129 - psf.shape[0]) // 2
    window = slice(max(start, 0), 129 - max(start, 0))
    crop = slice(max(-start, 0), psf.shape[0] - max(-start, 0))
    np.testing.assert_allclose(truth[window, window], psf[crop, crop], atol=3e-5)


def test_a_psf_too_sharp_for_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"2\.5: increase upsample \(now 1\)"):
        DataModel((20, 20), PSF.gaussian(2.0).fine(1), 1)


def test_constant_sky_comes_out_as_one():
    model = model_of(upsample=3)
    np.testing.assert_allclose(model.apply(np.full(model.domain_shape, 2.0 / 9.0)), 2.0, rtol=1e-5)


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_block_solver_solves_the_normal_equations(upsample):
    model = model_of((6, 5), upsample, margin=0)
    penalty = 0.3 * laplacian(model.frequencies) ** 2 + 0.05
    A = dense(model)
    spectra = np.eye(A.shape[1]).reshape(-1, *model.domain_shape)
    Q = np.stack([model.to_image(penalty * np.fft.rfft2(e)).ravel() for e in spectra], 1)
    b = np.random.default_rng(4).standard_normal(A.shape[1])
    expected = np.linalg.solve(2.0 * A.T @ A + Q, b)
    spectrum = BlockSolver(model, penalty, 2.0).solve(np.fft.rfft2(b.reshape(model.domain_shape)))
    np.testing.assert_allclose(model.to_image(spectrum).ravel(), expected, atol=1e-4 * np.abs(expected).max())


def test_weighted_tikhonov_agrees_with_a_direct_solve():
    model = model_of((6, 7), 2, margin=0)
    rng = np.random.default_rng(5)
    weight = rng.uniform(0.2, 2.0, model.range_shape)
    weight[2, 3] = 0.0
    y = rng.standard_normal(model.range_shape)
    y[2, 3] = 1e6
    A = dense(model)
    L = np.stack(
        [model.to_image(laplacian(model.frequencies) * np.fft.rfft2(e.reshape(model.domain_shape))).ravel()
         for e in np.eye(A.shape[1])], 1
    )  # fmt: skip
    expected = np.linalg.solve(A.T @ (weight.ravel()[:, None] * A) + 0.7 * L.T @ L, A.T @ (weight * y).ravel())
    x = tikhonov(model, y, weight, 0.7, rtol=1e-9, maxiter=400)
    np.testing.assert_allclose(x.ravel(), expected, atol=1e-4 * np.abs(expected).max())


def test_tikhonov_keeps_the_flux():
    model = model_of((31, 26), margin=0)
    x = np.zeros(model.domain_shape)
    x[20:33, 17:30] = np.random.default_rng(6).random((13, 13))
    result = tikhonov(model, model.apply(x), np.ones(model.range_shape), 10.0, rtol=1e-7)
    assert result.sum() == pytest.approx(x.sum(), rel=1e-4)


@pytest.mark.parametrize("snr", [10, 100])
def test_chosen_weight_is_nearly_the_best(snr):
    rows, columns = np.indices((78, 90))
    sky = np.exp(-np.hypot(rows - 37, (columns - 43) / 1.5) / 4.0)
    scene = simulate(sky, PSF.moffat(3.0), peak_snr=snr, seed=2)
    sigma = scene.noise_map[0, 0]
    model = DataModel(scene.data.shape, scene.psf, 2)
    y, w = model.embed(scene.data / sigma), model.embed(np.ones(scene.data.shape))

    def error(lam):
        return np.sum((model.crop(tikhonov(model, y, w, lam)) - scene.truth / sigma) ** 2)

    best = min(error(lam) for lam in (0.3, 3.0, 30.0, 300.0, 3000.0))
    assert error(choose_regularization(model, y, w)) < 1.3 * best


def test_a_saturated_star_does_not_choose_the_regularization():
    # A masked core once drove lambda to its lower bound, and light piled up under the mask without end.
    psf = PSF.moffat(4.0, beta=3.0)
    sky = np.zeros((140, 150))
    sky[70, 75] = 1.0
    scene = simulate(sky, psf, upsample=2, peak_snr=3000, seed=1)
    saturated = scene.data > 0.5 * scene.data.max()
    whole = deconvolve(scene.data, psf, noise=scene.noise_map, network=None)
    masked = deconvolve(scene.data, psf, noise=scene.noise_map, mask=saturated, network=None)
    assert 0.02 < masked.regularization / whole.regularization < 50
    assert masked.reduced_chi2 < 3
    assert abs(masked.image.data.sum() / scene.truth.sum() - 1) < 0.15


def test_lambda_stays_above_what_the_peak_can_ask_for():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((60, 66)).astype(np.float32)
    data[20:40, 30] += 400.0  # a bleeding column, far sharper than the PSF
    model = DataModel(data.shape, PSF.moffat(4.8).fine(2, max_size=63), 2)
    y = model.embed(data)
    lam = choose_regularization(model, y, model.embed(np.ones_like(data)))
    peak = float(data.max())
    assert 0.99 * LEAST * 2**4 / peak**2 <= lam < 1.0
