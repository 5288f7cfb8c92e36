"""Every figure that a benchmark prints, kept with the command, the day, the code and the machine that gave it.

``results/<machine>-<date>.json`` holds ``{"runs": {number: run}, "figures": {name: {"run": number, "values": ...}}}``;
runs of one day on one machine merge into one file, the later figure of a name in the place of the earlier. Short runs
(``--quick``) are kept apart, in ``results/quick``: they measure less.
"""

import fcntl
import json
import os
import re
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from machine import describe, facts
from records import code_hash

FOLDER = Path(__file__).resolve().parent / "results"


class Results:
    """Where the figures of one run go.

    Parameters
    ----------
    path : Path or None
        A file of results, made or added to; None keeps nothing.
    run : dict
        Command, date, code and machine of the run, plain data.

    Example
    -------
    >>> Results(None, {"command": "python bench_this.py"}).note("this/128^3", seconds=1.25, iterations=4)
    """

    def __init__(self, path, run):
        self.path, self.run, self.number = path, run, None

    def note(self, name, **values):
        """Keep the values of one figure: numbers, text, and lists and dictionaries of them."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(self.path.parent):
            content = read(self.path)
            if content["runs"].get(self.number) != self.run:
                self.number = str(1 + max(map(int, content["runs"]), default=0))
                content["runs"][self.number] = self.run
            content["figures"][name] = {"run": self.number, "values": _plain(values)}
            needed = {figure["run"] for figure in content["figures"].values()}
            content["runs"] = {number: run for number, run in content["runs"].items() if number in needed}
            # A cut in the middle of writing must not cost what was there.
            beside = self.path.with_name(self.path.name + ".new")
            beside.write_text(json.dumps(content, indent=1) + "\n")
            beside.replace(self.path)


def begin(*, quick=False, keep=True, packages=("operators", "solver")):
    """Print the machine, and open the results of this run.

    Parameters
    ----------
    quick : bool
        The run is a short one.
    keep : bool
        False where the settings are not those of the tables: nothing is kept then.
    packages : sequence of str
        Those whose code gives the figures.
    """
    machine = facts(repeats=3 if quick else 15)
    print(describe(machine), flush=True)
    now = datetime.now(UTC)
    given = [Path(part).name if Path(part).is_absolute() else part for part in sys.argv[1:]]  # no folder of a machine
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
    run = {"command": command, "date": f"{now:%Y-%m-%d %H:%M}", "code": code_hash(packages), **machine}
    folder = FOLDER / "quick" if quick else FOLDER
    return Results(folder / f"{slug(machine)}-{now:%Y-%m-%d}.json" if keep else None, run)


def slug(machine):
    """The processor's model and its cores, in a word: never the name of the host."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['machine']} {machine['cores']} cores".lower()).strip("-")


def read(path):
    """The content of a file of results; empty where there is none."""
    return json.loads(path.read_text()) if path.exists() else {"runs": {}, "figures": {}}


def newest(machine=None, folder=FOLDER):
    """``{name: (values, run)}`` of the last measurement of each figure on one machine.

    Parameters
    ----------
    machine : str, optional
        As in the names of the files; that of the last run of all by default, for tables do not mix machines.
    folder : Path
        Where the files are.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        content = read(path)
        for name, figure in content["figures"].items():
            found.append((name, figure["values"], content["runs"][figure["run"]]))
    found.sort(key=lambda entry: entry[2]["date"])
    machine = machine or (slug(found[-1][2]) if found else None)
    return {name: (values, run) for name, values, run in found if slug(run) == machine}


@contextmanager
def _alone_in(folder):
    """Two benchmarks at a time must not lose each other's figures."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _plain(value):
    """Numbers of NumPy as numbers, and six digits of them: more is noise."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
