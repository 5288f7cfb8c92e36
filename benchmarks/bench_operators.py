"""Speed of the operators: each is first held against an independent computation, then timed.

    python benchmarks/bench_operators.py [--quick]

Starlet: against the same transform written with scipy.ndimage, same boundary, same precision.
Poisson: bytes moved per second beside a triad. A cell of the uniform operator moves 9 bytes in single precision (read
u, read its code of one byte, write A u), 17 in double; with a coefficient on faces 4 (8) more per axis. The read for
ownership of the output is counted in neither the operator nor the triad.
Runs that are compared are interleaved, so that a busy machine is busy for both.
"""

import argparse
from functools import partial

import numpy as np
import scipy.ndimage
from machine import best_seconds, interleaved_seconds, triad_run
from results import begin

from deconjugate.operators import Cell, Convolution, PoissonOperator, Starlet, StationaryWavelet, dot_test


def starlet_by_scipy(image, n_scales):
    """W x and nothing more: in-place where scipy allows it."""
    planes = np.empty((n_scales + 1, *image.shape), image.dtype)
    smooth, scratch = image, np.empty_like(image)
    for j in range(n_scales):
        taps = np.zeros(4 * 2**j + 1)
        taps[:: 2**j] = np.array([1, 4, 6, 4, 1]) / 16
        scipy.ndimage.convolve1d(smooth, taps, axis=0, mode="reflect", output=scratch)
        smoother = scipy.ndimage.convolve1d(scratch, taps, axis=1, mode="reflect")
        np.subtract(smooth, smoother, out=planes[j])
        smooth = smoother
    planes[-1] = smooth
    return planes


def starlet_adjoint_by_scipy(planes):
    """W^T y by the same recursion: H is symmetric."""
    back = planes[-1]
    for j in reversed(range(len(planes) - 1)):
        taps = np.zeros(4 * 2**j + 1)
        taps[:: 2**j] = np.array([1, 4, 6, 4, 1]) / 16
        rows = scipy.ndimage.convolve1d(back - planes[j], taps, axis=0, mode="reflect")
        back = scipy.ndimage.convolve1d(rows, taps, axis=1, mode="reflect")
        back += planes[j]
    return back


def bench_starlet(results, shape=(2048, 2048), n_scales=5):
    print(f"\nStarlet, {shape[0]} x {shape[1]}, {n_scales} scales (ms; best of 5, interleaved; goal 5x scipy)")
    print(f"{'':8} {'map':10} {'scipy':>8} {'apply':>8} {'into out':>9} {'speed-up':>9} {'max difference':>15}")
    starlet = Starlet(shape, n_scales)
    for dtype in (np.float32, np.float64):
        image = np.random.default_rng(1).standard_normal(shape).astype(dtype)
        planes, back = starlet.apply(image), np.empty_like(image)
        atol = 1e-5 if dtype == np.float32 else 1e-13
        forward = partial(starlet_by_scipy, image, n_scales), partial(starlet.apply, image)
        backward = partial(starlet_adjoint_by_scipy, planes), partial(starlet.adjoint, planes)
        for name, theirs, ours, into_out in (
            ("apply", *forward, partial(starlet.apply_to, image, planes)),
            ("adjoint", *backward, partial(starlet.adjoint_to, planes, back)),
        ):
            difference = np.abs(ours() - theirs()).max()
            if difference > atol:
                raise SystemExit(f"starlet {name} differs from scipy by {difference}")
            slow, fast, given = (1e3 * t for t in interleaved_seconds((theirs, ours, into_out)))
            results.note(f"operators/starlet {name}, {dtype.__name__}", faster=slow / fast, ms=fast, into_out_ms=given)
            print(
                f"{dtype.__name__:8} {name:10} {slow:8.1f} {fast:8.1f} {given:9.1f} {slow / fast:8.1f}x"
                f" {difference:15.1e}"
            )
        difference = np.abs(starlet.reconstruct(planes) - image).max()
        print(f"{dtype.__name__:8} sum of the planes less the image: {difference:.1e}")
        if not dot_test(starlet, dtype=dtype, rtol=1e-5 if dtype == np.float32 else 1e-12):
            raise SystemExit("the starlet fails the dot test")


