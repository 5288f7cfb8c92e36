"""What changed between two files of results: ratios, the worst first.

    python benchmarks/compare.py A.json B.json [--threshold 1.1] [--fail]

"worse by" is B : A where less is better (seconds, iterations, errors) and A : B where more is (shares, gains, recall).
Figures that only one of the files holds are counted. Times of two machines, or of a busy one, say little.
"""

import argparse
import re
from pathlib import Path

from results import read
from tables import row, table

# What a figure was measured on, not how well it did.
CONTEXT = re.compile(r": (n|cells|sizes|targets|problems|views|galaxies|frames|cases|pixels|discs|stars|triad)(, |$)")
MORE_IS_BETTER = re.compile(
    r"^poisson/suite(, large)?(, peers)?: |: (faster|share|bandwidth|gain|recall|precision|within_one_sigma)$"
)


def opened(path):
    """A file of results: its content, and whose it is in a line.

    Raises
    ------
    ValueError
        There is no such file, or it is no file of results.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        content = read(path)
        runs = [content["runs"][figure["run"]] for figure in content["figures"].values() if figure["values"].items()]
        machines = sorted({f"{run['machine']}, {run['cores']} cores" for run in runs})
        codes = sorted({run["code"] or "unknown" for run in runs})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"runs": ..., "figures": ...}, as the benchmarks write to results/'
        raise ValueError(f"{path}: no file of results, which is {form}") from error
    return content, f"{path.name}: {'; '.join(machines)}; code {', '.join(codes)}"


def numbers(values, path):
    """``(name, number)`` of every number within plain data."""
    if isinstance(values, dict):
        for key, inner in values.items():
            yield from numbers(inner, f"{path}, {key}")
    elif isinstance(values, list):
        for i, inner in enumerate(values):
            yield from numbers(inner, f"{path}, {i}")
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield path, values


def flat(content):
    """``{"figure: key, ...": number}`` of a file of results, without what the figures were measured on."""
    found = {}
    for name, figure in content["figures"].items():
        for key, values in figure["values"].items():
            found |= numbers(values, f"{name}: {key}")
    return {name: number for name, number in found.items() if not CONTEXT.search(name)}


def worse_by(name, before, after):
    """By what factor a figure became worse; below 1 where it became better. Of errors with a sign the size counts."""
    before, after = abs(before), abs(after)
    if before == after:
        return 1.0
    if MORE_IS_BETTER.search(name):
        before, after = after, before
    return after / before if before else float("inf")


def compared(before, after):
    """``(factor, name, before, after)`` of what both hold, the worst first."""
    both = [name for name in before if name in after]
    found = [(worse_by(name, before[name], after[name]), name, before[name], after[name]) for name in both]
    return sorted(found, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    parser.add_argument("--threshold", type=float, default=1.1, help="show what changed by more than this factor")
    parser.add_argument("--fail", action="store_true", help="exit with 1 where a figure became worse by more")
    options = parser.parse_args()
    try:
        (before, one), (after, other) = opened(options.before), opened(options.after)
    except ValueError as error:
        parser.error(str(error))
    print(one, other, sep="\n")
    first, second = flat(before), flat(after)
    found = compared(first, second)
    shown = [entry for entry in found if not 1 / options.threshold <= entry[0] <= options.threshold]
    table("figure", "A", "B", "worse by")
    for factor, name, old, new in shown:
        row(name, f"{old:g}", f"{new:g}", f"{factor:.2f}")
    worse = sum(entry[0] > options.threshold for entry in shown)
    alone = f"{len(first) - len(found)} in A alone, {len(second) - len(found)} in B alone"
    print(f"\n{len(found)} figures in both, of which by more than {options.threshold:g}: {worse} worse and "
          f"{len(shown) - worse} better; {alone}")  # fmt: skip
    if options.fail and worse:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
