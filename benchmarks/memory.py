"""The memory that a solve takes: the peak of a new process above what it held before the call, x not counted."""

import os
import subprocess
import sys

import numpy as np
from solves import RTOL, fresh
from tables import row, table, verdict

from deconjugate.solver import solve
from deconjugate.solver.gallery import problems, right_hand_sides


def bench_memory(options):
    """Peak of a fresh process during one solve, above what it held before; kernels compiled before."""
    n = 128 if options.quick else 256
    table("memory, b in float32", "peak above inputs (MB)", "less x, bytes per cell", "asked", "met")
    for method in ("multigrid", "dct"):
        arguments = [sys.executable, __file__, method, str(n)]
        # A fixed threshold has the allocator return freed arrays at once: none of them is used again unseen.
        environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536")
        out = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        extra, output = (int(value) for value in out.stdout.split())
        per_cell = (extra - output) / n**3
        options.results.note(f"poisson/memory, {method}", cells=n**3, bytes_per_cell=per_cell)
        row(
            f'sphere {n}^3, method="{method}"',
            f"{extra / 1e6:.0f}",
            f"{per_cell:.0f}",
            "<= 120",
            verdict(per_cell <= 120),
        )


def memory_of(method, n):
    """Print the growth of this process's peak resident memory over one solve, and the bytes of its answer."""
    warm = problems["sphere"]((32,) * 3)
    solve(warm, right_hand_sides["divergence"](warm, 1).astype(np.float32), method=method, rtol=RTOL)
    A = problems["sphere"]((n,) * 3)
    b = right_hand_sides["divergence"](A, 1).astype(np.float32)
    A = fresh(A)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # forget the peak so far
    before = _status("VmRSS")
    x = solve(A, b, method=method, rtol=RTOL).x
    print(_status("VmHWM") - before, x.nbytes)


def _status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    memory_of(sys.argv[1], int(sys.argv[2]))
