"""The learned conjugate directions (DCDM) beside classical solvers, on systems never trained on.

    python benchmarks/bench_dcdm.py [--quick] [--only SECTION ...] [--sizes 32 64 128] [--problems NAME ...]

Sections: compare, generalise, sizes, curves. Every answer is checked first against an assembled matrix in float64.
Geometries and right-hand sides are the gallery's, which the training of the shipped weights never draws. Iterations of
"start" are of the network before any training: what its two-grid start gives. Where it says "-" a peer is not installed
or a run was left out for its time. Seconds are one run's, set-up included; a network's evaluation outweighs the noise.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import scipy.linalg
import scipy.sparse
from peer_process import PeerProcess
from peers import absent, as_peers_want, peers, scipy_cg
from results import begin
from tables import row, table, verdict

from deconjugate.solver import Cell, PoissonOperator, conjugate_gradient, gallery, solve
from deconjugate.solver.dcdm_solver import DcdmSolver, load_network, shipped_weights
from deconjugate.solver.null_space import NullSpace

TARGETS = (1e-4, 1e-6)
ASKED = {1e-4: 30, 1e-6: 50}
SEED = 7
# The paper's kind of test: closed boxes with obstacles; and one with mixed boundaries.
COMPARED = ("sphere", "random_spheres", "open_top")


def system(name, n, rhs="divergence"):
    """A gallery problem and a right-hand side; cells shut in on all sides become walls: peers fail on empty rows."""
    A = gallery.problems[name]((n, n, n), seed=SEED)
    shut = A.unknowns & (A.to_sparse(compress=False).diagonal() == 0).reshape(A.grid_shape)
    if shut.any():
        cells = np.where(shut, Cell.WALL, A.cells)
        A = PoissonOperator(cells, spacing=A.spacing, boundary=A.boundary, coefficient=A.coefficient)
    return A, gallery.right_hand_sides[rhs](A, seed=SEED)


def first_below(norms, target):
    """Iterations to a relative residual, or None."""
    below = np.flatnonzero(np.asarray(norms) <= target * norms[0])
    return int(below[0]) if below.size else None


def shown(value, form="{}"):
    return "-" if value is None else form.format(value)


def ours(A, b, method, maxiter=None):
    """{target: (iterations, seconds, true relative residual)} from one solve, and its result."""
    times = []
    start = perf_counter()
    result = solve(
        A, b, method=method, rtol=TARGETS[-1], maxiter=maxiter, callback=lambda x: times.append(perf_counter())
    )
    total = perf_counter() - start
    found = {}
    for target in TARGETS:
        k = first_below(result.residual_norms, target)
        found[target] = k, None if k is None else (times[k - 1] - start if target > TARGETS[-1] else total)
    return found, result


def start_norms(A, b, network):
    """Residual norms of the loop with a given network in place of the shipped one."""
    solver = DcdmSolver(A, NullSpace(A), lambda r: r, network=network)
    return solver.solve(b, np.zeros_like(b), TARGETS[-1] * np.linalg.norm(b), 100)[1]


def untrained():
    import torch

    from deconjugate.solver.dcdm import DcdmNetwork
    from deconjugate.solver.dcdm_start import two_grid_start

    torch.manual_seed(0)
    return two_grid_start(DcdmNetwork(3)).requires_grad_(False)


def deflated_cg(A, matrix, b, rtol, blocks=8):
    """CG deflated by the indicator vectors of blocks^3 subdomains (Nicolaides 1987), E inverted once in full."""
    start = perf_counter()
    place = np.indices(A.grid_shape)[:, A.unknowns] * blocks // np.array(A.grid_shape)[:, None]
    _, block = np.unique(np.ravel_multi_index(tuple(place), (blocks,) * 3), return_inverse=True)
    Z = scipy.sparse.csr_matrix((np.ones(block.size), (np.arange(block.size), block)))
    AZ = matrix @ Z
    inverse = scipy.linalg.pinvh((Z.T @ AZ).toarray())
    setup = perf_counter() - start

    def project(v):
        return v - AZ @ (inverse @ (Z.T @ v))

    deflated = scipy.sparse.linalg.LinearOperator(matrix.shape, matvec=lambda v: project(matrix @ v), dtype=float)
    y, iterations, _, seconds = scipy_cg(deflated, project(b), rtol * np.linalg.norm(b) / np.linalg.norm(project(b)))
    start = perf_counter()
    x = Z @ (inverse @ (Z.T @ b)) + y - Z @ (inverse @ (AZ.T @ y))
    return x, iterations, setup, seconds + perf_counter() - start


def peer_runs(title, matrix, b, limit=120.0):
    """The peer's answers to each target, or why there are none."""
    found = []
    for target in TARGETS:
        try:
            with PeerProcess(peers[title], matrix, b, target, limit=limit) as process:
                found.append(process.run())
        except (RuntimeError, TimeoutError) as error:
            return str(error)
    return found


