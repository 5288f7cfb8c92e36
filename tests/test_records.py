"""The file that a cut run of the benchmarks goes on from."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def records(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delitem(sys.modules, "records", raising=False)
    import records

    return records


def never():
    raise AssertionError("measured again")


def cut():
    raise KeyboardInterrupt


def test_a_cut_run_goes_on_where_it_was(records, tmp_path):
    path = tmp_path / "rows.json"
    first = records.Records(path)
    assert first.once("one", lambda: {"seconds": (1.5, 2.5)}) == {"seconds": [1.5, 2.5]}
    with pytest.raises(KeyboardInterrupt):
        first.once("two", cut)
    second = records.Records(path)
    assert second.once("one", never) == {"seconds": [1.5, 2.5]}
    assert second.once("two", lambda: 2) == 2
    assert json.loads(path.read_text())["rows"] == {"one": {"seconds": [1.5, 2.5]}, "two": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]


def test_printing_measures_nothing(records, tmp_path):
    path = tmp_path / "rows.json"
    records.Records(path).once("one", lambda: 1)
    printing = records.Records(path, measuring=False)
    assert printing.once("one", never) == 1
    assert printing.once("two", never) is None


def test_printing_needs_the_file(records, tmp_path):
    with pytest.raises(SystemExit, match="there is no such file to print from"):
        records.Records(tmp_path / "rows.json", measuring=False)


def test_rows_of_other_code_are_owned_up_to(records, tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.json"
    first = records.Records(path)
    first.begin("a machine")
    first.once("one", lambda: 1)
    code = records.code_hash()
    assert len(code) == 8
    assert f"code      {code}\n" in capsys.readouterr().out
    monkeypatch.setattr(records, "code_hash", lambda: "0badc0de")
    records.Records(path).begin("a machine")
    assert f"code      0badc0de, some rows of {code}\n" in capsys.readouterr().out


def test_without_a_file_nothing_is_kept(records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.Records().once("one", lambda: 1) == 1
    assert list(tmp_path.iterdir()) == []
