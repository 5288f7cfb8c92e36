"""The steps of a deconvolution for batches of tensors, each beside what it is for one frame of arrays."""

import numpy as np
import pytest
import torch

from deconjugate.astro import PSF, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.forward_torch import TorchModel
from deconjugate.astro.medians_torch import clipped_median, masked_median
from deconjugate.astro.network_input import _sky
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.astro.tikhonov_torch import choose_regularization as choose_all
from deconjugate.astro.tikhonov_torch import tikhonov as tikhonov_all
from deconjugate.operators import dot_test

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
