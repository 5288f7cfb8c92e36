"""What tells a slower package: the comparison of two files of results, and the guard of ratios."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A module of the benchmarks by name, imported anew."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("bench_operators", "boxes", "compare", "guard", "machine", "records", "results", "solves", "tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module


def results_file(path, code, **figures):
    run = {"command": "python benchmarks/bench_this.py", "date": "2026-01-02 03:04", "code": code}
    run |= {"machine": "CPU", "cores": 3}
    kept = {name: {"run": "1", "values": values} for name, values in figures.items()}
    path.write_text(json.dumps({"runs": {"1": run}, "figures": kept}))
    return str(path)


def compare(load, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    load("compare").main()
    return capsys.readouterr().out


def test_the_worst_regressions_come_first(load, tmp_path, monkeypatch, capsys):
    before = results_file(
        tmp_path / "a.json",
        "aaaa",
        solve={"seconds": {"ours": 1.0, "theirs": 8.0}, "n": 128, "status": "good"},
        starlet={"faster": 40.0, "ms": 10.0},
        flux={"median": -0.2},
        gone={"seconds": 1.0},
    )
    after = results_file(
        tmp_path / "b.json",
        None,
        solve={"seconds": {"ours": 1.5, "theirs": 8.1}, "n": 64, "status": "bad"},
        starlet={"faster": 20.0, "ms": 5.0},
        flux={"median": 0.6},
    )
    out = compare(load, monkeypatch, capsys, before, after)
    assert "a.json: CPU, 3 cores; code aaaa\nb.json: CPU, 3 cores; code unknown" in out
    shown = [line for line in out.splitlines() if line.startswith("| ")][2:]
    assert shown == [
        "| flux: median | -0.2 | 0.6 | 3.00 |",
        "| starlet: faster | 40 | 20 | 2.00 |",
        "| solve: seconds, ours | 1 | 1.5 | 1.50 |",
        "| starlet: ms | 10 | 5 | 0.50 |",
    ]
    assert "5 figures in both, of which by more than 1.1: 3 worse and 1 better; 1 in A alone, 0 in B alone" in out


def test_the_threshold_decides_what_is_shown_and_fails(load, tmp_path, monkeypatch, capsys):
    before = results_file(tmp_path / "a.json", "a", solve={"seconds": 1.0})
    after = results_file(tmp_path / "b.json", "b", solve={"seconds": 1.5})
    assert "0 worse" in compare(load, monkeypatch, capsys, before, after, "--threshold", "2", "--fail")
    assert "1 worse" in compare(load, monkeypatch, capsys, before, after)
    with pytest.raises(SystemExit, match="1"):
        compare(load, monkeypatch, capsys, before, after, "--fail")


def test_more_of_a_summary_of_the_suite_is_better(load):
    worse_by = load("compare").worse_by
    assert worse_by("poisson/suite, peers: peer", 15.0, 10.0) == 1.5
    assert worse_by("poisson/suite/box, 64^3: seconds, dct", 1.0, 2.0) == 2.0
    assert worse_by("edge: worst", 0.0, 1.0) == float("inf")
    assert worse_by("edge: worst", 0.0, 0.0) == 1.0


def test_a_file_that_is_not_there_is_named(load, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare(load, monkeypatch, capsys, str(tmp_path / "none.json"), str(tmp_path / "none.json"))
    assert "none.json: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["no JSON", "[1, 2]", '{"ratios": {}}', '{"runs": {}, "figures": {"a": {"run": "1"}}}']
)
def test_a_file_of_another_form_is_refused_in_words(text, load, tmp_path, monkeypatch, capsys):
    good = results_file(tmp_path / "good.json", "a", solve={"seconds": 1.0})
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        compare(load, monkeypatch, capsys, good, str(tmp_path / "other.json"))
    assert "other.json: no file of results, which is" in capsys.readouterr().err


@pytest.fixture
def guard(load, monkeypatch, tmp_path):
    """The guard over two cases whose work is counted by a clock of its own."""
    module = load("guard")
    clock, work = [0.0], {"fast": 2.0, "slow": 3.0}

    def spend(seconds):
        clock[0] += seconds

    cases = {name: lambda name=name: (lambda: spend(work[name]), lambda: spend(1.0)) for name in work}
    machine = {"machine": "CPU", "cores": 3, "memory": "8 GiB", "load": 0.5, "python": "3", "system": "Linux"}
    monkeypatch.setattr(module, "facts", lambda: machine | {"threads": 1, "packages": {}, "triad": 10.0})
    monkeypatch.setattr(module, "process_time", lambda: clock[0])
    monkeypatch.setattr(module, "CASES", cases)
    monkeypatch.setattr(module, "STORED", tmp_path / "guard.json")
    monkeypatch.setattr(module.numba.config, "NUMBA_NUM_THREADS", 1)
    module.work = work
    return module


def run_guard(guard, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["guard.py", *arguments])
    guard.main()


def test_the_guard_fails_beyond_a_quarter_and_names_the_case(guard, monkeypatch, capsys):
    monkeypatch.setattr(guard, "counted", lambda command: "perf is not installed")
    run_guard(guard, monkeypatch, "--store")
    assert json.loads(guard.STORED.read_text())["ratios"] == {"fast": 2.0, "slow": 3.0}
    guard.work |= {"fast": 2.4, "slow": 2.0}
    run_guard(guard, monkeypatch)
    out = capsys.readouterr().out
    assert "| fast | 2.00 | 2.40 | 1.20 | yes |" in out
    assert "instructions: - (perf is not installed)" in out
    guard.work["fast"] = 2.6
    with pytest.raises(SystemExit, match=r"by more than a quarter: fast$"):
        run_guard(guard, monkeypatch)
    assert "| fast | 2.00 | 2.60 | 1.30 | **no** |" in capsys.readouterr().out


def test_a_case_that_is_slow_once_is_measured_again(guard):
    ratios = iter([3.0, 2.0])
    guard.ratio = lambda ours, yardstick: next(ratios)
    assert guard.measure("fast", 2.5) == 2.0


def test_instructions_are_guarded_where_they_are_counted(guard, monkeypatch, capsys):
    each = {"fast": 1e6, "slow": 2e6}
    monkeypatch.setattr(
        guard,
        "counted",
        lambda command: 5e9 + int(command[-1]) * each[command[-2]] if command[-1].isdigit() else 7,
    )
    run_guard(guard, monkeypatch, "--store")
    assert json.loads(guard.STORED.read_text())["instructions"] == {"fast": 1000000, "slow": 2000000}
    each["slow"] = 3e6
    with pytest.raises(SystemExit, match=r"by more than a quarter: slow$"):
        run_guard(guard, monkeypatch)
    assert "| slow | 2.0 | 3.0 | 1.50 | **no** |" in capsys.readouterr().out


def test_counts_are_read_from_what_perf_says(guard, monkeypatch, tmp_path):
    perf = tmp_path / "perf"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert guard.counted(["true"]) == "perf is not installed"
    perf.write_text('#!/bin/sh\necho "123456,,instructions:u,1,100.00,," >&2\n')
    perf.chmod(0o755)
    assert guard.counted(["true"]) == 123456
    perf.write_text('#!/bin/sh\necho "<not supported>,,instructions:u,0,100.00,," >&2\n')
    assert guard.counted(["true"]) == "perf: <not supported>"
    perf.write_text('#!/bin/sh\necho "Access is limited" >&2\nexit 255\n')
    assert guard.counted(["true"]) == "perf: Access is limited"


def test_the_guard_wants_one_thread(guard, monkeypatch):
    monkeypatch.setattr(guard.numba.config, "NUMBA_NUM_THREADS", 2)
    with pytest.raises(SystemExit, match="set NUMBA_NUM_THREADS=1 and OMP_NUM_THREADS=1"):
        run_guard(guard, monkeypatch)


def test_a_wrong_answer_is_not_timed(guard):
    with pytest.raises(SystemExit, match="nothing to time"):
        guard.check("starlet", 1e-3, 1e-5)


def test_every_stored_case_exists(load):
    guard = load("guard")
    assert set(json.loads(guard.STORED.read_text())["ratios"]) == set(guard.CASES)
