"""Many files: the same bytes however they are done, and none lost."""

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deconjugate.astro import many_files
from deconjugate.astro.atomic import remove_parts, write_atomically
from deconjugate.astro.cli import main
from deconjugate.astro.deconvolve_file import file_options
from deconjugate.astro.many_files import Job, run_jobs

NAMES = ("a.fits", "b.fits", "c.fits")
OPTIONS = ["--fwhm-pix", "3.2", "--no-network", "--sky", "flat"]


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Three images of a star, and the folder they are in as the current one."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:33, :37]
    for seed, name in enumerate(NAMES):
        star = 90.0 * (1.0 + ((y - 15) ** 2 + (x - 17 - seed) ** 2) / 9.85) ** -3.0
        data = star + np.random.default_rng(seed).standard_normal(star.shape) + 20.0
        fits.PrimaryHDU(data.astype(np.float32), fits.Header({"OBJECT": name})).writeto(name)
    return tmp_path


def run(*arguments):
    return main(["deconvolve", *map(str, arguments), *OPTIONS])


def outputs(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_one_bad_file_does_not_stop_the_rest_and_resume_does_it_alone(night, capsys):
    Path("b.fits").rename("b.good")
    Path("b.fits").write_text("not an image")
    assert run(*NAMES, "--output-dir", "out") == 1
    out, err = capsys.readouterr()
    assert err.startswith("deconjugate: error: b.fits is not a FITS file")
    assert err.count("\n") == 1
    assert sorted(outputs("out")) == ["a_deconvolved.fits", "c_deconvolved.fits"]
    lines = out.splitlines()
    assert lines[0].startswith("[1/3] out/a_deconvolved.fits: 74 x 66 pixels, reduced chi2 ")
    assert lines[-1] == "2 done, 1 failed"
    assert [line.split()[:2] for line in lines[-4:-1]] == [["a.fits", "done"], ["b.fits", "failed"], ["c.fits", "done"]]
    Path("b.good").rename("b.fits")
    before = outputs("out")
    assert run(*NAMES, "--output-dir", "out", "--resume") == 0
    out = capsys.readouterr().out
    assert "[1/3] out/a_deconvolved.fits: skipped, done before" in out
    assert out.endswith("1 done, 2 skipped\n")
    assert outputs("out").items() > before.items()


def test_resume_does_again_what_was_done_otherwise(night, capsys):
    assert run("a.fits", "b.fits", "--output-dir", "out", "--quiet") == 0
    assert run("a.fits", "--output-dir", "out", "--resume", "--k-sigma", 4) == 1
    assert "a_deconvolved.fits exists; choose another output" in capsys.readouterr().err
    with fits.open("b.fits", mode="update") as hdus:
        hdus[0].data[3, 4] += 1.0
    assert run("a.fits", "b.fits", "--output-dir", "out", "--resume", "--overwrite", "--json") == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["skipped", "done"]
    Path("out/a_deconvolved.fits").write_bytes(Path("out/a_deconvolved.fits").read_bytes()[:9000])
    assert run("a.fits", "--output-dir", "out", "--resume", "--overwrite") == 0
    assert "skipped" not in capsys.readouterr().out


def test_processes_write_the_same_bytes_and_survive_a_kill(night, monkeypatch):
    run(*NAMES, "--output-dir", "serial", "--quiet")
    # The first process that starts is killed as soon as it has a job.
    started = []
    give = many_files._Workers._give

    def treacherous(self, connection, process):
        give(self, connection, process)
        started.append(process.pid)
        if len(started) == 1:
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(many_files._Workers, "_give", treacherous)
    assert run(*NAMES, "--output-dir", "parallel", "--quiet", "--jobs", 2) == 0
    assert outputs("parallel") == outputs("serial")
    assert len(set(started)) == 3


def test_a_file_that_kills_its_process_is_given_up(night, monkeypatch, capsys):
    give = many_files._Workers._give

    def deadly(self, connection, process):
        give(self, connection, process)
        if connection in self.busy and self.busy[connection][1].path == "a.fits":
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(many_files._Workers, "_give", deadly)
    heard = []
    jobs = [Job(name, f"{name}.out", file_options(fwhm_pix=3.2)) for name in ("a.fits", "nothing.fits")]
    run_jobs(jobs, heard.append, processes=2)
    said = {one["input"]: one for one in heard}
    assert said["a.fits"]["status"] == said["nothing.fits"]["status"] == "failed"
    assert "its process was killed 2 times (signal 9)" in said["a.fits"]["error"]
    assert said["nothing.fits"]["error"] == "no such file: nothing.fits"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("bands", [False, True])
def test_resume_removes_what_a_killed_run_had_begun(bands, night):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    Path("out").mkdir()
    left = Path("out", f".part-{process.pid}-abc.a_deconvolved.fits")
    left.write_text("half")
    files = ("a.fits", "b.fits", "--match") if bands else ("a.fits",)
    assert run(*files, "--output-dir", "out", "--resume", "--quiet") == 0
    assert not left.exists()


def test_what_a_killed_process_had_begun_is_removed(tmp_path):
    code = (
        "import os, sys\nfrom deconjugate.astro.atomic import write_atomically\n"
        "write_atomically('out.fits', lambda name: os.kill(os.getpid(), 9))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    assert process.wait() == -9
    (left,) = tmp_path.iterdir()
    remove_parts(tmp_path / "other.fits", process.pid)
    remove_parts(tmp_path / "out.fits", process.pid + 1)
    assert left.exists()
    remove_parts(tmp_path / "out.fits", process.pid)
    remove_parts(tmp_path / "absent" / "out.fits", process.pid)
    assert not left.exists()
    gone, mine, others = (tmp_path / f".part-{pid}-x.out.fits" for pid in (process.pid, os.getpid(), 1))
    for part in (gone, mine, others):
        part.touch()
    remove_parts(tmp_path / "out.fits")
    assert [part.exists() for part in (gone, mine, others)] == [False, True, True]
    mine.unlink()
    others.unlink()
    write_atomically(tmp_path / "out.fits", lambda name: Path(name).write_text("whole"))
    assert (tmp_path / "out.fits").read_text() == "whole"


def test_names_from_standard_input(night, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("a.fits\n\n b.fits \n"))
    assert run("-", "c.fits", "--dry-run", "--json") == 0
    heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["input"] for one in heard] == ["a.fits", "b.fits", "c.fits"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit):
        run("-")
    assert "no image is named on standard input" in capsys.readouterr().err


def test_json_is_what_was_done(night, capsys):
    assert run("a.fits", "nothing.fits", "--json", "--quiet") == 1
    out, err = capsys.readouterr()
    done, failed = (json.loads(line) for line in out.splitlines())
    assert done["status"] == "done"
    assert done["output"] == "a_deconvolved.fits"
    (image,) = done["images"]
    header = fits.getheader("a_deconvolved.fits", "SCI")
    assert image["size"] == [74, 66]
    assert image["reduced_chi2"] == pytest.approx(header["REDCHI2"], abs=1e-6)
    assert image["flux_ratio"] == pytest.approx(header["FLUXRAT"], abs=1e-6)
    assert done["warnings"] == []
    assert failed == {
        "input": "nothing.fits",
        "output": "nothing_deconvolved.fits",
        "status": "failed",
        "error": "no such file: nothing.fits",
        "warnings": [],
    }
    assert err == "deconjugate: error: no such file: nothing.fits\n"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(night, capsys):
    before = sorted(os.listdir())
    assert run("a.fits", "nothing.fits", "--dry-run", "--output-dir", "out") == 1
    out, err = capsys.readouterr()
    assert "error: no such file" in err
    assert "a_deconvolved.fits: 74 x 66 pixels, PSF Moffat, FWHM 3.200 pixels, beta 3 (FWHM 3.20 pixels)" in out
    assert "noise measured: would take " in out
    assert out.endswith("1 planned, 1 failed\n")
    assert sorted(os.listdir()) == before


def test_pages_go_into_a_folder(night, capsys):
    Path("pages").mkdir()
    assert run("a.fits", "b.fits", "--qa", "pages", "--quiet") == 0
    assert sorted(os.listdir("pages")) == ["a_qa.png", "b_qa.png"]
    with pytest.raises(SystemExit):
        run("a.fits", "b.fits", "--qa", "page.png")
    assert "of several images the pages need a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.fits", "b.fits", "-o", "out.fits"], "--output is for one image, and there are 2"),
        (["a.fits", "-o", "out.fits", "--output-dir", "out"], "give --output or --output-dir, not both"),
        (["a.fits", "a.fits"], "a.fits is named twice; both would be written to a_deconvolved.fits"),
        (["a.fits", "--output-dir", "b.fits"], "--output-dir b.fits is a file; give a folder"),
        (
            ["x/a.fits", "y/a.fits.gz"],
            "x/a.fits and y/a.fits.gz are of one name: do them apart; both would be written to a_deconvolved.fits",
        ),
        (["a.fits", "--jobs", "0"], "'0' is not a whole number, 1 or more"),
    ],
)
def test_wrong_usage(night, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_interrupt_keeps_what_is_done(night, monkeypatch, capsys):
    process = many_files.attempt

    def interrupted(job, **options):
        if job.path == "b.fits":
            raise KeyboardInterrupt
        return process(job, **options)

    monkeypatch.setattr(many_files, "attempt", interrupted)
    assert run(*NAMES) == 130
    out, err = capsys.readouterr()
    assert "1 done" in out
    assert err == "deconjugate: interrupted; what is done stays, and --resume goes on with the rest\n"
    assert "a_deconvolved.fits" in os.listdir()
