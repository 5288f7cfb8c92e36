"""The machine a benchmark ran on: what it is, what is installed, how fast it streams memory."""

import os
import platform
import statistics
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange

PACKAGES = ("deconjugate", "numpy", "scipy", "numba", "torch", "pywavelets", "astropy")


@njit(parallel=True, cache=True)
def _triad(a, b, c, s):
    for i in prange(a.size):
        a[i] = b[i] + s * c[i]


def triad_run(*, megabytes=256, dtype=np.float32):
    """A function that does a = b + s c once on all threads, and the bytes it moves.

    Three arrays of the given size are counted; the read for ownership of a is not. Arrays much larger than the last
    cache measure the memory.
    """
    b, c = (np.full(int(megabytes * 1e6) // np.dtype(dtype).itemsize, value, dtype) for value in (1.0, 2.0))
    a, s = np.empty_like(b), np.dtype(dtype).type(3.0)
    _triad(a, b, c, s)
    if not (a == 7.0).all():
        raise RuntimeError("the triad is wrong: this machine's figures mean nothing")
    return partial(_triad, a, b, c, s), 3 * a.nbytes


def triad_bandwidth(*, megabytes=256, dtype=np.float32, repeats=15):
    """Best streaming bandwidth in GB/s; see :func:`triad_run`."""
    run, size = triad_run(megabytes=megabytes, dtype=dtype)
    return size / best_seconds(run, repeats=repeats) / 1e9


def best_seconds(function, *, repeats=9):
    """Shortest of several runs, after one that is not counted."""
    function()
    return min(_seconds(function) for _ in range(repeats))


def interleaved_seconds(functions, *, repeats=5):
    """Shortest run of each of several functions, taken in turns so that a busy machine is busy for all of them."""
    for function in functions:
        function()
    rounds = [[_seconds(function) for function in functions] for _ in range(repeats)]
    return [min(times) for times in zip(*rounds)]


def interleaved_medians(functions, *, repeats=5, clock=time.perf_counter):
    """Median seconds of each of several functions, run in turns."""
    rounds = [[_seconds(function, clock) for function in functions] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds)]


def _seconds(function, clock=time.perf_counter):
    start = clock()
    function()
    return clock() - start


def facts(*, repeats=15):
    """What a figure was measured on, as plain data: processor, threads, memory, load, versions, streaming bandwidth."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": platform.system(),
        "threads": numba.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
        "triad": round(triad_bandwidth(repeats=repeats), 1),
    }


def describe(found=None):
    """One paragraph of :func:`facts`."""
    found = found or facts()
    lines = [f"machine   {found['machine']}, {found['cores']} cores, {found['memory']}, load {found['load']:.1f}"]
    lines.append(f"python    {found['python']} on {found['system']}, numba threads {found['threads']}")
    lines.append("packages  " + ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    lines.append(f"triad     {found['triad']:.1f} GB/s (float32, 3 x 256 MB)")
    return "\n".join(lines)


def _processor():
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory():
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return f"{int(line.split()[1]) / 1024**2:.0f} GiB"
    return "memory unknown"


def _lines(path):
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    print(describe())
