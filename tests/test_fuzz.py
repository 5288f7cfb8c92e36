"""200 damaged FITS files: each gives an error in words or a result, in bounded time and memory."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz_files.py"


def test_damaged_files_give_an_error_in_words_or_a_result(tmp_path):
    """In a process of its own, whose memory is limited."""
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, str(SCRIPT), "--count", "200", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | one_thread)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith("200 files, 0 failures\n")
    assert " result " in done.stdout
    assert " error " in done.stdout