def bench_compare(options):
    verdicts = []
    for n in options.sizes:
        for name in options.problems:
            A, b = system(name, n)
            matrix, inside = as_peers_want(A.to_sparse()), A.unknowns
            inner = b[inside]

            def error(x, matrix=matrix, inner=inner):
                return np.linalg.norm(inner - matrix @ x) / np.linalg.norm(inner)

            headings = [f"{what} to {target:.0e}" for target in TARGETS for what in ("iterations", "seconds")]
            table(f"{name}, {n}^3, {matrix.shape[0]:,} unknowns", *headings, "true residual")
            counts = {}  # iterations to each target, by method and peer
            for method in ("dcdm", "multigrid"):
                found, result = ours(A, b, method)
                cells = [e for target in TARGETS for e in (shown(found[target][0]), shown(found[target][1], "{:.3f}"))]
                row(f'method="{result.method}"', *cells, f"{error(result.x[inside]):.1e}")
                counts[method] = [found[target][0] for target in TARGETS]
                if method == "dcdm":
                    verdicts.append((name, n, found))
            if n <= 64:
                norms = start_norms(A, b, options.start)
                row("start, untrained", *(e for t in TARGETS for e in (shown(first_below(norms, t)), "-")), "-")
            runs = {"deflated CG, 512 blocks": [deflated_cg(A, matrix, inner, target) for target in TARGETS]}
            for title in peers:
                runs[title] = absent(title) or peer_runs(title, matrix, inner)
            for title, found in runs.items():
                if isinstance(found, str):
                    row(title, "-", "-", "-", "-", found)
                    continue
                cells = [e for _, iterations, setup, s in found for e in (iterations, f"{setup + s:.3f}")]
                row(title, *cells, f"{error(found[-1][0]):.1e}")
                counts[title] = [iterations for _, iterations, _, _ in found]
            options.results.note(f"dcdm/{name}, {n}^3", targets=TARGETS, iterations=counts)
    table('figure: iterations of method="dcdm"', *(f"to {t:.0e}, asked {ASKED[t]}" for t in TARGETS), "met")
    for name, n, found in verdicts:
        counts = [found[t][0] for t in TARGETS]
        met = all(k is not None and k <= ASKED[t] for k, t in zip(counts, TARGETS))
        row(f"{name}, {n}^3", *map(shown, counts), verdict(met))


def bench_generalise(options):
    """Systems unlike any in training: gaps, islands of liquid, jumps, stretched cells."""
    n = 16 if options.quick else 48
    counts = [f"{title} to {t:.0e}" for title in ("dcdm", "start", "CG", "multigrid") for t in TARGETS]
    table(f"{n}^3", *counts, "what dcdm needed", "true residual", "dcdm (s)")
    cases = [(name, "divergence") for name in gallery.problems]
    cases += [("random_spheres", "white_noise"), ("random_spheres", "smooth")]
    for name, rhs in cases:
        A, b = system(name, n, rhs)
        found, result = ours(A, b, "dcdm", maxiter=200)
        error = np.linalg.norm(b - A.apply(result.x)) / np.linalg.norm(b)
        others = [start_norms(A, b, options.start)]
        others += [solve(A, b, method=m, rtol=TARGETS[-1]).residual_norms for m in ("cg", "multigrid")]
        cells = [shown(found[t][0]) for t in TARGETS]
        cells += [shown(first_below(norms, t)) for norms in others for t in TARGETS]
        title = name + ("" if rhs == "divergence" else f", {rhs}")
        row(title, *cells, result.method, f"{error:.1e}", shown(found[TARGETS[-1]][1], "{:.2f}"))
        options.results.note(f"dcdm/generalise, {title}, {n}^3", iterations=dict(zip(counts, cells)))


