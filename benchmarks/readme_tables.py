"""Redraw the README's tables from the newest results, so that no number in them is typed.

    python benchmarks/readme_tables.py [--check] [--machine amd-epyc-2-cores]

Each table stands between ``<!-- name-table -->`` and ``<!-- /name-table -->``; its rows are in ``readme_rows.py``. A
figure that no file in ``results/`` holds is a dash that says so.
"""

import argparse
import re
from pathlib import Path

from readme_rows import PEAK_SNR, TABLES, span
from results import newest

README = Path(__file__).resolve().parents[1] / "README.md"


class Figures:
    """The values of figures by name, and the runs they were asked of."""

    def __init__(self, found):
        self.found, self.runs = found, []

    def __call__(self, name, *keys):
        """One value; KeyError with what is missing."""
        if name not in self.found:
            raise KeyError(name)
        values, run = self.found[name]
        for key in keys:
            if key not in values:
                raise KeyError(f"{name}: {key}")
            values = values[key]
        self.runs.append(run)
        return values

    def settings(self, section, key, *, psf=("moffat", "psfex"), upsample=(2, 4), snr=PEAK_SNR):
        """A value of a section of the deconvolution in every setting named."""
        return [self(f"{section}, {p}, {u}, {s}", key) for p in psf for u in upsample for s in snr]


def draw(table, found):
    """The lines of one table, and of the machine and the days below it."""
    heading, *rows = table
    lines, figures, before = [f"| {heading} | measured | printed by |", "| --- | --- | --- |"], Figures(found), None
    for row in rows:
        try:
            cell = row.cell(figures)
        except KeyError as missing:
            cell = f"- (no result yet: {missing.args[0]})"
        printed = "same" if row.command == before else f"`python benchmarks/{row.command.strip()}`"
        lines.append(f"| {row.text} | {cell} | {printed} |")
        before = row.command
    return [*lines, *machine_of(figures.runs)]


def machine_of(runs):
    if not runs:
        return []
    days, run = sorted(run["date"][:10] for run in runs), runs[-1]
    return ["", f"*{run['machine']}, {run['cores']} cores; measured {span(days, '{}')}.*"]


def redrawn(text, found):
    """The text with every table between its markers drawn anew."""
    for name, table in TABLES.items():
        between = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if len(between.findall(text)) != 1:
            raise SystemExit(f"one pair of <!-- {name} --> and <!-- /{name} --> is needed")
        text = between.sub(lambda match, table=table: "\n".join(draw(table, found)).join(match.groups()), text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the README would change")
    parser.add_argument("--machine", help="as in the names of the results' files; that of the last run by default")
    options = parser.parse_args()
    text = README.read_text()
    new = redrawn(text, newest(options.machine))
    if options.check and new != text:
        raise SystemExit("README.md is not what the results give: python benchmarks/readme_tables.py")
    if new != text:
        README.write_text(new)


if __name__ == "__main__":
    main()
