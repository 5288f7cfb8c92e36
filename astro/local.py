"""Step 1 piece by piece: lambda is a matter of what lies near, never of the brightest thing in a tile."""

import numpy as np

from deconjugate.astro.forward import DataModel
from deconjugate.astro.network_input import LADDER
from deconjugate.astro.tikhonov import (
    BlockSolver,
    choose_regularization,
    laplacian,
    preconditioner_symbol,
    tikhonov,
)
from deconjugate.astro.tiling import tiling

PIECE, OVERLAP = 256, 64  # fine pixels of a piece, and by which pieces overlap: what the network was trained on, twice
WHOLE = 1.5  # pieces along an axis that are one still
RUNG = LADDER[-1] / LADDER[-2]  # lambdas of several pieces are rounded to powers of its square root: images are shared
STEP_1 = 1e-3  # how far the system of step 1 is solved: masked stars need it, others are there in a step or two
REFERENCE, COMPLETE = 1.0, 1e-2  # lambda of the fit that completes the data of several pieces, and how far it is solved


class LocalTikhonov:
    """Tikhonov images of a tile, each piece of it at a lambda of its own.

    A tile of one piece takes lambda as it is; of several, to the nearest power of four, so that few images do for all.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : float32 arrays on the padded native grid
    psf : (odd, odd) array
        p on the fine grid.
    regularization : "auto" or float
    """

    def __init__(self, model, data, weight, psf, regularization="auto"):
        self.model, self.data, self.weight = model, data, weight
        u, shape = model.upsample, model.native_shape
        size, overlap = PIECE // u, OVERLAP // u
        whole = [n <= WHOLE * size for n in shape]
        if all(whole):
            size = max(shape)
        self.pieces = tiling(shape, size, overlap)
        self.places = self.pieces.places()
        self._images = {}
        if len(self.places) == 1:
            self.piece_model = model
            chosen = choose_regularization(model, data, weight) if regularization == "auto" else float(regularization)
            self.lambdas = [chosen]
            return
        self.piece_model = DataModel(self.pieces.size, psf, u, workers=1)
        level = float(np.median(weight[weight > 0]))
        first = model.apply(tikhonov(model, data, weight, REFERENCE * level, rtol=COMPLETE))
        complete = np.where(weight > 0, data, first)
        share = np.minimum(weight / np.float32(level), np.float32(1.0))
        self._complete = level, model.from_native(np.float32(level) * (share * data + (1 - share) * first))
        if regularization != "auto":
            self.lambdas = [float(regularization)] * len(self.places)
            return
        self.lambdas = []
        for place in self.places:
            here = tuple(slice(s.start + f.start, s.stop + f.start) for s, f in zip(place, model.frame))
            y, w = complete[here], weight[here]
            if not (w > 0).any():
                self.lambdas.append(np.inf)
                continue
            embed = self.piece_model.embed
            lam = choose_regularization(self.piece_model, embed(y), embed(w), complete=True)
            self.lambdas.append(RUNG ** (0.5 * round(2.0 * np.log(lam) / np.log(RUNG))))
        # A piece without data takes the smoothest.
        largest = max((lam for lam in self.lambdas if np.isfinite(lam)), default=1.0)
        self.lambdas = [lam if np.isfinite(lam) else largest for lam in self.lambdas]

    @property
    def regularization(self):
        """The median lambda."""
        return float(np.median(self.lambdas))

    def image(self, regularization):
        """The Tikhonov image of the whole tile at one lambda, on the padded fine grid."""
        key = float(regularization)
        if key not in self._images:
            if len(self.places) == 1:
                self._images[key] = tikhonov(self.model, self.data, self.weight, key, rtol=STEP_1)
            else:
                self._images[key] = self._solve(key)
        return self._images[key]

    def _solve(self, regularization):
        """The image for data of even weight, exact: what lacks weight is completed by a first fit.

        .. math:: (W A^T A + \\lambda L^T L) x = A^T (w y + (W - w) A x_0)

        is one step of expectation and maximisation from x_0, a first fit. The block solve is off by a hundredth at low
        frequencies, lest rounding be more than that: the solve of what it leaves makes up for it.
        """
        model, (level, b) = self.model, self._complete
        penalty = model.symbol(regularization * laplacian(model.frequencies) ** 2)
        solver = BlockSolver(model, preconditioner_symbol(model, penalty, level), level)
        x = solver.solve(b.copy())
        seen = np.float32(level * model.upsample**2) * model.fold(x)
        x += solver.solve(model.subtract(seen, model.symbol(1.0), b - penalty * x))
        return model.to_image(x)

    def balanced(self):
        """Each piece at its lambda, blended."""
        if len(self.places) == 1:
            return self.image(self.lambdas[0])
        out = np.zeros(self.model.domain_shape, np.float32)
        for place, lam in zip(self.places, self.lambdas):
            target, window = self.window(place)
            out[target] += window * self.image(lam)[target]
        return out

    def window(self, place):
        """Where a piece lies on the padded fine grid, the margin with it at the edges, and its weight in the blend."""
        u, model = self.model.upsample, self.model
        before = [f.start for f in model.frame]
        after = [n - f.stop for f, n in zip(model.frame, model.range_shape)]
        ends = [(s.start - (b if s.start == 0 else 0), s.stop + (a if s.stop == n else 0))
                for s, b, a, n in zip(place, before, after, model.native_shape)]  # fmt: skip
        margin = [max(b, a) for b, a in zip(before, after)]
        whole = self.pieces.window(place, margin)
        cut = tuple(slice(lo - s.start + m, hi - s.start + m) for (lo, hi), s, m in zip(ends, place, margin))
        window = np.repeat(np.repeat(whole[cut].astype(np.float32), u, axis=0), u, axis=1)
        return tuple(slice((lo + b) * u, (hi + b) * u) for (lo, hi), b in zip(ends, before)), window
