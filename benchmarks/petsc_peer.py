"""PETSc's conjugate gradients on all cores: a program for ``mpiexec``, and the peer that runs it.

    mpiexec -n 2 python benchmarks/petsc_peer.py PROBLEM.npz SETTINGS.json ANSWER.npz

Every process takes its rows of the matrix; neither that nor the start counts, and a first run warms. Debian's PETSc has
hypre: ``apt install libpetsc-real-dev openmpi-bin``, then petsc4py of the same release from PyPI, without build
isolation, with PETSC_DIR set and a setuptools older than 66. (Debian's own petsc4py wants NumPy 1.)
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

# As the manuals recommend: for three dimensions hypre's HMIS, extended+i, four entries a row and one aggressive level;
# for two what PETSc chooses.
HYPRE_3D = {
    "pc_type": "hypre",
    "pc_hypre_boomeramg_coarsen_type": "HMIS",
    "pc_hypre_boomeramg_interp_type": "ext+i",
    "pc_hypre_boomeramg_P_max": 4,
    "pc_hypre_boomeramg_agg_nl": 1,
    "pc_hypre_boomeramg_strong_threshold": 0.25,
}
HYPRE_2D = {"pc_type": "hypre"}
GAMG = {"pc_type": "gamg"}


def settings_of(name, A):
    """What PETSc is told: a matrix of more than five entries in a row is one of three dimensions."""
    if name == "gamg":
        return GAMG
    return HYPRE_3D if np.diff(A.indptr).max() > 5 else HYPRE_2D


def run(name, A, b, rtol, *, singular):
    """(x, iterations, set-up seconds, solve seconds) of conjugate gradients with hypre or GAMG.

    Parameters
    ----------
    name : "hypre" or "gamg"
    A, b, rtol : as for the functions in ``peers``
    singular : bool
        Whether the constant is A's null space.
    """
    with TemporaryDirectory() as folder:
        problem, settings, answer = (f"{folder}/{part}" for part in ("problem.npz", "settings.json", "answer.npz"))
        np.savez(problem, indptr=A.indptr, indices=A.indices, data=A.data, b=b, rtol=rtol, singular=singular)
        Path(settings).write_text(json.dumps(settings_of(name, A)))
        command = ["mpiexec", "-n", str(os.cpu_count()), sys.executable, __file__, problem, settings, answer]
        # OpenMPI asks before it runs as root and where it counts fewer cores than processes.
        allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe")
        environment = os.environ | dict.fromkeys(allowed, "1") | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, preexec_fn=_end_with_parent
        )
        if done.returncode:
            raise RuntimeError(f"mpiexec ended with status {done.returncode}: {done.stderr.strip()[-200:]}")
        with np.load(answer) as found:
            return found["x"], int(found["iterations"]), float(found["setup"]), float(found["solve"])


def _end_with_parent():
    """A peer whose time is up is killed; what it has started must not go on."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def main(problem, settings, answer):
    import petsc4py

    petsc4py.init([])
    from petsc4py import PETSc

    comm = PETSc.COMM_WORLD
    with np.load(problem) as given:
        indptr, indices, data, b = (given[part] for part in ("indptr", "indices", "data", "b"))
        rtol, singular = float(given["rtol"]), bool(given["singular"])
    n = b.size
    low, high = n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size
    part = slice(indptr[low], indptr[high])
    rows = indptr[low : high + 1] - indptr[low], indices[part], data[part]
    options = PETSc.Options()
    for key, value in json.loads(Path(settings).read_text()).items():
        options[key] = value
    for _ in range(2):  # the first run warms
        A = PETSc.Mat().createAIJ(((high - low, n), (high - low, n)), csr=rows, comm=comm)
        if singular:
            A.setNullSpace(PETSc.NullSpace().create(constant=True, comm=comm))
        x, right = A.createVecs()
        right.setArray(b[low:high])
        ksp = PETSc.KSP().create(comm)
        ksp.setOperators(A)
        ksp.setType("cg")
        ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
        ksp.setTolerances(rtol=rtol, max_it=500)
        ksp.setFromOptions()
        comm.barrier()
        start = perf_counter()
        ksp.setUp()
        built = perf_counter()
        ksp.solve(right, x)
        comm.barrier()
        end = perf_counter()
    gather, whole = PETSc.Scatter.toZero(x)
    gather.scatter(x, whole)
    if comm.rank == 0:
        iterations = ksp.getIterationNumber()
        np.savez(answer, x=whole.getArray(), iterations=iterations, setup=built - start, solve=end - built)


if __name__ == "__main__":
    main(*sys.argv[1:])
