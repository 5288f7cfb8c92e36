"""Other people's solvers for A x = b, each set up as its documentation recommends, behind one signature.

``peers`` maps a name to ``f(A, b, rtol) -> (x, iterations, setup seconds, solve seconds)`` for A a matrix of the
unknowns from ``as_peers_want`` and b a float64 vector. The matrix is handed over free of charge: neither its assembly
nor its conversion is timed. ``absent(name)`` says why a peer cannot run here, or None.

- SciPy CG: ``scipy.sparse.linalg.cg``, no preconditioner.
- IC(0)-CG: SciPy CG with ilupp's incomplete Cholesky factor without fill.
- PyAMG SA-CG, RS-CG: ``smoothed_aggregation_solver`` and ``ruge_stuben_solver`` with ``accel="cg"``; their symmetric
  Gauss-Seidel sweeps and pseudo-inverse on the coarsest grid are the default. SA-CG on a singular A gives up at random
  ("indefinite preconditioner") where the coefficient jumps; fixing one unknown of each component cures it and costs
  no iteration elsewhere, so it is done, free of charge.
- AMGCL SA-CG, RS-CG: smoothed aggregation and Ruge-Stuben with SPAI(0) relaxation, the library's default and the
  choice of its tutorials, inside CG, OpenMP on all cores. A singular A needs ``direct_coarse = False``, as its
  documentation says. Where there are several components, single cells among them, it stalls or divides by zero; the
  singular ones are then made regular as for PyAMG, free of charge. RS-CG reads memory that it never wrote where a row
  has no strong connection, and fails or crashes by chance; memory that is zero when it is handed out, which costs it
  nothing measurable, has it succeed each time.
  Its exact solver takes over from 1000 unknowns on: the default of 3000, best for SA-CG, takes five times the rest of a
  solve of 32^3.
- PETSc hypre-CG, GAMG-CG: PETSc's conjugate gradients with BoomerAMG or its own aggregation, one MPI process a core
  (``petsc_peer``). Several components with singular ones among them are made regular as for PyAMG.
"""

from importlib.util import find_spec
from time import perf_counter

import numpy as np
import scipy.sparse.csgraph
import scipy.sparse.linalg


def as_peers_want(A):
    """A as a csr_matrix with 32-bit indices: what all peers accept and are fastest with."""
    A = scipy.sparse.csr_matrix(A)
    A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
    return A


def scipy_cg(A, b, rtol, M=None, maxiter=5000):
    iterations = 0

    def count(_):
        nonlocal iterations
        iterations += 1

    start = perf_counter()
    x, _ = scipy.sparse.linalg.cg(A, b, rtol=rtol, M=M, maxiter=maxiter, callback=count)
    return x, iterations, 0.0, perf_counter() - start


def ic0_cg(A, b, rtol):
    import ilupp

    start = perf_counter()
    M = ilupp.IChol0Preconditioner(A)
    setup = perf_counter() - start
    x, iterations, _, seconds = scipy_cg(A, b, rtol, M)
    return x, iterations, setup, seconds


def pyamg_sa_cg(A, b, rtol):
    import pyamg

    return _pyamg(pyamg.smoothed_aggregation_solver, _pinned(A), b, rtol)


def pyamg_rs_cg(A, b, rtol):
    import pyamg

    return _pyamg(pyamg.ruge_stuben_solver, A, b, rtol)


def _pyamg(build, A, b, rtol):
    np.random.seed(0)  # noqa: NPY002 - PyAMG estimates spectral radii from NumPy's global generator
    start = perf_counter()
    hierarchy = build(A)
    built = perf_counter()
    norms = []
    x = hierarchy.solve(b, tol=rtol, accel="cg", maxiter=500, residuals=norms)
    return x, len(norms) - 1, built - start, perf_counter() - built


