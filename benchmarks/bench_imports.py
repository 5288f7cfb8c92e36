"""What it costs to import each package, and to ask the command for help, in a new process each.

    python benchmarks/bench_imports.py [--quick]

The processes take turns; least and median wall time, and the least processor time, which a busy machine stretches less.
The start of Python itself is in each and stands in the first row. What is imported is held by the tests.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

from results import begin
from tables import row, table, verdict

HELP = "import sys; from deconjugate.astro.cli import main; sys.argv = ['deconjugate', '--help']; main()"
CASES = {
    "python alone": ("pass", None),
    "import numpy, scipy.sparse.linalg, numba": ("import numpy, scipy.sparse.linalg, numba", None),
    "import deconjugate.operators": ("import deconjugate.operators", 0.5),
    "import deconjugate.solver": ("import deconjugate.solver", None),
    "import deconjugate.astro": ("import deconjugate.astro", None),
    "from deconjugate.astro import deconvolve": ("from deconjugate.astro import deconvolve", None),
    "deconjugate --help": (HELP, 0.3),
}


def once(code, folder):
    """Wall and processor seconds of a process that runs the code, from a folder that holds no package."""
    before, start = os.times(), perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    seconds, after = perf_counter() - start, os.times()
    if done.returncode:
        raise RuntimeError(done.stderr)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three processes each")
    options = parser.parse_args()
    results = begin(quick=options.quick, packages=("operators", "solver", "astro"))
    found = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + (3 if options.quick else 15)):  # the first writes the compiled files and is not counted
            for name, (code, _asked) in CASES.items():
                found[name].append(once(code, folder))
    table("a new process", "least (s)", "median (s)", "processor, least (s)", "asked", "met")
    for name, (_code, asked) in CASES.items():
        wall, used = zip(*found[name][1:])
        least, median, processor = min(wall), statistics.median(wall), min(used)
        met = ("-", "-") if asked is None else (f"< {asked}", verdict(least < asked))
        row(name, f"{least:.2f}", f"{median:.2f}", f"{processor:.2f}", *met)
        results.note(f"imports/{name}", seconds=least, median_seconds=median, processor_seconds=processor)


if __name__ == "__main__":
    main()
