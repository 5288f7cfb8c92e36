"""What was measured, kept in a JSON file as it goes, so that a run can be cut and continued."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path


class Records:
    """Measurements by name; what the file holds already is not measured again.

    Parameters
    ----------
    path : path of a JSON file, optional
        Read where it exists, and written anew after each measurement; without it nothing is kept.
    measuring : bool
        False leaves out what the file does not hold in place of measuring it.

    Example
    -------
    >>> Records().once("the answer", lambda: {"value": 42})
    {'value': 42}
    """

    def __init__(self, path=None, *, measuring=True):
        self.path, self.measuring = path and Path(path), measuring
        self.content = {"runs": [], "rows": {}}
        if self.path and self.path.exists():
            self.content = json.loads(self.path.read_text())
        elif self.path and not measuring:
            raise SystemExit(f"--json {path}: there is no such file to print from")

    def begin(self, machine):
        """Note the machine of a run, and print its code; say so where the file also holds rows of other code."""
        self.content["runs"].append({"machine": machine, "code": code_hash()})
        print(f"code      {self.code}")

    def describe(self):
        """Print the machine of the last run, and whether all rows are of one state of the code."""
        print(self.content["runs"][-1]["machine"])
        print(f"code      {self.code}")

    @property
    def code(self):
        """The code of the last run, and of the rows on file from before."""
        codes = list(dict.fromkeys(run["code"] for run in self.content["runs"]))
        return codes[-1] + "".join(f", some rows of {code}" for code in codes[:-1])

    def once(self, name, measure):
        """``measure()``, plain data for JSON, or what the file holds under the name; None where not measuring."""
        rows = self.content["rows"]
        if name not in rows:
            if not self.measuring:
                return None
            rows[name] = json.loads(json.dumps(measure()))
            self._write()
        return rows[name]

    def _write(self):
        if self.path:
            # A cut in the middle of writing must not cost what was there.
            beside = self.path.with_name(self.path.name + ".new")
            beside.write_text(json.dumps(self.content, indent=1))
            beside.replace(self.path)


def code_hash(packages=("operators", "solver")):
    """Eight hexadecimal digits of the packages' source and weights."""
    digest = hashlib.sha256()
    for package in packages:
        (folder,) = map(Path, find_spec(f"deconjugate.{package}").submodule_search_locations)
        for path in sorted([*folder.rglob("*.py"), *folder.glob("weights/*")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
