"""Real shapes as obstacles: the voxelised solids of the shared data, which are no part of the project."""

import os
from pathlib import Path

import numpy as np


def shapes(n):
    """(name, bool mask of n^3 cells) of every voxelised solid of the shared data, or the reason why there is none."""
    given = os.environ.get("DECONJUGATE_DATA")
    data = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    masks = sorted((data / "poisson").glob("mask3d_*_64.npz"))
    if not masks:
        yield "real shapes", "no poisson/mask3d_*_64.npz in the shared data; set DECONJUGATE_DATA to its folder"
    for path in masks:
        with np.load(path) as arrays:
            inside = arrays["inside"]
        for axis in range(3):
            inside = inside.take(np.arange(n) * inside.shape[axis] // n, axis)
        yield path.stem.removeprefix("mask3d_").removesuffix("_64"), inside
