"""The Poisson solver beside its peers: every figure of the README's solver table, in one run.

    python benchmarks/bench_poisson.py [--quick] [--only SECTION ...] [--skip-peers] [--json FILE [--print]]

Every answer is checked first: ||b - A x|| / ||b|| in float64, A assembled by ``to_sparse`` (by slices of the cell array
where the matrix would not fit, after those were held against it). Runs that are compared are interleaved and the median
is reported. Ours are timed from the array of cells to x, operator and set-up included; peers from an assembled matrix,
each in a process of its own whose start is not counted, with a limit on its time. Compilation is reported apart.
What is compared with peers (sphere, problems, shapes, suite) can be kept in a file, problem by problem: the same
command goes on where it was cut.
"""

import argparse
from functools import partial

from ablations import bench_ablations, bench_grid
from batches import bench_batches
from boxes import bench_boxes
from comparison import bench_problems, bench_shapes, bench_sphere
from costs import bench_compilation, bench_precision, bench_right_hand_sides, bench_sizes
from machine import describe
from memory import bench_memory
from records import Records
from results import Results, begin
from smoke import bench_smoke
from suite import bench_suite

from deconjugate.solver import solve
from deconjugate.solver.gallery import problems, right_hand_sides

sections = {
    "compilation": bench_compilation,
    "sphere": bench_sphere,
    "sizes": bench_sizes,
    "memory": bench_memory,
    "precision": bench_precision,
    "right_hand_sides": bench_right_hand_sides,
    "problems": bench_problems,
    "boxes": bench_boxes,
    "shapes": bench_shapes,
    "smoke": bench_smoke,
    "batches": bench_batches,
    "grid": bench_grid,
    "suite": bench_suite,
    "suite_large": partial(bench_suite, large=True),
    "ablations": bench_ablations,
}
# Those whose rows are kept in a file.
KEPT = ("sphere", "problems", "shapes", "suite", "suite_large")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small grids, few peers, two minutes")
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections), metavar="SECTION")
    parser.add_argument("--skip-peers", action="store_true", help="time this package alone")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds after which a peer is not run again")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds a peer's run may take, or 200 times ours")
    parser.add_argument("--json", metavar="FILE", help="keep rows there; what it holds is not measured again")
    parser.add_argument("--print", action="store_true", help="print the tables of what FILE holds, and measure nothing")
    options = parser.parse_args()
    if options.print and not options.json:
        parser.error("--print needs --json FILE")
    options.records = Records(options.json, measuring=not options.print)
    if options.print:
        options.results = Results(None, {})
        options.records.describe()
        options.only = [name for name in options.only if name in KEPT]
    else:
        options.results = begin(quick=options.quick)
        options.records.begin(describe(options.results.run))
        options.results.run["code"] = options.records.code
        warm = problems["sphere"]((24,) * 3)
        for method in ("multigrid", "learned", "dct"):
            solve(warm, right_hand_sides["divergence"](warm, 1), method=method)
    for name in options.only:
        print(f"\n### {name.replace('_', ' ')}")
        sections[name](options)


if __name__ == "__main__":
    main()
