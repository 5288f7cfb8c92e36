"""Boxes without obstacles, solved exactly, beside the bare transforms of SciPy."""

from functools import partial

import numba
import numpy as np
import scipy.fft
from machine import interleaved_medians
from solves import residual_by_slices
from tables import row, table, verdict

from deconjugate.operators import PoissonOperator
from deconjugate.solver.fast_poisson import BoxPoisson


def bench_boxes(options):
    """Exact boxes beside the bare transforms, forward and back, of SciPy on the same array.

    A mixed pair has no transform in SciPy: DCT-II and its inverse stand in for it.
    """
    n = 64 if options.quick else 256
    N, D, P = "neumann", "dirichlet", "periodic"
    pairs = {"N-N": (N, N), "D-D": (D, D), "P-P": (P, P), "N-D": (N, D), "D-N": (D, N)}
    cases = {f"{title} on all axes": [pair] * 3 for title, pair in pairs.items()}
    cases |= {f"{title} on axis {a}, N-N elsewhere": [pairs["N-N"]] * a + [pair] + [pairs["N-N"]] * (2 - a)
              for title, pair in pairs.items() if title != "N-N" for a in range(3)}  # fmt: skip
    cases["P-P, D-D, N-D"] = [pairs["P-P"], pairs["D-D"], pairs["N-D"]]
    for dtype in (np.float32, np.float64):
        headings = (
            "true residual",
            "solve (ms)",
            "its transforms (ms)",
            "solve : its transforms",
            "solve : DCT-II and back",
        )
        table(f"box {n}^3, {np.dtype(dtype).name}", *headings)
        b = np.random.default_rng(1).standard_normal((n,) * 3).astype(dtype)
        b -= b.mean()
        worst = 0.0
        for title, boundary in cases.items():
            A = PoissonOperator(np.ones(b.shape, bool), boundary=boundary)
            box = BoxPoisson.of(A)
            error = residual_by_slices(A, b, box.solve(b))
            # In float32 the rounded b has a mean that no closed box can balance, and x is rounded too.
            if error > 1e3 * np.finfo(dtype).eps:
                raise RuntimeError(f"{title}: the true residual is {error:.1e}")
            functions = partial(box.solve, b), partial(transforms, b, boundary), partial(transforms, b, [(N, N)] * 3)
            solving, own, cosine = interleaved_medians(functions, repeats=3 if options.quick else 5)
            worst = max(worst, solving / own)
            ratios = f"{solving / own:.2f}", f"{solving / cosine:.2f}"
            row(title, f"{error:.0e}", f"{1e3 * solving:.0f}", f"{1e3 * own:.0f}", *ratios)
        options.results.note(f"poisson/boxes, {np.dtype(dtype).name}", n=n, worst=worst)
        table("figure", "asked", "measured", "met")
        row("slowest box : its transforms", "<= 2", f"{worst:.2f}", verdict(worst <= 2))


def transforms(b, boundary):
    """SciPy's forward and inverse transforms of a box, with nothing between them."""
    x, workers = b.copy(), numba.get_num_threads()
    real, fourier = [], []
    for axis, pair in enumerate(boundary):
        if pair[0] == "periodic":
            fourier.append(axis)
        else:
            real.append((axis, *((scipy.fft.dst, scipy.fft.idst, 1) if set(pair) == {"dirichlet"}
                                 else (scipy.fft.dct, scipy.fft.idct, 2))))  # fmt: skip
    for axis, forward, _, kind in real:
        x = forward(x, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)
    if fourier:
        spectrum = scipy.fft.rfftn(x, axes=fourier, overwrite_x=True, workers=workers)
        lengths = [b.shape[axis] for axis in fourier]
        x = scipy.fft.irfftn(spectrum, s=lengths, axes=fourier, overwrite_x=True, workers=workers)
    for axis, _, inverse, kind in reversed(real):
        x = inverse(x, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)
    return x
