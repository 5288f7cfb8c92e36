"""One plain training loop: time budgets, exact resumption, averaged weights."""

import json
import math
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

# No file of a checkpoint is larger: such files pass through most pipes.
SHARD_BYTES = 15_000_000


@dataclass(frozen=True)
class TrainingConfig:
    """What a run is, apart from its network and data.

    Parameters
    ----------
    steps : int
        Steps of the whole run: the learning rate rises over ``warmup`` of them, then falls as a cosine to
        ``final_rate`` times ``learning_rate`` at the last.
    learning_rate : float
    betas : (float, float)
        Adam's.
    weight_decay : float
        Decoupled (AdamW).
    clip : float
        Largest norm of the gradient.
    average : float in [0, 1)
        Decay a step of the moving average of the weights, shorter at the start. The average is what is kept.
    precision : "single", "tf32" or "bfloat16"
    seed : int
    """

    steps: int = 10_000
    learning_rate: float = 1e-4
    warmup: int = 100
    final_rate: float = 0.01
    betas: tuple = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.998
    precision: str = "single"
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.steps < 1 or not self.warmup >= 0:
            raise ValueError(f"steps is {self.steps} and warmup {self.warmup}; give steps >= 1 and warmup >= 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; give a decay of at least 0 and below 1")

    def rate(self, step):
        """Learning rate of a step."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
        return self.learning_rate * rise * (self.final_rate + (1 - self.final_rate) * cosine)


def train(
    network,
    task,
    config,
    *,
    checkpoint=None,
    time_budget=None,
    checkpoint_seconds=180.0,
    validate_steps=None,
    device="cpu",
    progress=None,
):
    """Train, or go on training, a network; returns what is known of the run so far.

    The loop asks ``task.loss(network, step)`` for a scalar tensor and takes a step of AdamW. Where ``checkpoint``
    exists, everything is taken up from there: an interrupted run and an uninterrupted one give the same weights. A
    loss or gradient that is not finite skips its step and is counted.

    Parameters
    ----------
    network : torch.nn.Module
        Its weights at the start, on ``device``; the averaged weights at the end.
    task : object
        ``loss(network, step)``; ``state_dict() -> {name: tensor}`` and ``load_state_dict`` for what it carries from
        step to step; ``validate(network) -> {name: number}`` where ``validate_steps`` is given. Random numbers
        come from the step and the task's own seed or state.
    config : TrainingConfig
        ``steps`` and ``learning_rate`` may be changed between slices; a change is kept in the history.
    checkpoint : path, optional
        Folder written every ``checkpoint_seconds`` and at the end, in files of at most 15 MB, each whole or absent.
    time_budget : float, optional
        Seconds after which this call ends, between steps; seconds of all slices are in the history.
    validate_steps : int, optional
    device : str
    progress : bool, optional
        A bar on standard error; by default where that is a terminal.

    Returns
    -------
    dict
        step, seconds, skipped, finished, curve (step, mean loss since the last point, seconds), validation,
        configurations.
    """
    import torch

    from deconjugate.operators.learned.device import autocast, deterministic, products

    deterministic(device)
    torch.manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    history = {"step": 0, "seconds": 0.0, "skipped": 0, "curve": [], "validation": [], "configurations": []}
    if checkpoint is not None and (Path(checkpoint) / "checkpoint.json").exists():
        history = _resume(Path(checkpoint), network, optimizer, average, task, device)
    if not history["configurations"] or history["configurations"][-1][1] != _plain(config):
        history["configurations"].append([history["step"], _plain(config)])
    began, earlier, saved = time.monotonic(), history["seconds"], time.monotonic()
    losses = []
    with _bar(config.steps, history["step"], progress) as bar, products(device, config.precision):
        while history["step"] < config.steps:
            if time_budget is not None and time.monotonic() - began >= time_budget:
                break
            step = history["step"]
            for group in optimizer.param_groups:
                group["lr"] = config.rate(step)
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, config.precision):
                loss = task.loss(network, step)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            if bool(torch.isfinite(norm)):
                optimizer.step()
                losses.append(float(loss.detach()))
            else:
                history["skipped"] += 1
            decay = min(config.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, value in network.state_dict().items():
                    if value.is_floating_point():
                        average[name].lerp_(value, 1 - decay)
                    else:
                        average[name].copy_(value)
            history["step"] += 1
            history["seconds"] = earlier + time.monotonic() - began
            bar.update()
            if history["step"] % 50 == 0 and losses:
                history["curve"].append([history["step"], float(np.mean(losses)), round(history["seconds"], 1)])
                bar.set_postfix(loss=f"{history['curve'][-1][1]:.4f}")
                losses = []
            if validate_steps and history["step"] % validate_steps == 0:
                history["validation"].append([history["step"], _validated(network, average, task)])
            if checkpoint is not None and time.monotonic() - saved >= checkpoint_seconds:
                _save(Path(checkpoint), network, optimizer, average, task, history)
                saved = time.monotonic()
    if checkpoint is not None:
        _save(Path(checkpoint), network, optimizer, average, task, history)
    network.load_state_dict(average)
    return {**history, "finished": history["step"] >= config.steps}


def _plain(config):
    return json.loads(json.dumps(asdict(config)))


def config_of(record):
    """A TrainingConfig from the dictionary kept in a history."""
    known = {field.name for field in fields(TrainingConfig)}
    unknown = sorted(set(record) - known)
    if unknown:
        raise ValueError(f"record has {', '.join(unknown)}, which this version's TrainingConfig does not know")
    return TrainingConfig(**record)


def _validated(network, average, task):
    import torch

    present = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    with torch.no_grad():
        numbers = task.validate(network)
    network.load_state_dict(present)
    return numbers


def _save(folder, network, optimizer, average, task, history):
    """Write every tensor of the run: new files first, the index that names them last."""
    from safetensors.numpy import save

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    tensors |= {f"task.{name}": value for name, value in task.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    pieces, index = {}, {}
    for name, value in tensors.items():
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        flat = array.reshape(-1)
        length = max(1, SHARD_BYTES // (2 * array.itemsize))
        index[name] = {"shape": list(array.shape), "pieces": max(1, -(-flat.size // length))}
        for k in range(index[name]["pieces"]):
            pieces[f"{name}:{k}"] = flat[k * length : (k + 1) * length]
    folder.mkdir(parents=True, exist_ok=True)
    shards, shard, size = [], {}, 0
    for name, piece in pieces.items():
        if shard and size + piece.nbytes > SHARD_BYTES - 500_000:
            shards, shard, size = [*shards, shard], {}, 0
        shard[name] = piece
        size += piece.nbytes
    shards.append(shard)
    names = [f"step-{history['step']}-{k}.safetensors" for k in range(len(shards))]
    for name, shard in zip(names, shards):
        _write(folder / name, save(shard))
    _write(folder / "checkpoint.json", json.dumps({"files": names, "tensors": index, "history": history}).encode())
    for old in folder.glob("step-*.safetensors"):
        if old.name not in names:
            old.unlink()


def _write(path, content):
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)


def _resume(folder, network, optimizer, average, task, device):
    import torch
    from safetensors.numpy import load

    record = json.loads((folder / "checkpoint.json").read_text())
    pieces = {}
    for name in record["files"]:
        pieces |= load((folder / name).read_bytes())
    tensors = {}
    for name, entry in record["tensors"].items():
        flat = np.concatenate([pieces[f"{name}:{k}"] for k in range(entry["pieces"])])
        tensors[name] = torch.from_numpy(flat.reshape(entry["shape"])).to(device)

    def part(prefix):
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in part("network.").items()}
    if expected != found:
        raise ValueError(f"{folder} holds a checkpoint of another network; give another folder or its own arguments")
    network.load_state_dict(part("network."))
    for name, value in part("average.").items():
        average[name].copy_(value)
    task.load_state_dict(part("task."))
    state = {}
    for name, value in part("optimizer.").items():
        index, field = name.split(".")
        state.setdefault(int(index), {})[field] = value.cpu() if field == "step" else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return record["history"]


class _Silent(nullcontext):
    def __enter__(self):
        return self

    def update(self):
        pass

    def set_postfix(self, **numbers):
        pass


def _bar(total, done, progress):
    if not (sys.stderr.isatty() if progress is None else progress):
        return _Silent()
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="step")
