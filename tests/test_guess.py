"""Step 2: what the network is told, what becomes of its output, and what happens when it cannot be used."""

import json
import shutil

import numpy as np
import pytest
import torch

from deconjugate.astro import PSF, deconvolve, guess, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.network_input import CHANNELS, CONDITIONS, LADDER, describe, prepare
from deconjugate.astro.swin_unet import SwinUNet
from deconjugate.astro.tikhonov import tikhonov
from deconjugate.operators.learned import weights

PROFILE = PSF.moffat(3.0)


@pytest.fixture(scope="module")
def scene():
    rows, columns = np.indices((80, 96))
    sky = np.exp(-np.hypot(rows - 38, (columns - 50) / 1.4) / 3.5)
    return simulate(sky, PROFILE, upsample=2, peak_snr=60, seed=3)


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    """A small network of random weights: a bad guess, which the correction has to put right."""
    torch.manual_seed(0)
    network = SwinUNet(
        in_channels=CHANNELS, conditions=CONDITIONS, embedding=8, depths=(1, 1), heads=2, stem=4, window=4
    )
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    card = dict.fromkeys(weights.REQUIRED, "none") | {"architecture": "SwinUNet", "arguments": network.arguments}
    weights.save(path, {name: 0.3 * value for name, value in network.state_dict().items()}, card)
    return path


@pytest.mark.parametrize("upsample", [2, 3])
@pytest.mark.parametrize("level", [1.0, 4.0])
def test_the_noise_that_is_told_is_the_noise_there_is(upsample, level):
    model = DataModel((60, 72), PROFILE.fine(upsample), upsample)
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(model.range_shape) / np.sqrt(level)).astype(np.float32)
    weight = np.full(noise.shape, level, np.float32)
    for lam in (0.03, 2.0):
        _, told = describe(model, level, lam)
        assert tikhonov(model, noise, weight, lam, rtol=1e-4).std() == pytest.approx(told, rel=0.05)


def test_flux_and_sky_change_nothing_that_the_network_sees(scene):
    model = DataModel(scene.data.shape, scene.psf, 2)
    sigma = scene.noise_map[0, 0]
    weight = np.ones(model.range_shape, np.float32)

    def seen(data, lam=0.2):
        y = np.full(model.range_shape, np.median(data), np.float32)
        y[model.frame] = data
        return prepare(model, y, weight, tikhonov(model, y, weight, lam, rtol=1e-5), lam)

    plain = seen(scene.data / sigma)
    assert plain.channels.shape == (CHANNELS, *model.domain_shape)
    assert plain.conditions.shape == (CONDITIONS,)
    raised = seen(scene.data / sigma + 40.0)
    inner = np.s_[:, 40:-40, 40:-40]
    # The steps of conjugate gradients end at a hundredth; a sky that was left in would show as 0.5.
    np.testing.assert_allclose(raised.channels[inner], plain.channels[inner], rtol=0.02, atol=0.1)
    np.testing.assert_allclose((raised.base - plain.base)[40:-40, 40:-40], 40.0 / 4, rtol=2e-3)
    output = np.full(model.domain_shape, 0.5, np.float32)
    np.testing.assert_allclose(raised.image(output) - plain.image(output), 10.0, atol=0.05)


def test_data_times_a_number_give_the_image_times_it(scene, network_file):
    options = {"network": network_file, "device": "cpu"}
    plain = deconvolve(scene.data, PROFILE, noise=scene.noise_map, **options)
    scaled = deconvolve(1e-16 * scene.data, PROFILE, noise=1e-16 * scene.noise_map, **options)
    for name in ("network", "debiased"):
        top = plain.stages[name].max()
        np.testing.assert_allclose(1e16 * scaled.stages[name], plain.stages[name], atol=1e-3 * top)


def test_a_bad_guess_ends_with_the_right_flux(scene, network_file, monkeypatch):
    monkeypatch.setattr(guess.NetworkGuess, "output", lambda self, c, *_: np.full(c.shape[1:], -0.1, np.float32))
    result = deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=network_file, device="cpu")
    assert list(result.stages) == ["tikhonov", "network", "debiased"]
    assert result.network.startswith("small.safetensors, sha256 ")
    guessed = abs(result.stages["network"].sum() / scene.truth.sum() - 1)
    assert guessed > 0.03
    assert abs(result.image.data.sum() / scene.truth.sum() - 1) < 0.02
    assert result.flux_ratio == pytest.approx(1.0, abs=0.02)


def test_a_guess_that_cannot_be_put_right_is_replaced(scene, network_file, monkeypatch):
    monkeypatch.setattr(guess.NetworkGuess, "output", lambda self, c, *_: np.where(c[1] > 0.5, -1.0, 0.0) + 0 * c[0])
    result = deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=network_file, device="cpu", maxiter=2)
    classical = deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None, maxiter=2)
    assert result.replaced == 1.0
    np.testing.assert_array_equal(result.image.data, classical.image.data)
    assert not np.array_equal(result.stages["network"], classical.stages["classical"])
    assert classical.replaced == 0.0


def test_pieces_leave_no_seam(network_file):
    rng = np.random.default_rng(0)
    channels = rng.standard_normal((CHANNELS, 640, 300)).astype(np.float32)
    conditions = np.zeros(CONDITIONS, np.float32)
    maker = guess.choose_guess(network_file, "cpu")
    region = np.ones(channels.shape[1:], bool)
    whole = maker.output(channels, conditions, region)
    maker.piece = 352
    np.testing.assert_allclose(maker.output(channels, conditions, region), whole, atol=2e-3 * np.ptp(whole))
    region[:400] = False  # where there is no light the network is not asked
    part = maker.output(channels, conditions, region)
    np.testing.assert_allclose(part[region], whole[region], atol=2e-3 * np.ptp(whole))
    assert not part[:140].any()


