"""A pressure projection: what `make demo` shows of the solver. Run as ``python -m deconjugate.solver.demo``."""

import time

import numpy as np
import scipy.sparse.linalg

from deconjugate.solver import gallery
from deconjugate.solver.solve import solve


def main(n=128):
    """Solve a projection with obstacles and an open top on n^3 cells, and the same with SciPy's CG."""
    print(f"Pressure projection, {n}^3 cells, 20 solid spheres, open top")
    operator = gallery.open_top((n, n, n))
    b = gallery.divergence(operator)
    start = time.perf_counter()
    solve(operator, b)
    compiled = time.perf_counter() - start
    result = solve(operator, b)

    matrix = operator.to_sparse()
    unknowns = operator.unknowns
    # The last word belongs to an assembled matrix, not to the kernels that found x.
    residual = np.linalg.norm(b[unknowns] - matrix @ result.x[unknowns]) / np.linalg.norm(b)
    seconds = result.setup_seconds + result.solve_seconds
    iterations = 0

    def count(_):
        nonlocal iterations
        iterations += 1

    start = time.perf_counter()
    x, _ = scipy.sparse.linalg.cg(matrix, b[unknowns], rtol=1e-6, callback=count)
    scipy_seconds = time.perf_counter() - start
    scipy_residual = np.linalg.norm(b[unknowns] - matrix @ x) / np.linalg.norm(b)

    print(f"  unknowns               {np.count_nonzero(unknowns):,}")
    print("                         deconjugate     SciPy CG")
    print(f"  iterations             {result.iterations:11d}  {iterations:11d}")
    print(f"  true relative residual {residual:11.1e}  {scipy_residual:11.1e}")
    print(f"  seconds, set-up incl.  {seconds:11.3f}  {scipy_seconds:11.3f}   ({scipy_seconds / seconds:.0f} times)")
    print(f"  {result.status.name}: {result.status.value}")
    print(f"  kernels are compiled at first: {max(compiled - seconds, 0.0):.1f} s, kept on disk for the next run")


if __name__ == "__main__":
    main()