def _pinned(A):
    """A with a larger diagonal at one unknown of every singular component: regular, with a solution of A x = b."""
    _, component = scipy.sparse.csgraph.connected_components(A, directed=False)
    held = np.zeros(component.max() + 1, bool)
    held[component[abs(A @ np.ones(A.shape[0])) > 1e-8 * A.diagonal()]] = True
    first = np.unique(component, return_index=True)[1]
    extra = np.zeros(A.shape[0])
    extra[first[~held]] = A.diagonal().max()
    return A if held.all() else as_peers_want(A + scipy.sparse.diags(extra))


def amgcl_sa_cg(A, b, rtol):
    return _amgcl({"coarsening.type": "smoothed_aggregation"}, A, b, rtol)


def amgcl_rs_cg(A, b, rtol):
    return _amgcl({"coarsening.type": "ruge_stuben", "coarse_enough": 1000}, A, b, rtol)


def _amgcl(settings, A, b, rtol):
    import pyamgcl

    singular = abs(A @ np.ones(A.shape[0])).max() < 1e-8 * A.diagonal().max()
    if scipy.sparse.csgraph.connected_components(A, directed=False)[0] > 1:
        A, singular = _pinned(A), False
    start = perf_counter()
    M = pyamgcl.amg(A, settings | {"relax.type": "spai0", "direct_coarse": not singular})
    built = perf_counter()
    solve = pyamgcl.solver(M, {"type": "cg", "tol": rtol, "maxiter": 500})
    x = solve(b)
    return x, solve.iters, built - start, perf_counter() - built


def petsc_hypre_cg(A, b, rtol):
    return _petsc("hypre", A, b, rtol)


def petsc_gamg_cg(A, b, rtol):
    return _petsc("gamg", A, b, rtol)


def _petsc(name, A, b, rtol):
    import petsc_peer

    singular = abs(A @ np.ones(A.shape[0])).max() < 1e-8 * A.diagonal().max()
    if scipy.sparse.csgraph.connected_components(A, directed=False)[0] > 1:
        A, singular = _pinned(A), False
    return petsc_peer.run(name, A, b, rtol, singular=singular)


peers = {
    "SciPy CG": scipy_cg,
    "IC(0)-CG": ic0_cg,
    "PyAMG SA-CG": pyamg_sa_cg,
    "PyAMG RS-CG": pyamg_rs_cg,
    "AMGCL SA-CG": amgcl_sa_cg,
    "AMGCL RS-CG": amgcl_rs_cg,
    "PETSc hypre-CG": petsc_hypre_cg,
    "PETSc GAMG-CG": petsc_gamg_cg,
}

# What the process of a peer finds in its environment; glibc fills new memory with the complement of the byte named.
environments = {amgcl_rs_cg: {"MALLOC_PERTURB_": "255"}}

_AMGCL = "needs Boost's headers (Debian: libboost-dev) and pybind11, then pip install --no-build-isolation pyamgcl"
_PETSC = "see benchmarks/petsc_peer.py for how it is installed"
_NEEDS = {
    "IC(0)-CG": ("ilupp", "pip install --no-build-isolation ilupp, with pybind11 present"),
    "PyAMG SA-CG": ("pyamg", "pip install pyamg"),
    "PyAMG RS-CG": ("pyamg", "pip install pyamg"),
    "AMGCL SA-CG": ("pyamgcl", _AMGCL),
    "AMGCL RS-CG": ("pyamgcl", _AMGCL),
    "PETSc hypre-CG": ("petsc4py", _PETSC),
    "PETSc GAMG-CG": ("petsc4py", _PETSC),
}


def module_of(peer):
    """The module that a peer imports when it is first run, or None."""
    title = next((title for title, function in peers.items() if function is peer), None)
    return _NEEDS.get(title, (None, None))[0]


def absent(name):
    """Why the peer cannot run here and what to do about it; None if it can."""
    module, remedy = _NEEDS.get(name, (None, None))
    return f"{module} is not installed: {remedy}" if module and find_spec(module) is None else None
