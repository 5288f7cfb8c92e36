"""Poisson systems on a GPU: answers first, then milliseconds, bytes and bandwidth.

    python benchmarks/bench_gpu.py           # 128^3, 256^3, 512^3, 4096^2, batches
    python benchmarks/bench_gpu.py --quick   # smaller ones

Without a CUDA device it says so, holds the answers on tensors of the processor at small sizes, and times nothing.
"""

import argparse
import statistics
import sys

import numpy as np
import torch
from results import begin

from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver import PoissonSolver, gallery, solve
from deconjugate.solver import grid_solver_torch as grid
from deconjugate.solver.kernels_torch import kernels_for, plain_kernels

RTOL, RUNS = 1e-6, 7
# Streaming passes of one iteration of the learned cycle on the finest level, in bytes a cell of a uniform coefficient:
# see _multigrid_triton.py and _conjugate_triton.py. The coarser levels add about a third.
BYTES = {"smooth": 9 + 4 * 13, "restrict": 9.5, "correct": 13.5 + 4 * 13, "products": 16, "turn": 12, "multiply": 9}
# What is asked for on an H200, in milliseconds with set-up.
GOALS = {"random_spheres 256^3": 15.0, "random_spheres 512^3": 120.0}


def problem(name, shape):
    return gallery.problems[name](shape, seed=1)


def check(A, b, device):
    """The answer on a device: its residual from a matrix assembled independently, and the processor's iterations."""
    found, expected = solve(A, b, rtol=RTOL, device=device), solve(A, b, rtol=RTOL)
    inside = A.unknowns
    residual = np.linalg.norm(b[inside] - A.to_sparse() @ found.x[inside]) / np.linalg.norm(b[inside])
    if not found.converged or residual > 1.0001 * RTOL:
        sys.exit(f"wrong: {found.status.name}, true residual {residual:.1e}")
    return residual, found.iterations, expected.iterations


def answers(device, shapes, results):
    print("\n| problem | true residual | iterations | on the processor |\n| --- | --- | --- | --- |")
    for shape in shapes:
        for name in gallery.problems:
            A = problem(name, shape)
            residual, ours, theirs = check(A, gallery.divergence(A, seed=2), device)
            size = " x ".join(map(str, shape))
            print(f"| {name}, {size} | {residual:.1e} | {ours} | {theirs} |", flush=True)
            results.note(f"gpu/answers/{name} {size}", residual=residual, iterations=ours, on_processor=theirs)