def poisson_cases(n):
    rng = np.random.default_rng(2)
    box = np.full((n, n, n), Cell.INTERIOR, np.uint8)
    x = (np.indices(box.shape) + 0.5) / n - 0.5
    sphere = box.copy()
    sphere[np.sum(x**2, axis=0) < 0.04] = Cell.WALL
    yield "Neumann box", PoissonOperator(box), 0
    yield "open top, sphere", PoissonOperator(sphere, boundary=["neumann", "neumann", ("neumann", "dirichlet")]), 0
    yield "periodic box", PoissonOperator(box, boundary="periodic"), 0
    yield "cell coefficient", PoissonOperator(sphere, coefficient=np.exp(rng.standard_normal(box.shape))), 3


def bench_poisson(results, n=128, repeats=100, megabytes=256):
    print(f"\nPoissonOperator.apply, {n}^3 (best of {repeats}, interleaved with the triad; goal: 60 % of it)")
    print(f"{'':8} {'case':18} {'ms':>7} {'B/cell':>7} {'GB/s':>7} {'triad GB/s':>11} {'share':>6} {'error':>9}")
    for dtype in (np.float32, np.float64):
        triad, triad_bytes = triad_run(megabytes=megabytes)
        size = np.dtype(dtype).itemsize
        for name, operator, faces in poisson_cases(n):
            u = np.random.default_rng(3).standard_normal(operator.grid_shape).astype(dtype)
            u[~operator.unknowns] = 0
            exact = operator.to_sparse(compress=False) @ u.ravel().astype(np.float64)
            error = np.linalg.norm(operator.apply(u).ravel() - exact) / np.linalg.norm(exact)
            if error > (1e-6 if dtype == np.float32 else 1e-14):
                raise SystemExit(f"{name}: the relative error is {error}")
            streaming, seconds = interleaved_seconds((triad, partial(operator.apply, u)), repeats=repeats)
            per_cell = 2 * size + 1 + faces * size
            rate, memory = per_cell * n**3 / seconds / 1e9, triad_bytes / streaming / 1e9
            results.note(f"operators/{name}, {dtype.__name__}", share=rate / memory, bandwidth=rate, triad=memory)
            print(
                f"{dtype.__name__:8} {name:18} {1e3 * seconds:7.2f} {per_cell:7d} {rate:7.1f} {memory:11.1f}"
                f" {rate / memory:6.0%} {error:9.1e}"
            )


def bench_others(results, shape=(1024, 1024)):
    print(f"\nOther operators, {shape[0]} x {shape[1]}, float32 (ms, best of 5)")
    kernel = np.outer(np.hanning(43), np.hanning(43))
    image = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    for name, operator in (
        ("Convolution, 43 x 43 kernel", Convolution(shape, kernel / kernel.sum())),
        ("StationaryWavelet db4, 4 scales", StationaryWavelet(shape, 4, "db4")),
    ):
        if not dot_test(operator):
            raise SystemExit(f"{name} fails the dot test")
        y = operator.apply(image)
        forward = 1e3 * best_seconds(partial(operator.apply, image), repeats=5)
        backward = 1e3 * best_seconds(partial(operator.adjoint, y), repeats=5)
        print(f"{name:34} apply {forward:7.1f}   adjoint {backward:7.1f}")
        results.note(f"operators/{name}", ms=forward, adjoint_ms=backward)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller arrays")
    quick = parser.parse_args().quick
    results = begin(quick=quick, packages=("operators",))
    bench_starlet(results, shape=(512, 512) if quick else (2048, 2048))
    bench_poisson(results, *((64, 20, 64) if quick else (128, 100)))
    bench_others(results, shape=(256, 256) if quick else (1024, 1024))


if __name__ == "__main__":
    main()
