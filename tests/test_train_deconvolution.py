"""Training of the deconvolution network: scenes that repeat, slices that add up, a command that writes weights."""

import json

import numpy as np
import pytest
import torch

from deconjugate.astro import train, training_skies
from deconjugate.astro.network_input import CHANNELS, CONDITIONS
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.swin_unet import SwinUNet
from deconjugate.astro.train_network import DeconvolutionTask, losses
from deconjugate.astro.training_scenes import SceneData, Scenes
from deconjugate.operators.learned import weights
from deconjugate.operators.learned.training import TrainingConfig
from deconjugate.operators.learned.training import train as run


def network(seed=0):
    torch.manual_seed(seed)
    return SwinUNet(in_channels=CHANNELS, conditions=CONDITIONS, embedding=8, depths=(1, 1), heads=2, stem=4, window=4)


def scenes(**options):
    return Scenes(SceneData(size=64, fwhm_pix=(1.6, 3.0), **options))


def test_a_scene_is_a_function_of_its_number():
    one, other = scenes().draw(7), scenes().draw(7)
    for name in ("channels", "conditions", "base", "scale", "truth", "inside"):
        values = getattr(one, name)
        np.testing.assert_array_equal(values, getattr(other, name))
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert one.channels.shape[1:] == one.truth.shape
    assert not np.array_equal(one.truth, scenes().draw(8).truth)
    assert not np.array_equal(one.truth, scenes(seed=1).draw(7).truth)


def test_the_tikhonov_image_is_near_the_truth(monkeypatch):
    monkeypatch.setattr(training_skies, "KINDS", {"stamp": 1.0})
    drawn = [scenes(peak_snr=(200, 500)).draw(number) for number in range(12)]
    errors = [np.square(s.inside * (s.base - s.truth)).sum() / np.square(s.truth).sum() for s in drawn]
    assert np.median(errors) < 0.3


def test_galaxies_drawn_from_formulas_are_galaxies():
    rng = np.random.default_rng(0)
    for _ in range(20):
        image = parametric_galaxy(rng, radius=3.0)
        assert image.min() >= 0.0
        assert image.max() == 1.0
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert edge.max() < 1e-2


def test_nothing_is_asked_around_the_frame():
    one, part = scenes().draw(3), network()
    with torch.no_grad():
        before = losses(part, [one])
        one.truth[one.inside == 0] = 1e6
        torch.testing.assert_close(losses(part, [one]), before, rtol=0, atol=0)
        one.truth[one.inside > 0] += 1.0
        assert abs(losses(part, [one]) - before) > 1e-3


def test_training_lowers_the_loss_and_slices_add_up(tmp_path):
    config = TrainingConfig(steps=12, learning_rate=3e-3, warmup=2)

    def task():
        return DeconvolutionTask(scenes(), batch=2, crop=32, pool=4)

    whole, sliced = network(), network()
    held = [scenes().draw(100)]
    with torch.no_grad():
        first = float(losses(whole, held))
    run(whole, task(), config)
    with torch.no_grad():
        assert float(losses(whole, held)) < first
    run(sliced, task(), config, checkpoint=tmp_path, time_budget=1e-9)
    for _ in range(20):
        history = run(sliced, task(), config, checkpoint=tmp_path, time_budget=0.2)
    assert history["finished"]
    for one, other in zip(whole.state_dict().values(), sliced.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_command_writes_weights_that_load(tmp_path, capsys):
    np.savez(tmp_path / "galaxies.npz", a=np.pad(np.ones((6, 6)), 20), b=np.pad(np.eye(9), 20))
    arguments = ["--data", tmp_path, "--out", tmp_path / "out", "--steps", 2, "--pool", 2, "--batch", 1]
    arguments += ["--crop", 32, "--validate-steps", 2, "--held-out", 2, "--threads", 1]
    train.main([str(a) for a in arguments])
    assert "step 2 of 2" in capsys.readouterr().out
    tensors, card = weights.load(tmp_path / "out" / "weights.safetensors", architecture="SwinUNet")
    assert {array.dtype.name for array in tensors.values()} == {"float16"}
    assert card["data"]["galaxies"] == 2
    assert card["metrics"]["step"] == 2
    json.dumps(card)
    with pytest.raises(SystemExit, match=r"holds neither galaxies.npz nor psfs.npz"):
        train.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "other")])


def test_scenes_that_cannot_be_are_named():
    with pytest.raises(ValueError, match=r"peak_snr is \(9, 2\); give a positive interval"):
        SceneData(peak_snr=(9, 2))
    with pytest.raises(ValueError, match="size is 32; scenes have at least 64"):
        SceneData(size=32)
