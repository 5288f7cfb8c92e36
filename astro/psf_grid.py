"""A PSF known from samples at the nodes of a grid of positions."""

from dataclasses import dataclass

import numpy as np

from deconjugate.astro.psf_samples import Samples, check_oversampling, check_psf_array


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """Effective PSFs at the nodes of a rectangular grid of positions, bilinear between them and constant beyond."""

    samples: np.ndarray  # (rows, columns, h, w)
    rows: np.ndarray  # y of the nodes, rising
    columns: np.ndarray  # x
    oversampling: tuple  # samples per native pixel, rows and columns

    def describe(self):
        n, m, h, w = self.samples.shape
        return f"{n}x{m} positions of {h}x{w} samples, {self.oversampling[0]:g} a pixel, effective"

    @property
    def varies(self):
        return len(self.rows) * len(self.columns) > 1

    def at(self, position):
        if position is None:
            position = 0.5 * (self.columns[0] + self.columns[-1]), 0.5 * (self.rows[0] + self.rows[-1])
        weights = []
        for nodes, p in ((self.rows, position[1]), (self.columns, position[0])):
            low = int(np.clip(np.searchsorted(nodes, p, side="right") - 1, 0, max(len(nodes) - 2, 0)))
            w = np.zeros(len(nodes))
            share = 0.0 if len(nodes) == 1 else np.clip((p - nodes[low]) / (nodes[low + 1] - nodes[low]), 0.0, 1.0)
            w[low] = 1.0 - share
            if share:
                w[low + 1] = share
            weights.append(w)
        return np.einsum("i,j,ijhw->hw", *weights, self.samples)

    def fine(self, upsample, center, position, max_size):
        return Samples(self.at(position)[None], self.oversampling, True).fine(upsample, center, None, max_size)


def sample_grid(data, positions, oversampling):
    """The grid from a list, as photutils' ``GriddedPSFModel`` has it.

    Parameters
    ----------
    data : (N, h, w) array
    positions : (N, 2) array
        x and y of each, pixels from 0, in any order; all nodes of a rectangular grid.
    oversampling : float or pair (rows, columns)

    Raises
    ------
    ValueError
        The positions are no rectangular grid, or are not as many as the PSFs; a PSF is none.

    Example
    -------
    >>> grid = sample_grid(np.ones((2, 5, 5)), [(0, 0), (100, 0)], 1)
    >>> grid.varies, grid.at((30.0, 0.0)).shape
    (True, (5, 5))
    """
    data, positions = np.asarray(data), np.asarray(positions, dtype=float)
    if positions.shape != (len(data), 2) or not np.isfinite(positions).all():
        raise ValueError(f"positions have shape {positions.shape}; give x and y of each of the {len(data)} PSFs")
    columns, rows = np.unique(positions[:, 0]), np.unique(positions[:, 1])
    i, j = np.searchsorted(rows, positions[:, 1]), np.searchsorted(columns, positions[:, 0])
    if len(rows) * len(columns) != len(data) or len(set(zip(i, j))) != len(data):
        raise ValueError(f"the {len(data)} positions of the PSFs do not make a rectangular grid")
    psfs = [check_psf_array(psf, f"PSF {k} of the grid") for k, psf in enumerate(data)]
    samples = np.empty((len(rows), len(columns), *psfs[0].shape))
    samples[i, j] = psfs
    return SampleGrid(samples, rows, columns, check_oversampling(oversampling))