def test_the_network_looks_at_the_sources_and_their_surroundings_alone(network_file, monkeypatch):
    looked = []
    before = guess.NetworkGuess.output

    def output(self, channels, conditions, region):
        looked.append(channels.shape[1:])
        return before(self, channels, conditions, region)

    monkeypatch.setattr(guess.NetworkGuess, "output", output)
    sky = np.zeros((220, 240))
    sky[70:74, 80:90] = 1.0
    scene = simulate(sky, PROFILE, upsample=2, peak_snr=30, seed=1)
    options = {"noise": scene.noise_map, "network": network_file, "device": "cpu"}
    small = deconvolve(scene.data, PROFILE, **options)
    monkeypatch.setattr(guess, "CONTEXT", 500)
    large = deconvolve(scene.data, PROFILE, **options)
    assert max(looked[0]) < 140 < 220 <= min(looked[1])
    assert large.image.data.sum() == pytest.approx(small.image.data.sum(), rel=2e-3)


def test_a_full_gpu_is_left_for_smaller_pieces_then_the_processor(network_file, monkeypatch, capsys):
    maker = guess.choose_guess(network_file, "cpu")
    tried = []

    def blended(self, channels, conditions, region):
        tried.append(self.piece)
        if len(tried) < 4:
            raise torch.cuda.OutOfMemoryError("full")
        return channels[0]

    monkeypatch.setattr(guess.NetworkGuess, "_blended", blended)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    maker.output(np.zeros((CHANNELS, 8, 8), np.float32), np.zeros(CONDITIONS, np.float32), np.ones((8, 8), bool))
    assert tried[0] > tried[1] >= tried[2] == tried[3]
    assert "pieces of" in (err := capsys.readouterr().err)
    assert "goes on on the processor" in err


@pytest.mark.parametrize("shape", [(20, 44), (31, 31)])
def test_frames_smaller_than_a_window(shape, network_file):
    rng = np.random.default_rng(1)
    data = rng.standard_normal(shape)
    data[10, 15] += 80.0
    result = deconvolve(data, PSF.moffat(2.5).fine(1)[10:-10, 10:-10], noise=1.0, network=network_file, device="cpu")
    assert np.isfinite(result.image.data).all()


def test_weights_that_cannot_be_used_are_named(scene, network_file, tmp_path):
    def run(path):
        deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=path)

    with pytest.raises(weights.WeightsError, match=r"nowhere.json does not exist.*or do without \(network=None"):
        run(tmp_path / "nowhere.safetensors")
    for ending in (".safetensors", ".json"):
        shutil.copy(network_file.with_suffix(ending), tmp_path / f"copy{ending}")
    copy = tmp_path / "copy.safetensors"
    content = copy.read_bytes()
    copy.write_bytes(content[:-100])
    with pytest.raises(weights.WeightsError, match=r"copy.safetensors has sha256 .* cut short or changed"):
        run(copy)
    copy.write_bytes(content)
    card = json.loads((tmp_path / "copy.json").read_text())
    (tmp_path / "copy.json").write_text(json.dumps(card | {"architecture": "DcdmNetwork"}))
    with pytest.raises(weights.WeightsError, match="holds weights of 'DcdmNetwork', not of 'SwinUNet'"):
        run(copy)
    (tmp_path / "copy.json").write_text(json.dumps(card | {"arguments": card["arguments"] | {"embedding": 16}}))
    with pytest.raises(weights.WeightsError, match="does not fit the network"):
        run(copy)
    (tmp_path / "copy.json").unlink()
    with pytest.raises(weights.WeightsError, match=r"copy.json does not exist"):
        run(copy)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda"), "tpu"])
def test_a_device_without_a_network_is_refused(scene, device):
    with pytest.raises(ValueError, match=r"device is '.*', but the network alone runs on a device and network is None"):
        deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None, device=device)
    for other in ("auto", "cpu", torch.device("cpu")):
        assert isinstance(guess.choose_guess(None, other), guess.SparseGuess)


def test_devices_that_are_not_there_are_refused(scene, network_file):
    with pytest.raises(ValueError, match="device is 'tpu'; choose from auto, cpu, cuda"):
        deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=network_file, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device is 'cuda', but torch .* finds no CUDA device"):
            deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=network_file, device="cuda")


def test_the_ladder_has_the_balanced_image_in_the_middle():
    assert LADDER[len(LADDER) // 2] == 1.0


@pytest.mark.parametrize("peak_snr", [20, 100])
def test_a_source_that_an_edge_cuts_makes_no_spike_there(peak_snr):
    rows, columns = np.indices((90, 120))
    sky = np.exp(-np.hypot((rows - 44) / 1.5, columns - 41) / 6)
    whole = simulate(sky, PROFILE, upsample=2, peak_snr=peak_snr, seed=3)
    cut, truth = whole.data[:, 20:], whole.truth[:, 40:]  # through its middle, nearly
    error = {}
    for network in ("default", None):
        image = deconvolve(cut, PROFILE, upsample=2, noise=whole.noise_map[:, 20:], network=network).image.data
        error[network] = np.abs(image - truth)[:, :8].max() / truth.max()
    assert error["default"] < 1.1 * error[None] + 0.01