def milliseconds(function, runs=RUNS):
    """Median by the events of the device, after one run that is not counted."""
    function()
    times = []
    for _ in range(runs):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def copy_bandwidth():
    """Bytes read and written a second by a copy of 1 GiB, in GB/s."""
    a = torch.ones(2**28, dtype=torch.float32, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / milliseconds(lambda: b.copy_(a)) / 1e6


def solves(sizes, results):
    print("\n| problem | set-up and solve (ms) | solve again (ms) | changed cells (ms) | plain torch (ms) | asked |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, shape in sizes:
        A = problem(name, shape)
        b = torch.tensor(gallery.divergence(A, seed=2), device="cuda")
        changed = A.cells.copy()
        changed[tuple(slice(n // 2, n // 2 + 4) for n in shape)] = 0
        solver = PoissonSolver(A, device="cuda")
        whole = milliseconds(lambda: PoissonSolver(A, device="cuda").solve(b))  # noqa: B023
        again = milliseconds(lambda: solver.solve(b))  # noqa: B023
        update = milliseconds(lambda: solver.update(cells=changed).solve(b))  # noqa: B023
        with_torch = plain_milliseconds(A, b)
        label = f"{name} {shape[0]}^{len(shape)}"
        goal = f"{GOALS[label]:.0f}" if label in GOALS else "-"
        print(f"| {label} | {whole:.2f} | {again:.2f} | {update:.2f} | {with_torch:.2f} | {goal} |", flush=True)
        results.note(f"gpu/solve/{label}", whole=whole, again=again, update=update, torch=with_torch)


def plain_milliseconds(A, b):
    """The same solve by plain torch operations, captured in a graph all the same."""
    usual = grid.kernels_for
    grid.kernels_for = lambda device: plain_kernels()
    try:
        solver = PoissonSolver(A, device="cuda")
        return milliseconds(lambda: solver.solve(b), runs=3)
    finally:
        grid.kernels_for = usual


def passes(shape, bandwidth, results):
    """Each kernel of the finest level: milliseconds, and its share of the bandwidth of a copy."""
    kernels = kernels_for("cuda")
    A = TorchPoisson(problem("random_spheres", shape), "cuda")
    M = grid.DeviceMultigrid(A, weights="learned", kernels=kernels.multigrid)
    level = M.levels[0]
    r, x, p, q = (torch.randn(1, *shape, device="cuda") * A.unknowns for _ in range(4))
    e = torch.randn(1, *level.coarse_shape, device="cuda")
    w, on = level.weights(1, r.dtype, r.device), torch.ones(1, dtype=torch.bool, device="cuda")
    beta = torch.ones(1, dtype=torch.float64, device="cuda")
    work = {
        "smooth": lambda: kernels.multigrid.smooth(level, r, w, on),
        "restrict": lambda: kernels.multigrid.restrict_residual(level, x, r, on),
        "correct": lambda: kernels.multigrid.correct_and_smooth(level, x, r, e, w, on),
        "products": lambda: kernels.conjugate.products(x, r, p, q),
        "turn": lambda: kernels.conjugate.turn(p, x, beta, on),
        "multiply": lambda: kernels.conjugate.multiply(A, p, q, on),
    }
    print(f"\ncopy: {bandwidth:.0f} GB/s; kernels of {kernels.name}, {shape[0]}^3")
    print("| pass | ms | bytes a cell | share of the copy |\n| --- | --- | --- | --- |")
    for name, run in work.items():
        took = milliseconds(run)
        share = BYTES[name] * level.size / took / 1e6 / bandwidth
        print(f"| {name} | {took:.3f} | {BYTES[name]} | {share:.2f} |", flush=True)
        results.note(f"gpu/pass/{name} {shape[0]}^3", milliseconds=took, share=share)


def batches(shape, count, results):
    several = [gallery.problems["random_spheres"](shape, seed=seed) for seed in range(count)]
    b = torch.tensor(np.stack([gallery.divergence(A, seed=2) for A in several]), device="cuda")
    domains = milliseconds(lambda: PoissonSolver(several, device="cuda").solve(b), runs=3)
    one = PoissonSolver(several[0], device="cuda")
    rights = milliseconds(lambda: one.solve(b), runs=3)
    print(f"\n{count} domains of {shape[0]}^3: {domains:.2f} ms with set-up; {count} right-hand sides: {rights:.2f} ms")
    results.note(f"gpu/batch/{count} x {shape[0]}^3", domains=domains, right_hand_sides=rights)


def against_cupy(shape, results):
    try:
        import cupy
        import cupyx.scipy.sparse.linalg as peers
        from cupyx.scipy.sparse import csr_matrix
    except ImportError:
        print("\nCuPy's CG: cupy is not installed")
        return
    A = problem("open_top", shape)
    b = cupy.asarray(gallery.divergence(A, seed=2)[A.unknowns])
    matrix = csr_matrix(A.to_sparse())
    took = milliseconds(lambda: peers.cg(matrix, b, tol=RTOL, maxiter=5000), runs=3)
    print(f"\nCuPy's CG, open_top {shape[0]}^3, matrix free of charge: {took:.1f} ms")
    results.note(f"gpu/cupy cg/open_top {shape[0]}^3", milliseconds=took)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    card = torch.cuda.is_available()
    results = begin(quick=quick, keep=card)
    if not card:
        print(f"\nno CUDA device (torch {torch.__version__}): answers on tensors of the processor, no times")
        answers("torch:cpu", [(31, 27), (17, 14, 19)], results)
        return
    print(f"card      {torch.cuda.get_device_name()}")
    results.note("gpu/card", name=torch.cuda.get_device_name(), torch=torch.__version__)
    answers("cuda", [(127, 133), (41, 37, 45)], results)
    sizes = [("random_spheres", (128,) * 3), ("random_spheres", (256,) * 3)]
    if not quick:
        sizes += [("random_spheres", (512,) * 3), ("random_spheres", (4096,) * 2), ("coefficient_jump", (256,) * 3)]
    solves(sizes, results)
    passes((256,) * 3, copy_bandwidth(), results)
    batches((64,) * 3, 8 if quick else 32, results)
    against_cupy((128,) * 3, results)


if __name__ == "__main__":
    main()
