"""deconvolve() with all steps on a torch device, here the processor, beside the path of arrays."""

import importlib
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deconjugate.astro import PSF, deconvolve, simulate, three_steps_torch
from deconjugate.astro.guess import GivenGuess, NetworkGuess, SparseGuess
from deconjugate.astro.guess_torch import AT_A_TIME
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.three_steps_torch import TorchSteps

# The package gives the function under the name of the module.
module = importlib.import_module("deconjugate.astro.deconvolve")
PROFILE = PSF.moffat(3.0)
STEPS = 8  # that start afresh where positivity is met enlarge rounding little by little: so many are compared


@pytest.fixture
def on_tensors(monkeypatch):
    """A function that deconvolves with all steps on CPU tensors."""

    def run(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(module, "steps_device", lambda *_: torch.device("cpu"))
            return deconvolve(*arguments, **options)

    return run


@pytest.fixture(scope="module")
def stamps():
    """Galaxies that are whole, galaxies that edges cut, a star with a hole, and nothing, in units of the noise."""
    rng, data = np.random.default_rng(12), []
    for k in range(5):
        sky = np.zeros((94, 110))
        galaxy = parametric_galaxy(rng, radius=3.0 + k)
        height, width = (min(n, m) for n, m in zip(galaxy.shape, sky.shape))
        corner = 10 * (k != 3)
        galaxy = galaxy[: height - corner, : width - corner]
        sky[corner : corner + galaxy.shape[0], corner : corner + galaxy.shape[1]] = galaxy
        seen = simulate(sky, PROFILE, peak_snr=15.0 * 2**k, seed=k)
        data.append(seen.data / seen.noise_map[0, 0])
    sky = np.zeros((94, 110))
    sky[40, 61] = 1.0
    seen = simulate(sky, PROFILE, peak_snr=90.0, seed=5)
    data = np.stack([*data, seen.data / seen.noise_map[0, 0], rng.standard_normal(seen.data.shape)])
    mask = np.zeros(data.shape, bool)
    mask[5, 19:21, 33:36] = mask[1, 5:9, 40:45] = True
    return np.where(mask, np.nan, data), mask


def gaussian(width):
    """A small PSF, so that tiles may be small."""
    profile = np.exp(-0.5 * (np.arange(-8, 9) / width) ** 2)
    return np.outer(profile, profile) / profile.sum() ** 2


def agree(found, expected, image=1e-2, flux=1e-4):
    """Fluxes, sources and images are the same."""
    assert list(found.stages) == list(expected.stages)
    for name, stage in expected.stages.items():
        assert found.stages[name].dtype == stage.dtype
        assert np.abs(found.stages[name] - stage).max() <= (image if name != "tikhonov" else 0.1), name
    assert np.mean(found.support != expected.support) < 1e-4
    np.testing.assert_allclose(found.flux_ratio, expected.flux_ratio, rtol=flux)
    np.testing.assert_allclose(found.reduced_chi2, expected.reduced_chi2, rtol=1e-3)
    np.testing.assert_allclose(found.residual, expected.residual, atol=image)
    np.testing.assert_allclose(found.regularization, expected.regularization, rtol=1e-2)
    np.testing.assert_array_equal(found.replaced, expected.replaced)
    assert found.mismatch == pytest.approx(expected.mismatch, rel=1e-2)
    assert found.network == expected.network


@pytest.mark.parametrize("network", ["default", None])
def test_stamps_are_as_without_tensors(stamps, on_tensors, network):
    data, mask = stamps
    options = {"noise": 1.0, "mask": mask, "network": network, "device": "cpu"}
    agree(on_tensors(data, PROFILE, **options), deconvolve(data, PROFILE, **options))


def test_every_stamp_may_have_its_own_psf(stamps, on_tensors):
    data = np.nan_to_num(stamps[0][:3])
    psfs = [PSF.moffat(fwhm) for fwhm in (2.9, 3.1, 3.6)]
    options = {"noise": 1.0, "network": None, "stages": False, "maxiter": STEPS}
    found, expected = (f(data, psfs, **options) for f in (on_tensors, deconvolve))
    # Margins are those of the largest PSF for all.
    agree(found, expected, image=5e-2, flux=1e-3)


@pytest.mark.parametrize("options", [{"upsample": 3}, {"positivity": False}, {"regularization": 0.3, "maxiter": 0}])
def test_options_are_those_of_the_path_of_arrays(stamps, on_tensors, options):
    data = np.nan_to_num(stamps[0][2])
    found, expected = (f(data, PROFILE, noise=1.0, network=None, **options) for f in (on_tensors, deconvolve))
    agree(found, expected)


@pytest.mark.parametrize("varying", [False, True])
def test_tiles_of_a_frame_go_together(on_tensors, varying):
    sky = np.zeros((190, 344))
    rng = np.random.default_rng(3)
    for row, column in ((40, 60), (100, 170), (140, 280)):
        galaxy = parametric_galaxy(rng, radius=3.0)[:60, :60]
        sky[row : row + galaxy.shape[0], column : column + galaxy.shape[1]] += galaxy[: 190 - row, : 344 - column]
    psf = PSF.gaussian(3.0)
    seen = simulate(sky, psf, peak_snr=60, seed=1)
    data = [gaussian(width) for width in (1.25, 1.3, 1.28, 1.35)]
    places = [(0, 0), (171, 0), (0, 94), (171, 94)]
    psf = data[1] if not varying else PSF.from_epsf(SimpleNamespace(data=data, oversampling=1, grid_xypos=places))
    options = {"noise": seen.noise_map, "network": None, "tile": 96, "maxiter": STEPS}
    agree(on_tensors(seen.data, psf, **options), deconvolve(seen.data, psf, **options))


def test_uncertainty_of_stamps(stamps, on_tensors):
    data = np.nan_to_num(stamps[0][[0]])
    options = {"noise": 1.0, "network": None, "uncertainty": 4, "maxiter": 2, "seed": 3}
    found, expected = (f(data, PROFILE, **options) for f in (on_tensors, deconvolve))
    agree(found, expected)
    np.testing.assert_allclose(found.image.uncertainty.array, expected.image.uncertainty.array, rtol=1e-2, atol=1e-3)


def test_tiles_without_data_are_left_out(on_tensors):
    data = np.random.default_rng(9).standard_normal((70, 230))
    data[22:39, 182:199] += 300.0 * gaussian(1.3)
    mask = np.zeros(data.shape, bool)
    mask[:, :120] = True
    options = {"noise": 1.0, "mask": mask, "network": None, "tile": 100, "maxiter": 3}
    agree(on_tensors(data, gaussian(1.3), **options), deconvolve(data, gaussian(1.3), **options))


def test_a_precision_chosen_outside_changes_nothing(stamps, on_tensors):
    data = np.nan_to_num(stamps[0][3])
    expected = on_tensors(data, PROFILE, noise=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = on_tensors(data, PROFILE, noise=1.0)
    np.testing.assert_allclose(found.image.data, expected.image.data, atol=1e-3)


def test_what_runs_where():
    network = NetworkGuess(torch.nn.Linear(1, 1))
    assert module.steps_device("auto", network, "starlet") is None
    assert module.steps_device("cpu", SparseGuess(), "starlet") is None
    assert module.steps_device("cuda", GivenGuess(np.zeros((4, 4))), "starlet") is None
    assert module.steps_device("auto", SparseGuess(), "db4") is None
    with pytest.raises(ValueError, match="device is 'cuda'; with the dictionary 'db4' the classical path runs on the"):
        module.steps_device("cuda", SparseGuess(), "db4")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device is 'cuda', but torch .* finds no CUDA device"):
            deconvolve(np.zeros((40, 40)), PROFILE, noise=1.0, network=None, device="cuda")


@pytest.mark.parametrize("network", ["default", None])
def test_a_full_gpu_is_left_for_smaller_batches_then_the_processor(stamps, on_tensors, network, monkeypatch, capsys):
    data = np.nan_to_num(stamps[0][:3])
    expected = on_tensors(data, PROFILE, noise=1.0, network=network)
    inner, tried = TorchSteps._steps, []

    def steps(self, models, psfs, y, w, some):
        tried.append((some.stop - some.start, self.at_a_time))
        if len(tried) < 20 and self.device == torch.device("meta"):
            raise (torch.cuda.OutOfMemoryError if len(tried) % 2 else RuntimeError)("cuFFT error: CUFFT_ALLOC_FAILED")
        return inner(self, models, psfs, y, w, some)

    monkeypatch.setattr(TorchSteps, "_steps", steps)
    monkeypatch.setattr(TorchSteps, "at_once", lambda self, _: min(3, self.most))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(three_steps_torch, "plain_arithmetic", lambda *_: nullcontext())
    monkeypatch.setitem(AT_A_TIME, "meta", 2**21)
    monkeypatch.setattr(module, "steps_device", lambda *_: torch.device("meta"))
    found = deconvolve(data, PROFILE, noise=1.0, network=network, device="cpu")
    err = capsys.readouterr().err
    assert tried[0][0] == 3
    assert "the GPU's memory is full: batches of 1 are tried" in err
    assert "the processor goes on" in err
    assert ("the network takes" in err) == (network is not None)
    assert ("pieces of" in err) == (network is not None)
    np.testing.assert_allclose(found.image.data, expected.image.data, atol=1e-2)
    if network:
        given = SimpleNamespace(guess=module.choose_guess(network, "cpu"))
        assert TorchSteps("cuda", given, {}).device.type == "cpu"  # for the frames that follow
    monkeypatch.setattr(TorchSteps, "_steps", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("full")))
    with pytest.raises(torch.cuda.OutOfMemoryError, match="full"):
        on_tensors(data, PROFILE, noise=1.0, network=None)
