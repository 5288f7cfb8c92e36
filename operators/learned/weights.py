"""Weights and the record that travels with them: two files, read and checked without torch."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

FORMAT = 1
# What every card says.
REQUIRED = ("architecture", "arguments", "data", "recipe", "seed", "metrics", "licence")


class WeightsError(ValueError):
    """Weights that cannot be used: the message names the file and the remedy."""


def save(path, tensors, card):
    """Write ``path`` (.safetensors) and its card beside it (.json), each whole or not at all.

    Parameters
    ----------
    path : path ending in .safetensors
    tensors : dict of str to array
        NumPy arrays, or torch tensors on any device.
    card : dict
        With architecture (a name), arguments (what the architecture is built with), data, recipe, seed, metrics and
        licence. Format, sha256 and the shapes are added.

    Raises
    ------
    WeightsError
        For a card that lacks an entry, or another ending.

    Example
    -------
    >>> import numpy as np, pathlib, tempfile
    >>> from deconjugate.operators.learned import weights
    >>> card = dict.fromkeys(weights.REQUIRED, "none") | {"architecture": "line", "arguments": {"ndim": 1}}
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "line.safetensors"
    >>> _ = weights.save(path, {"slope": np.ones(2)}, card)
    >>> weights.load(path, architecture="line", ndim=1)[0]["slope"]
    array([1., 1.])
    """
    from safetensors.numpy import save as to_bytes

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are kept as .safetensors; give such a name")
    missing = [name for name in REQUIRED if name not in card]
    if missing:
        raise WeightsError(f"the card for {path} lacks {', '.join(missing)}; add them")
    arrays = {name: np.ascontiguousarray(_array(value)) for name, value in tensors.items()}
    content = to_bytes(arrays)
    card = {
        **card,
        "format": FORMAT,
        "parameters": int(sum(array.size for array in arrays.values())),
        "tensors": {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, data in ((path, content), (path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())):
        partial = target.with_name(target.name + ".part")
        partial.write_bytes(data)
        os.replace(partial, target)
    return card


def read_card(path, *, architecture=None, **arguments):
    """The card of a weights file, held against what is expected of it.

    Parameters
    ----------
    path : path of the .safetensors file
    architecture : str, optional
    **arguments
        Entries of the card's ``arguments`` that must have these values: ``ndim=3``.

    Raises
    ------
    WeightsError
        Where there is none, or it is another's.
    """
    path = Path(path)
    place = path.with_suffix(".json")
    if not place.exists():
        raise WeightsError(f"{place} does not exist: a weights file needs its card beside it; install or copy both")
    try:
        card = json.loads(place.read_text())
    except ValueError as error:
        raise WeightsError(f"{place} is not valid JSON ({error}); restore it from where it came") from error
    if card.get("format") != FORMAT:
        raise WeightsError(
            f"{place} has format {card.get('format')!r}, this version reads {FORMAT}; use the matching release"
        )
    missing = [name for name in (*REQUIRED, "sha256", "tensors") if name not in card]
    if missing:
        raise WeightsError(f"{place} lacks {', '.join(missing)}; restore it from where it came")
    if architecture is not None and card["architecture"] != architecture:
        raise WeightsError(
            f"{path} holds weights of {card['architecture']!r}, not of {architecture!r}; give a file of {architecture}"
        )
    for name, value in arguments.items():
        found = card["arguments"].get(name)
        if found != value:
            raise WeightsError(f"{path} was made for {name} = {found!r}, not {value!r}; give weights made for that")
    return card


def load(path, *, architecture=None, **arguments):
    """Weights and their card, as NumPy arrays.

    Parameters
    ----------
    path, architecture, **arguments
        As for :func:`read_card`.

    Returns
    -------
    tensors : dict of str to array
    card : dict

    Raises
    ------
    WeightsError
        Where a file is absent, cut short, changed (sha256), of another architecture or other arguments.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    path = Path(path)
    card = read_card(path, architecture=architecture, **arguments)
    if not path.exists():
        raise WeightsError(f"{path} does not exist, though its card does; install or copy it again")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card["sha256"]:
        raise WeightsError(
            f"{path} has sha256 {found[:12]}…, its card says {card['sha256'][:12]}…: the file was cut short or "
            "changed; install or copy it again"
        )
    try:
        tensors = from_bytes(content)
    except SafetensorError as error:
        raise WeightsError(f"{path} is no safetensors file ({error}); install or copy it again") from error
    shapes = {name: [str(array.dtype), list(array.shape)] for name, array in tensors.items()}
    if shapes != card["tensors"]:
        raise WeightsError(f"{path} holds other tensors than its card lists; install or copy both again")
    return tensors, card


def _array(value):
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def into(network, path, *, architecture, **arguments):
    """Load a file's weights into a torch network, in its own precision; returns the card.

    Raises
    ------
    WeightsError
        As :func:`load`, and where the network has other parameters than the file.
    """
    import torch

    tensors, card = load(path, architecture=architecture, **arguments)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    found = {name: list(array.shape) for name, array in tensors.items()}
    if found != expected:
        different = sorted(set(found) ^ set(expected)) or [name for name in found if found[name] != expected[name]]
        raise WeightsError(
            f"{path} does not fit the network: {different[0]} and {len(different) - 1} more differ; build the network "
            f"with the card's arguments {card['arguments']}"
        )
    network.load_state_dict({name: torch.from_numpy(array).float() for name, array in tensors.items()})
    return card
