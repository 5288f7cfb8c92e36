"""The contact sheet of docs/real-frames.md: ten sources of real frames, Richardson-Lucy, ours, what is unexplained.

python docs/real_frames_picture.py [FOLDER]          # docs/images; some minutes, and the shared data
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from real_frames import deconvolved, real_frames
from real_sheet import SOURCES, sheet

SHOWN = [source for source in SOURCES if source[0] != "m13"]  # twelve but for the two of the crowd of stars


def draw(folder):
    names = list(dict.fromkeys(name for name, *_ in SHOWN))
    with tempfile.TemporaryDirectory() as scratch:
        frames = real_frames(scratch, names)
        outcomes = {frame.name: {"network": deconvolved(frame, scratch)} for frame in frames}
    sheet(folder / "real_frames.png", outcomes, SHOWN)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parent / "images")
