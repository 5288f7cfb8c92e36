"""What the benchmarks keep, and the README's tables that are drawn from it."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MACHINE = {"machine": "Vendor 1/2 CPU @ 3 GHz", "cores": 4, "memory": "8 GiB", "triad": 10.0}


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks by name, imported anew."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("compare", "guard", "machine", "readme_rows", "readme_tables", "records", "results"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module


def run(command="python benchmarks/bench_this.py", date="2026-01-02 03:04"):
    return {"command": command, "date": date, "code": "0badc0de", **MACHINE}


def test_figures_of_several_runs_merge_into_one_file(load, tmp_path):
    results, path = load("results"), tmp_path / "results" / "this.json"
    first = results.Results(path, run())
    first.note("this/12^3", seconds=np.float64(1.23456789), iterations=np.int64(4), shape=(3, 5))
    first.note("this/15^3", share=np.array([0.5, 0.25]))
    results.Results(path, run("python benchmarks/bench_that.py")).note("that", by={"a": np.float32(0.5)})
    content = json.loads(path.read_text())
    assert content["runs"] == {"1": run(), "2": run("python benchmarks/bench_that.py")}
    assert content["figures"] == {
        "this/12^3": {"run": "1", "values": {"seconds": 1.23457, "iterations": 4, "shape": [3, 5]}},
        "this/15^3": {"run": "1", "values": {"share": [0.5, 0.25]}},
        "that": {"run": "2", "values": {"by": {"a": 0.5}}},
    }
    assert [file.name for file in path.parent.iterdir()] == ["this.json"]


def test_a_later_figure_takes_the_place_of_the_earlier_and_its_run(load, tmp_path):
    results, path = load("results"), tmp_path / "this.json"
    results.Results(path, run()).note("this", seconds=1.0)
    results.Results(path, run(date="2026-01-02 04:05")).note("this", seconds=2.0)
    content = json.loads(path.read_text())
    assert content["figures"]["this"] == {"run": "2", "values": {"seconds": 2.0}}
    assert list(content["runs"]) == ["2"]


def test_runs_at_the_same_time_lose_nothing(load, tmp_path):
    results, path = load("results"), tmp_path / "this.json"
    found = [results.Results(path, run(date=f"2026-01-0{k} 00:00")) for k in (1, 2)]

    def measure(k):
        for i in range(40):
            found[k].note(f"{k}, {i}", value=i)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(measure, (0, 1)))
    content = json.loads(path.read_text())
    assert len(content["figures"]) == 80
    for name, figure in content["figures"].items():
        assert content["runs"][figure["run"]] == found[int(name[0])].run


def test_a_run_that_lost_its_number_takes_another(load, tmp_path):
    results, path = load("results"), tmp_path / "this.json"
    first, second = (results.Results(path, run(date=f"2026-01-0{k} 00:00")) for k in (1, 2))
    first.note("this", seconds=1.0)
    path.unlink()
    second.note("that", seconds=2.0)
    first.note("this", seconds=1.0)
    content = json.loads(path.read_text())
    assert content["runs"] == {"1": second.run, "2": first.run}
    assert {name: figure["run"] for name, figure in content["figures"].items()} == {"that": "1", "this": "2"}


def test_nothing_is_kept_without_a_path(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load("results").Results(None, {}).note("this", seconds=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_what_made_it_and_short_ones_stand_apart(load, tmp_path, monkeypatch, capsys):
    results = load("results")
    machine = MACHINE | {"load": 0.5, "python": "3", "system": "Linux", "threads": 1, "packages": {"numpy": "2"}}
    monkeypatch.setattr(results, "facts", lambda **_: machine)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["/some/where/bench_this.py", "--only", "that"])
    found = results.begin(packages=("operators",))
    assert "Vendor 1/2 CPU @ 3 GHz, 4 cores, 8 GiB, load 0.5" in capsys.readouterr().out
    assert found.run["command"] == "python benchmarks/bench_this.py --only that"
    assert found.run["code"] == load("records").code_hash(("operators",)) != load("records").code_hash()
    assert found.path.parent == tmp_path
    assert found.path.name == f"vendor-1-2-cpu-3-ghz-4-cores-{found.run['date'][:10]}.json"
    assert results.begin(quick=True).path.parent == tmp_path / "quick"
    assert results.begin(keep=False).path is None


def test_the_newest_figure_of_one_machine_counts(load, tmp_path):
    results = load("results")
    for file, date, seconds in (("b", "2026-01-03 00:00", 3.0), ("a", "2026-01-02 00:00", 2.0)):
        results.Results(tmp_path / f"{file}.json", run(date=date)).note("this", seconds=seconds)
    other = run(date="2026-01-01 00:00") | {"machine": "Other"}
    results.Results(tmp_path / "other.json", other).note("this", seconds=1.0)
    results.Results(tmp_path / "other.json", other).note("that", seconds=1.0)
    assert {name: values for name, (values, _) in results.newest(folder=tmp_path).items()} == {"this": {"seconds": 3.0}}
    assert results.newest("other-4-cores", folder=tmp_path)["that"] == ({"seconds": 1.0}, other)
    assert results.newest(folder=tmp_path / "none") == {}


def committed_results(folder):
    """The files of results that are part of the project, copied: a benchmark run by the way changes no table."""
    if shutil.which("git") is None:
        return ROOT / "benchmarks" / "results"
    command = ["git", "-C", ROOT, "ls-files", "-z", "benchmarks/results"]
    names = subprocess.run(command, capture_output=True, text=True).stdout.split("\0")[:-1]
    for name in names:
        shutil.copy(ROOT / name, folder)
    return folder if names else ROOT / "benchmarks" / "results"


def test_the_readme_is_what_the_results_give(load, tmp_path):
    tables = load("readme_tables")
    text, found = (ROOT / "README.md").read_text(), load("results").newest(folder=committed_results(tmp_path))
    assert tables.redrawn(text, found) == text, "run make tables, and commit the results with the README"


def test_a_figure_that_nothing_holds_is_a_dash_with_the_reason(load):
    tables = load("readme_tables")
    found = {
        "poisson/sizes": ({"spread": 1, "growth": 0.875}, run(date="2026-01-02 03:04")),
        "poisson/precision": ({"cost": 1.5}, run(date="2026-01-05 03:04")),
        "poisson/sphere, 128^3": ({"iterations": {'method="multigrid"': 4}}, run()),
    }
    text = "\n".join(tables.draw(tables.TABLES["poisson-table"], found))
    assert "| 1 | `python benchmarks/bench_poisson.py --only sizes` |" in text
    assert "| 0.88 | same |" in text
    assert "| - (no result yet: poisson/sphere, 128^3: SciPy CG) |" in text
    assert "| - (no result yet: poisson/boxes, float32) |" in text
    assert text.endswith("*Vendor 1/2 CPU @ 3 GHz, 4 cores; measured 2026-01-02 to 2026-01-05.*")


def test_a_table_without_markers_is_an_error(load):
    with pytest.raises(SystemExit, match="one pair of <!-- poisson-table -->"):
        load("readme_tables").redrawn("no table", {})
