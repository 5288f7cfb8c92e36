"""The steps of a deconvolution for batches of tensors, each beside what it is for one frame of arrays."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from deconjugate.astro import PSF, simulate
from deconjugate.astro.apertures import close_fluxes
from deconjugate.astro.apertures_torch import close_fluxes as close_all
from deconjugate.astro.apertures_torch import nearest_source
from deconjugate.astro.debias import debias, light_metric
from deconjugate.astro.debias_torch import debias as debias_all
from deconjugate.astro.forward import DataModel
from deconjugate.astro.forward_torch import TorchModel
from deconjugate.astro.gaussian_torch import gaussian_filter
from deconjugate.astro.medians_torch import clipped_median, masked_median
from deconjugate.astro.network_input import _sky, prepare
from deconjugate.astro.network_input_torch import prepare as prepare_all
from deconjugate.astro.points import find_points, point_image
from deconjugate.astro.points_torch import Stars, point_images
from deconjugate.astro.points_torch import find_points as find_points_of_all
from deconjugate.astro.regions_torch import connected_to, dilated, dilated_across, labels
from deconjugate.astro.sparse import sparse_deconvolution
from deconjugate.astro.sparse_torch import sparse_deconvolution as sparse_all
from deconjugate.astro.support import _filled, find_support
from deconjugate.astro.support_torch import Views, filled, find_supports, significance
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.astro.tikhonov_torch import choose_regularization as choose_all
from deconjugate.astro.tikhonov_torch import tikhonov as tikhonov_all
from deconjugate.operators import Starlet, dot_test

SHAPE = (43, 52)
PROFILES = [PSF.moffat(3.0).fine(2, max_size=41), PSF.moffat(3.6, ellipticity=0.2).fine(2, max_size=41)]
SNR = (15, 60, 200, 8)


@pytest.fixture(scope="module")
def frames():
    """Four frames of two galaxies in units of their noise; the second has a hole, the third uneven noise."""
    rows, columns = np.indices((2 * SHAPE[0], 2 * SHAPE[1]))
    data, weight = [], np.ones((len(SNR), *SHAPE), np.float32)
    for seed, snr in enumerate(SNR):
        sky = np.exp(-np.hypot(rows - 40, (columns - 34 - 6 * seed) / 1.4) / 4.0)
        sky += 0.4 * np.exp(-np.hypot(rows - 50, columns - 78) / 3)
        scene = simulate(sky, PSF.moffat(3.0), peak_snr=snr, seed=seed)
        data.append(scene.data / scene.noise_map[0, 0])
    data = np.stack(data).astype(np.float32)
    weight[1, 18:21, 20:24] = 0.0
    weight[2] *= np.linspace(0.5, 2.0, SHAPE[0], dtype=np.float32)[:, None]
    return np.where(weight > 0, data, np.float32(0)), weight


@pytest.fixture(scope="module")
def batch(frames):
    """The data models, one for each frame, and data and weight on the padded grid, as arrays and as tensors."""
    models = [DataModel(SHAPE, PROFILES[i % 2], 2) for i in range(len(SNR))]
    y, w = (np.stack([model.embed(one) for model, one in zip(models, given)]) for given in frames)
    return models, y, w, TorchModel(models, "cpu"), torch.from_numpy(y), torch.from_numpy(w)


@pytest.fixture(scope="module")
def starts(batch, frames):
    """Supports of all frames and of each, the starlet, and images to be corrected."""
    models, y, w, model, *_ = batch
    starlet = Starlet(SHAPE, 4)
    views = Views([PROFILES[i % 2] for i in range(len(SNR))], SHAPE, 2, "cpu")
    supports = find_supports(model, starlet, *map(torch.from_numpy, frames), views)
    each = [find_support(models[i], starlet, frames[0][i], frames[1][i], PROFILES[i % 2]) for i in range(len(SNR))]
    x = []
    for one, data, weight, support in zip(models, y, w, each):
        x.append(0.9 * support.allowed * sparse_deconvolution(one, data, weight, tikhonov(one, data, weight, 1.0)))
    return supports, starlet, np.stack(x).astype(np.float32), each


@pytest.mark.parametrize("upsample", [1, 2, 3])
@pytest.mark.parametrize(("shape", "margin"), [((13, 10), "auto"), ((9, 15), 0)])
def test_the_data_model_takes_tensors(upsample, shape, margin):
    model = DataModel(shape, PSF.gaussian(3.0).fine(upsample, max_size=21), upsample, margin=margin)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, *model.domain_shape)), rng.standard_normal((2, *model.range_shape))
    # k and a are complex64: their product with 9 is rounded in the one order or in the other.
    np.testing.assert_allclose(model.apply(torch.from_numpy(x)).numpy(), model.apply(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.adjoint(torch.from_numpy(y)).numpy(), model.adjoint(y), rtol=0, atol=1e-7)
    assert dot_test(model, rtol=1e-5, device="cpu")


def test_a_batch_is_its_frames_one_by_one(batch):
    models, y, _w, model, ty, _tw = batch
    x = model.adjoint(ty)
    for i, one in enumerate(models):
        np.testing.assert_allclose(x[i].numpy(), one.adjoint(y[i]), rtol=0, atol=1e-5 * np.abs(x[i].numpy()).max())
        some = model.take(torch.tensor([i]))
        torch.testing.assert_close(some.apply(x[i : i + 1]), model.apply(x)[i : i + 1])


def test_models_of_a_batch_must_be_of_one_size():
    models = [DataModel((13, n), PSF.gaussian(3.0).fine(2, max_size=21), 2) for n in (10, 12)]
    with pytest.raises(ValueError, match=r"the models of a batch differ: frames of \(13, 10\) on .* and \(13, 12\)"):
        TorchModel(models, "cpu")


def test_medians_leave_out_what_is_bad(batch):
    _models, y, w, _model, ty, tw = batch
    assert masked_median(ty, tw > 0).tolist() == [float(np.median(a[b > 0])) for a, b in zip(y, w)]
    assert clipped_median(ty, tw > 0).tolist() == pytest.approx([_sky(a[b > 0]) for a, b in zip(y, w)], abs=1e-6)


def test_regularization_and_tikhonov_are_those_of_each_frame(batch):
    models, y, w, model, ty, tw = batch
    lam = choose_all(model, ty, tw)
    expected = [choose_regularization(*one) for one in zip(models, y, w)]
    np.testing.assert_allclose(lam.numpy(), expected, rtol=1e-3)
    images = tikhonov_all(model, ty, tw, torch.tensor(expected), rtol=1e-2).numpy()
    for i, one in enumerate(models):
        image = tikhonov(one, y[i], w[i], expected[i], rtol=1e-2)
        np.testing.assert_allclose(images[i], image, rtol=0, atol=1e-2)


def test_rounding_of_the_data_is_not_enlarged(batch):
    models, y, w, *_ = batch
    rng = np.random.default_rng(2)
    for model, one, weight in zip(models, y, w):
        near = one * (1 + 1e-7 * rng.standard_normal(one.shape)).astype(np.float32)
        images = [tikhonov(model, data, weight, 1e-3, rtol=1e-2) for data in (one, near)]
        assert np.abs(images[0] - images[1]).max() < 3e-2


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_gaussian_filter_is_that_of_scipy(mode):
    x = np.random.default_rng(3).standard_normal((2, 37, 23))
    for width in (0.8, 3.0, 9.0):
        expected = [scipy.ndimage.gaussian_filter(one, width, mode=mode) for one in x]
        np.testing.assert_allclose(gaussian_filter(torch.from_numpy(x), width, mode=mode).numpy(), expected, atol=1e-12)


def test_regions_are_those_of_scipy():
    rng = np.random.default_rng(4)
    mask = scipy.ndimage.gaussian_filter(rng.standard_normal((3, 4, 57, 43)), (0, 0, 1.2, 1.2)) > 0.06
    seed = mask & (rng.random(mask.shape) < 0.003)
    found = connected_to(torch.from_numpy(seed), torch.from_numpy(mask)).numpy()
    numbers, counts = labels(torch.from_numpy(mask[:, 0]))
    for i in range(len(mask)):
        expected, _ = scipy.ndimage.label(mask[i], np.ones((3, 3, 3)))
        np.testing.assert_array_equal(found[i], np.isin(expected, np.unique(expected[seed[i]])) & mask[i])
        expected, count = scipy.ndimage.label(mask[i, 0])
        np.testing.assert_array_equal(numbers[i].numpy(), expected)
        assert counts[i] == count
    for reach in (0, 1, 3):
        expected = scipy.ndimage.maximum_filter(seed[:, 0], (1, 2 * reach + 1, 2 * reach + 1))
        np.testing.assert_array_equal(dilated(torch.from_numpy(seed[:, 0]), reach).numpy(), expected)
    across = dilated_across(torch.from_numpy(seed[:, 0]), [1, 3, 2]).numpy()
    for i, steps in enumerate((1, 3, 2)):
        np.testing.assert_array_equal(across[i], scipy.ndimage.binary_dilation(seed[i, 0], iterations=steps))


def test_bad_pixels_are_filled_as_for_one_frame():
    rng = np.random.default_rng(5)
    values = rng.standard_normal((3, 45, 38)) + 20.0
    good = np.ones(values.shape, bool)
    good[0, 5:40, 4:30], good[1], good[1, 0, 0] = False, False, True
    found = filled(torch.from_numpy(values), torch.from_numpy(good)).numpy()
    for one, expected, mask in zip(found, values, good):
        np.testing.assert_allclose(one, _filled(expected, mask), rtol=1e-9)


def test_supports_are_those_of_each_frame(batch, frames):
    models, *_rest = batch
    model = batch[3]
    data, weight = frames
    starlet = Starlet(SHAPE, 4)
    views = Views([PROFILES[i % 2] for i in range(len(SNR))], SHAPE, 2, "cpu")
    found = find_supports(model, starlet, *map(torch.from_numpy, frames), views)
    for i, one in enumerate(models):
        support = find_support(one, starlet, data[i], weight[i], PROFILES[i % 2])
        assert (found.coefficients[i].numpy() != support.coefficients).sum() <= 1
        np.testing.assert_array_equal(found.sources[i].numpy(), support.sources)
        assert found.counts[i] == support.sources.max()
        np.testing.assert_array_equal(found.allowed[i].numpy(), support.allowed)
    assert found.counts.max() > 0
    few = torch.tensor([2, 0])
    again = found.put(few, find_supports(model.take(few), starlet, *(torch.from_numpy(x[[2, 0]]) for x in frames),
                                         views.take(few)))  # fmt: skip
    assert torch.equal(again.allowed, found.allowed)
    assert torch.equal(again.take(few).sources, found.sources[few])


def test_points_are_those_of_each_frame():
    rng = np.random.default_rng(6)
    data = []
    for k in range(4):
        sky = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]))
        for _ in range(5 * (k > 0)):
            sky[rng.integers(20, 66), rng.integers(20, 84)] += rng.uniform(0.2, 1.0)
        sky[30:34, 50:60] += 0.02 * (k > 1)
        seen = simulate(sky, PSF.moffat(3.0), peak_snr=150, seed=k) if k else None
        data.append(rng.standard_normal(SHAPE) if seen is None else seen.data / seen.noise_map[0, 0])
    data, weight = np.stack(data).astype(np.float32), np.ones((4, *SHAPE), np.float32)
    weight[1, 20:24, 20:24] = 0.0
    psfs = [PROFILES[0], PROFILES[1], PROFILES[0], PROFILES[0]]
    models = [DataModel(SHAPE, psf, 2) for psf in psfs]
    model, given = TorchModel(models, "cpu"), [torch.from_numpy(x) for x in (data, weight)]
    snr = significance(*given, Views(psfs, SHAPE, 2, "cpu"))
    stars = Stars(models, psfs, "cpu")
    points = find_points_of_all(model, *given, snr, stars, np.arange(4))
    assert len(points.flux) > 4
    images = point_images(model, points, 4).numpy()
    for i in range(4):
        expected = find_points(models[i], data[i], weight[i], psfs[i])
        assert len(expected.flux) == (points.frame == i).sum()
        np.testing.assert_allclose(points.flux[points.frame == i].numpy(), expected.flux, rtol=1e-5)
        np.testing.assert_allclose(images[i], point_image(models[i], expected), atol=1e-3)
    none = find_points_of_all(model, *(x[:1] for x in given), snr[:1] * 0, stars, np.arange(1))
    assert not len(none.flux)


def test_every_pixel_goes_to_the_nearest_source():
    rng = np.random.default_rng(7)
    sources, count = scipy.ndimage.label(rng.random((41, 30)) < 0.01)
    tensor = torch.from_numpy(np.stack([sources, 0 * sources])).long()
    found = nearest_source(tensor).numpy()
    assert not found[1].any()
    distance = [scipy.ndimage.distance_transform_edt(sources != k) for k in range(1, count + 1)]
    chosen = np.take_along_axis(np.stack(distance), found[:1] - 1, 0)[0]
    np.testing.assert_allclose(chosen, np.min(distance, axis=0))


def test_fluxes_are_closed_as_in_each_frame(batch, frames, starts):
    models, y, w, model, ty, tw = batch
    supports, _starlet, x, each = starts
    metric = torch.from_numpy(np.stack([light_metric(m, one, s.allowed) for m, one, s in zip(models, x, each)]))
    image, fluxes, fitted = close_all(model, ty, tw, torch.from_numpy(x), metric, supports, floor=0.0)
    expected = [close_fluxes(models[i], y[i], w[i], x[i], metric[i].numpy(), each[i].sources, 0.0) for i in range(4)]
    np.testing.assert_allclose(image.numpy(), [one[0] for one in expected], atol=1e-3)
    np.testing.assert_allclose(fluxes.numpy(), np.concatenate([one[1] for one in expected]), atol=1e-3)
    np.testing.assert_allclose(fitted.numpy(), [one[2] for one in expected], atol=1e-3)


# Steps that meet positivity start afresh and enlarge rounding, which differs with the number of threads: few steps are
# compared, and images as a whole.
@pytest.mark.parametrize(
    "options", [{"maxiter": 10}, {"positivity": False, "maxiter": 5}, {"maxiter": 0}, {"flux_tolerance": 9.0}]
)
def test_frames_are_corrected_as_each_by_itself(batch, starts, options):
    models, y, w, model, ty, tw = batch
    supports, starlet, x, each = starts
    found = debias_all(model, starlet, ty, tw, torch.from_numpy(x), supports, **options)
    fluxes = []
    for i in range(len(models)):
        expected = debias(models[i], starlet, y[i], w[i], x[i], each[i], **options)
        assert found.iterations[i] == expected.iterations
        assert found.converged[i] == expected.converged or not options.get("maxiter", 1)
        difference = found.image[i].numpy() - expected.image
        assert np.linalg.norm(difference) < 2e-3 * np.linalg.norm(expected.image)
        assert np.abs(difference).max() < 0.1
        fluxes.append(expected.source_residuals)
    if options.get("maxiter", 1):
        np.testing.assert_allclose(found.source_residuals.numpy(), np.concatenate(fluxes), atol=5e-3)


@pytest.mark.parametrize("positivity", [True, False])
def test_sparse_images_are_those_of_each_frame(batch, starts, positivity):
    models, y, w, model, ty, tw = batch
    supports, _starlet, x, _each = starts
    options = {"positivity": positivity, "n_scales": 4}
    found = sparse_all(model, ty, tw, torch.from_numpy(x), region=supports.allowed, **options)
    for i, one in enumerate(models):
        expected = sparse_deconvolution(one, y[i], w[i], x[i], region=supports.allowed[i].numpy(), **options)
        np.testing.assert_allclose(found[i].numpy(), expected, atol=2e-3)


def test_the_network_is_told_what_it_is_told_of_one_frame(batch):
    models, y, w, model, ty, tw = batch
    lam = torch.tensor([0.3, 0.05, 2.0, 0.7], dtype=torch.float64)
    balanced = np.stack([tikhonov(*one, float(a), rtol=1e-3) for *one, a in zip(models, y, w, lam)])
    found = prepare_all(model, ty, tw, torch.from_numpy(balanced), lam)
    for i, one in enumerate(models):
        expected = prepare(one, y[i], w[i], balanced[i], float(lam[i]))
        np.testing.assert_allclose(found.conditions[i].numpy(), expected.conditions, atol=1e-4)
        np.testing.assert_allclose(found.channels[i].numpy(), expected.channels, atol=5e-2)
        np.testing.assert_allclose(found.scale[i].numpy(), expected.scale, rtol=1e-3, atol=1e-3)