def bench_sizes(options):
    """Iterations against size; the weights were trained on one size."""
    sizes = (12, 16, 24) if options.quick else (16, 24, 32, 48, 64, 96)
    table("random_spheres", *(f"{n}^3" for n in sizes))
    lines = {}
    for n in sizes:
        A, b = system("random_spheres", n)
        for method in ("dcdm", "multigrid", "cg"):
            norms = solve(A, b, method=method, rtol=TARGETS[-1]).residual_norms
            for target in TARGETS:
                lines.setdefault(f"{method} to {target:.0e}", []).append(shown(first_below(norms, target)))
    for title, cells in lines.items():
        row(title, *cells)
    options.results.note("dcdm/sizes", sizes=sizes, iterations=lines)


def bench_curves(options):
    """Residual against iteration, as the paper shows it, and against time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n = 24 if options.quick else 64
    A, b = system("random_spheres", n)
    curves = {}
    for title, method in (("DCDM", "dcdm"), ("multigrid-PCG", "multigrid"), ("CG", "cg")):
        times = []
        start = perf_counter()
        callback = lambda x, times=times: times.append(perf_counter())  # noqa: E731 - bound once for each curve
        norms = solve(A, b, method=method, rtol=1e-8, callback=callback).residual_norms
        curves[title] = np.array(norms) / norms[0], np.array([start, *times]) - start
    if absent("IC(0)-CG") is None:
        import ilupp

        matrix, inside = as_peers_want(A.to_sparse()), A.unknowns
        times, start = [], perf_counter()
        M = ilupp.IChol0Preconditioner(matrix)
        _, _, norms = conjugate_gradient(
            lambda v: matrix @ v,
            b[inside],
            M=lambda v: M @ v,
            rtol=1e-8,
            maxiter=1000,
            callback=lambda x: times.append(perf_counter()),
        )
        curves["IC(0)-CG"] = np.array(norms) / norms[0], np.array([start, *times]) - start
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for title, (norms, times) in curves.items():
        count = min(len(norms), len(times))
        axes[0].semilogy(norms, label=title)
        axes[1].loglog(np.maximum(times[:count], 1e-4), norms[:count])
        print(f"curve {title}: {len(norms) - 1} iterations to 1e-8, {times[-1]:.2f} s")
    axes[0].set(xlabel="iterations", ylabel=r"$\|b - A x\|\,/\,\|b\|$", xlim=(0, 150), ylim=(1e-8, 20))
    axes[1].set(xlabel="seconds")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"closed box, {n}³, 60 solid spheres: never trained on", fontsize=10)
    options.image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.image, dpi=100)
    print(f"curves in {options.image}")


SECTIONS = {
    "compare": bench_compare,
    "generalise": bench_generalise,
    "sizes": bench_sizes,
    "curves": bench_curves,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: a minute or two")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--problems", nargs="+", choices=gallery.problems, help="of compare")
    parser.add_argument("--image", type=Path, help="of the curves; docs/images/dcdm.png, short runs out/dcdm.png")
    options = parser.parse_args()
    options.sizes = options.sizes or ([24] if options.quick else [32, 64, 128])
    options.problems = options.problems or COMPARED[: 1 if options.quick else None]
    here = Path(__file__).resolve().parent
    usual = here / "out" if options.quick else here.parent / "docs" / "images"
    options.image = options.image or usual / "dcdm.png"
    options.start = untrained()
    options.results = begin(quick=options.quick)
    _, card = load_network(shipped_weights(3), 3)
    print(f"weights   {card['parameters']:,} parameters, sha256 {card['sha256'][:12]}")
    for part in filter(None, (card["recipe"].get("before"), card)):
        data, metrics = part["data"], part["metrics"]
        work = f"{metrics['step']} steps of {data['batch']} x {data['size']}^3, {data['open']:.0%} with open sides"
        print(f"trained   {work}, {metrics['seconds'] / 60:.0f} min on {part['recipe']['device']}")
    solve(*system("sphere", 16), method="multigrid")  # compiled before anything is timed
    for name in options.only:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
