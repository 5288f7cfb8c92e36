"""Poisson systems on a GPU: answers first, then milliseconds, bytes and bandwidth.

    python benchmarks/bench_gpu.py           # 128^3, 256^3, 512^3, 4096^2, batches
    python benchmarks/bench_gpu.py --quick   # smaller ones
    python benchmarks/bench_gpu.py --device torch:cpu   # every part of it on the processor, at sizes for a minute

Without a CUDA device it says so, holds the answers on tensors of the processor at small sizes, and times nothing. With
``--device torch:cpu`` all parts run there, at tiny sizes and without keeping a figure: to see that they run.
"""

import argparse
import statistics
import sys
import time

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


def place(device):
    """The name for tensors of the name for solvers."""
    return device.removeprefix("torch:")


def milliseconds(function, device, runs=RUNS):
    """Median by the events of the device, after one run that is not counted; on the processor, of one thread's time."""
    function()
    times = []
    for _ in range(runs):
        if place(device) == "cpu":
            start = time.process_time()
            function()
            times.append(1e3 * (time.process_time() - start))
            continue
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def copy_bandwidth(device, size):
    """Bytes read and written a second by a copy of so many numbers, in GB/s."""
    a = torch.ones(size, dtype=torch.float32, device=place(device))
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / milliseconds(lambda: b.copy_(a), device) / 1e6


def solves(sizes, device, results):
    print("\n| problem | set-up and solve (ms) | solve again (ms) | changed cells (ms) | plain torch (ms) | asked |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, shape in sizes:
        A = problem(name, shape)
        b = torch.tensor(gallery.divergence(A, seed=2), device=place(device))
        changed = A.cells.copy()
        changed[tuple(slice(n // 2, n // 2 + 4) for n in shape)] = 0
        solver = PoissonSolver(A, device=device)
        whole = milliseconds(lambda: PoissonSolver(A, device=device).solve(b), device)  # noqa: B023
        again = milliseconds(lambda: solver.solve(b), device)  # noqa: B023
        update = milliseconds(lambda: solver.update(cells=changed).solve(b), device)  # noqa: B023
        with_torch = plain_milliseconds(A, b, device)
        label = f"{name} {shape[0]}^{len(shape)}"
        goal = f"{GOALS[label]:.0f}" if label in GOALS else "-"
        print(f"| {label} | {whole:.2f} | {again:.2f} | {update:.2f} | {with_torch:.2f} | {goal} |", flush=True)
        results.note(f"gpu/solve/{label}", whole=whole, again=again, update=update, torch=with_torch)


def plain_milliseconds(A, b, device):
    """The same solve by plain torch operations, captured in a graph all the same."""
    usual = grid.kernels_for
    grid.kernels_for = lambda device: plain_kernels()
    try:
        solver = PoissonSolver(A, device=device)
        return milliseconds(lambda: solver.solve(b), device, runs=3)
    finally:
        grid.kernels_for = usual


def passes(shape, bandwidth, device, results):
    """Each kernel of the finest level: milliseconds, and its share of the bandwidth of a copy."""
    here = place(device)
    kernels = kernels_for(here)
    A = TorchPoisson(problem("random_spheres", shape), here)
    M = grid.DeviceMultigrid(A, weights="learned", kernels=kernels.multigrid)
    level = M.levels[0]
    r, x, p, q = (torch.randn(1, *shape, device=here) * A.unknowns for _ in range(4))
    e = torch.randn(1, *level.coarse_shape, device=here)
    w, on = level.weights(1, r.dtype, r.device), torch.ones(1, dtype=torch.bool, device=here)
    beta = torch.ones(1, dtype=torch.float64, device=here)
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
        took = milliseconds(run, device)
        share = BYTES[name] * level.size / took / 1e6 / bandwidth
        print(f"| {name} | {took:.3f} | {BYTES[name]} | {share:.2f} |", flush=True)
        results.note(f"gpu/pass/{name} {shape[0]}^3", milliseconds=took, share=share)


def batches(shape, count, device, results):
    several = [gallery.problems["random_spheres"](shape, seed=seed) for seed in range(count)]
    b = torch.tensor(np.stack([gallery.divergence(A, seed=2) for A in several]), device=place(device))
    domains = milliseconds(lambda: PoissonSolver(several, device=device).solve(b), device, runs=3)
    one = PoissonSolver(several[0], device=device)
    rights = milliseconds(lambda: one.solve(b), device, runs=3)
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
    took = milliseconds(lambda: peers.cg(matrix, b, tol=RTOL, maxiter=5000), "cuda", runs=3)
    print(f"\nCuPy's CG, open_top {shape[0]}^3, matrix free of charge: {took:.1f} ms")
    results.note(f"gpu/cupy cg/open_top {shape[0]}^3", milliseconds=took)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", help="cuda, cuda:N, or torch:cpu for a dry run of all parts at tiny sizes")
    args = parser.parse_args()
    dry, card = args.device == "torch:cpu", torch.cuda.is_available()
    results = begin(quick=args.quick or dry, keep=card and not dry)
    if dry:
        torch.set_num_threads(1)
        answers("torch:cpu", [(13, 11)], results)
        timings(
            "torch:cpu", [("random_spheres", (12,) * 3), ("coefficient_jump", (12, 14))], (12,) * 3, 2, 2**16, results
        )
        return
    if not card:
        print(f"\nno CUDA device (torch {torch.__version__}): answers on tensors of the processor, no times")
        answers("torch:cpu", [(31, 27), (17, 14, 19)], results)
        return
    device = args.device or "cuda"
    print(f"card      {torch.cuda.get_device_name(device)}")
    results.note("gpu/card", name=torch.cuda.get_device_name(device), torch=torch.__version__)
    answers(device, [(127, 133), (41, 37, 45)], results)
    sizes = [("random_spheres", (128,) * 3), ("random_spheres", (256,) * 3)]
    if not args.quick:
        sizes += [("random_spheres", (512,) * 3), ("random_spheres", (4096,) * 2), ("coefficient_jump", (256,) * 3)]
    timings(device, sizes, (256,) * 3, 8 if args.quick else 32, 2**28, results)
    against_cupy((128,) * 3, results)


def timings(device, sizes, shape, count, copied, results):
    solves(sizes, device, results)
    passes(shape, copy_bandwidth(device, copied), device, results)
    batches(tuple(min(n, 64) for n in shape), count, device, results)


if __name__ == "__main__":
    main()
