"""Devices, weight files and the training loop that the learned parts share."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from deconjugate.operators.learned import device, training, weights

CARD = {
    "architecture": "Line",
    "arguments": {"ndim": 2, "width": 3},
    "data": "none",
    "recipe": "none",
    "seed": 0,
    "metrics": {},
    "licence": "BSD-3-Clause",
}


class Line:
    """y = w x + noise, a new sample a step, with a state that steps change."""

    def __init__(self):
        self.total = torch.zeros(3)

    def loss(self, network, step):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        self.total = self.total + x.mean(0)
        return (network(x) - (x + 0.1 * self.total).sum(1, keepdim=True)).square().mean()

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]

    def validate(self, network):
        return {"slope": float(network.weight.mean())}


def linear():
    torch.manual_seed(3)
    return torch.nn.Linear(3, 1)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "line.safetensors"
    weights.save(path, {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "b": torch.ones(2)}, CARD)
    return path


def test_weights_come_back_with_their_card(saved):
    tensors, card = weights.load(saved, architecture="Line", ndim=2, width=3)
    np.testing.assert_array_equal(tensors["w"], np.arange(6).reshape(2, 3))
    assert tensors["w"].dtype == np.float16
    assert card["parameters"] == 8
    assert len(card["sha256"]) == 64
    assert {name: card[name] for name in CARD} == CARD


def test_weights_are_read_without_torch(saved):
    code = (
        "import sys; from deconjugate.operators.learned import weights; "
        f"weights.load({str(saved)!r}); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("damage", "expected", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), {}, "cut short or changed; install or copy it again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), {}, "sha256"),
        (lambda path: path.unlink(), {}, "line.safetensors does not exist, though its card does"),
        (lambda path: path.with_suffix(".json").unlink(), {}, "line.json does not exist"),
        (lambda path: path.with_suffix(".json").write_text("{"), {}, "not valid JSON"),
        (lambda path: None, {"architecture": "Curve"}, "holds weights of 'Line', not of 'Curve'"),
        (lambda path: None, {"ndim": 3}, "made for ndim = 2, not 3"),
    ],
)
def test_weights_that_do_not_match_are_refused(saved, damage, expected, message):
    damage(saved)
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(saved, **expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99"),
        ({"licence": None}, "lacks licence"),
        ({"tensors": {"w": ["float32", [2]]}}, "other tensors than its card lists"),
    ],
)
def test_cards_that_do_not_match_are_refused(saved, change, message):
    place = saved.with_suffix(".json")
    card = json.loads(place.read_text()) | change
    place.write_text(json.dumps({name: value for name, value in card.items() if value is not None}))
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(saved)


def test_a_file_that_is_none_is_refused_though_its_hash_is_right(saved):
    import hashlib

    saved.write_bytes(b"not tensors")
    place = saved.with_suffix(".json")
    card = json.loads(place.read_text()) | {"sha256": hashlib.sha256(b"not tensors").hexdigest()}
    place.write_text(json.dumps(card))
    with pytest.raises(weights.WeightsError, match="is no safetensors file"):
        weights.load(saved)


def test_saving_asks_for_a_whole_card_and_a_name(tmp_path):
    with pytest.raises(weights.WeightsError, match="lacks licence"):
        weights.save(tmp_path / "a.safetensors", {}, {k: v for k, v in CARD.items() if k != "licence"})
    with pytest.raises(weights.WeightsError, match=r"kept as \.safetensors"):
        weights.save(tmp_path / "a.pt", {}, CARD)
    assert not list(tmp_path.iterdir())


def test_weights_enter_the_network_they_are_of(tmp_path):
    path, network, other = tmp_path / "n.safetensors", linear(), torch.nn.Linear(3, 1)
    weights.save(path, network.state_dict(), CARD)
    weights.into(other, path, architecture="Line")
    assert torch.equal(other.weight, network.weight)
    with pytest.raises(weights.WeightsError, match="does not fit the network: weight and 0 more"):
        weights.into(torch.nn.Linear(4, 1), path, architecture="Line")


def config(**changes):
    return training.TrainingConfig(**{"steps": 40, "learning_rate": 0.05, "warmup": 3, "average": 0.9, **changes})


def test_training_learns_and_keeps_the_averaged_weights(tmp_path):
    network = linear()
    history = training.train(network, Line(), config(steps=200), validate_steps=100)
    assert history["finished"]
    assert history["step"] == 200
    assert [step for step, *_ in history["curve"]] == [50, 100, 150, 200]
    assert history["curve"][-1][1] < 0.2 * history["curve"][0][1]
    assert history["validation"][-1][0] == 200
    assert history["validation"][-1][1]["slope"] == pytest.approx(float(network.weight.detach().mean()))


def test_an_interrupted_run_gives_the_weights_of_an_uninterrupted_one(tmp_path):
    whole, parts = linear(), linear()
    training.train(whole, Line(), config())
    slices = 0
    while True:
        task = Line()
        history = training.train(parts, task, config(), checkpoint=tmp_path, time_budget=0.01)
        slices += 1
        if history["finished"]:
            break
        parts = torch.nn.Linear(3, 1)  # its weights come from the checkpoint
        assert slices < 1000
    if slices == 1:  # a fast machine: cut it by hand
        half = linear()
        training.train(half, Line(), config(steps=40), checkpoint=tmp_path / "half", time_budget=1e-9)
    assert torch.equal(whole.weight, parts.weight)
    assert torch.equal(whole.bias, parts.bias)
    assert history["seconds"] > 0
    assert len(history["configurations"]) == 1


def test_a_budget_that_is_spent_ends_the_slice(tmp_path):
    history = training.train(linear(), Line(), config(), checkpoint=tmp_path, time_budget=1e-9)
    assert history["step"] == 0
    assert not history["finished"]


def test_checkpoints_come_in_small_files_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SHARD_BYTES", 501_000)
    torch.manual_seed(0)
    network = torch.nn.Linear(700, 600)
    expected = network.weight.detach().clone()

    class Nothing(Line):
        def loss(self, network, step):
            return 0.0 * network.weight.sum()

    training.train(network, Nothing(), config(steps=2), checkpoint=tmp_path)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 600_000
    assert not list(tmp_path.glob("*.part"))
    again = torch.nn.Linear(700, 600)
    training.train(again, Nothing(), config(steps=2), checkpoint=tmp_path)
    assert torch.equal(again.weight, expected)
    training.train(again, Nothing(), config(steps=3), checkpoint=tmp_path)
    assert {file.name.split("-")[1] for file in tmp_path.glob("*.safetensors")} == {"3"}
    with pytest.raises(ValueError, match="checkpoint of another network"):
        training.train(torch.nn.Linear(3, 1), Nothing(), config(), checkpoint=tmp_path)


def test_losses_that_are_not_finite_skip_their_step():
    class Wild(Line):
        def loss(self, network, step):
            return super().loss(network, step) * (float("nan") if step % 4 == 0 else 1.0)

    network = linear()
    history = training.train(network, Wild(), config())
    assert history["skipped"] == 10
    assert torch.isfinite(network.weight).all()


def test_a_changed_configuration_is_on_record(tmp_path):
    training.train(linear(), Line(), config(), checkpoint=tmp_path, time_budget=1e-9)
    history = training.train(linear(), Line(), config(steps=5), checkpoint=tmp_path)
    assert [step for step, _ in history["configurations"]] == [0, 0]
    assert training.config_of(history["configurations"][-1][1]) == config(steps=5)
    with pytest.raises(ValueError, match="record has colour"):
        training.config_of({"colour": 1})


def test_the_bar_is_for_terminals(capfd):
    training.train(linear(), Line(), config(steps=3))
    assert capfd.readouterr().err == ""
    training.train(linear(), Line(), config(steps=3), progress=True)
    assert "3/3" in capfd.readouterr().err


def test_rates_rise_and_fall():
    plan = config(steps=100, warmup=9, learning_rate=1.0, final_rate=0.1)
    assert plan.rate(0) == pytest.approx(0.1)
    assert plan.rate(100) == pytest.approx(0.1)
    assert plan.rate(50) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"warmup": -1}, "warmup -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"average": 1.0}, "average is 1"),
    ],
)
def test_configurations_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_devices():
    assert device.choose("cpu").type == "cpu"
    assert device.choose().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device is 'gpu'; choose from auto, cpu, cuda"):
        device.choose("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no CUDA device"):
            device.choose("cuda")


def test_precisions():
    x = torch.ones(4, 4)
    with device.autocast("cpu", "bfloat16"):
        assert (x @ x).dtype == torch.bfloat16
    for name in ("single", "tf32"):
        with device.autocast("cpu", name):
            assert (x @ x).dtype == torch.float32
    with pytest.raises(ValueError, match="precision is 'half'"):
        device.autocast("cpu", "half")
    with pytest.raises(ValueError, match="precision is 'half'"), device.products("cpu", "half"):
        pass


def test_tf32_ends_with_training():
    """TF32, switched on for a network, must not be left on for a caller's other products."""
    owner, name = torch.backends.cuda.matmul, "allow_tf32"  # settings that exist without a device
    if hasattr(owner, "fp32_precision"):
        name = "fp32_precision"
    before, seen = getattr(owner, name), []
    for precision in ("single", "tf32", "bfloat16"):
        with device.products("cuda", precision):
            seen.append(getattr(owner, name))
    assert seen == ([False, True, True] if name == "allow_tf32" else ["ieee", "tf32", "tf32"])
    assert getattr(owner, name) == before


def test_importing_the_package_is_light():
    code = "import sys, deconjugate.operators.learned.weights; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout.split() == ["False"]
