"""Execute notebooks on the installed package, each from an empty folder.

    python notebooks/execute.py [NAME ...]                                  # at full length, in place
    python notebooks/execute.py --short --output FOLDER [--jobs 2] [NAME ...]

In place, the outputs are replaced once the whole notebook has run. With ``--jobs`` every notebook has a process of its
own, which takes one thread; what goes wrong is printed, and the exit status is 1.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent


def execute(path, target):
    """Run one notebook and write it, without the times of its cells."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, 4)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        options = {"timeout": 3600, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
        options["extra_arguments"] = ["--log-level=ERROR"]  # not that its sockets are open to this machine
        nbclient.NotebookClient(notebook, resources=resources, **options).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as poisson; default all")
    parser.add_argument("--short", action="store_true", help="DECONJUGATE_NOTEBOOKS=short: small grids, few steps")
    parser.add_argument("--output", type=Path, help="folder to write to; default in place")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.short and options.output is None:
        parser.error("--short is for checks and needs --output: notebooks are kept at full length")
    names = options.names or sorted(path.stem for path in HERE.glob("*.ipynb"))
    os.environ["DECONJUGATE_NOTEBOOKS"] = "short" if options.short else ""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    if options.jobs == 1:
        for name in names:
            print(name, flush=True)
            execute(HERE / f"{name}.ipynb", (options.output or HERE) / f"{name}.ipynb")
        return
    given = [*(("--short",) * options.short), *(("--output", options.output) if options.output else ())]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")

    def run(name):
        command = [sys.executable, __file__, *map(str, given), name]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)

    with ThreadPoolExecutor(options.jobs) as pool:
        runs = dict(zip(names, pool.map(run, names)))
    for name, done in runs.items():
        print(f"{name}: {'done' if done.returncode == 0 else done.stderr[-3000:]}")
    sys.exit(any(done.returncode for done in runs.values()))


if __name__ == "__main__":
    main()
