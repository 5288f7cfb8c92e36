"""The README's tables: wording of the rows, each cell as a function of the figures noted, command that measures them.

A cell is given :class:`readme_tables.Figures` and asks it for values by the names under which the benchmarks note them.
"""

import re
from collections import namedtuple

PEAK_SNR = (10, 20, 50, 200)
TARGET = 1  # of the learned directions: 1e-4 and 1e-6
SMALLEST = 0  # of the circles in which colours are measured
SPHERE = "poisson/sphere, 128^3"
OURS = 'method="multigrid"'
UNEXPECTED = (
    "peak SNR 1.7, a third of the least",
    "peak SNR 1500, three times the most",
    "noise correlated over 2 pixels",
    "PSF 5 % too wide",
    "PSF 5 % too narrow",
    "PSF 10 % too wide",
    "PSF 10 % too narrow",
)

Row = namedtuple("Row", "text cell command")


def span(values, form="{:.2f}"):
    """Least and largest, once where they read alike."""
    low, high = (form.format(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def count(values, bound):
    return f"{sum(value < bound for value in values)} of {len(values)}"


def none(number):
    return "none" if number == 0 else str(number)


def largest(values):
    return f"{max(abs(value) for value in values):.1f} %"


def faster_than(peer):
    return lambda f: f"{f(SPHERE, 'seconds', peer) / f(SPHERE, 'seconds', OURS):.1f} times"


def iterations_on(*problems):
    return lambda f: ", ".join(str(f(f"poisson/suite/{name}, 128^3", "iterations", "multigrid")) for name in problems)


def share_of_triad(f):
    cases = "Neumann box", "open top, sphere", "periodic box", "cell coefficient"
    return span([100 * f(f"operators/{name}, float32", "share") for name in cases], "{:.0f}") + " %"


def over_tuned(f):
    fewer, time, flat = (f("poisson/suite", key) for key in ("iterations", "multigrid", "multigrid_2d"))
    return f"{fewer:.2f} times fewer; {time:.2f} times faster, 2-D alone {flat:.2f}"


def over_peers(f):
    mean, least = (f("poisson/suite, peers", key) for key in ("peer", "peer_worst"))
    return f"{mean:.1f} times; {least:.1f} times"


def problems(f):
    return str(f("poisson/suite", "problems"))


def directions(f):
    cases = [f"dcdm/{name}, {n}^3" for name in ("sphere", "random_spheres") for n in (32, 64)]
    ours, plain = ([f(case, "iterations", who)[TARGET] for case in cases] for who in ("dcdm", "SciPy CG"))
    return f"{span(ours, '{}')} iterations; {span(plain, '{}')}"


def lower_than_tuned(f):
    ours, *peers = (f.settings("deconvolution/peers", key) for key in ("nmse", "tikhonov", "lucy"))
    return f"{count([error - min(others) for error, *others in zip(ours, *peers)], 0)} settings"


def beside_fista(f):
    ratios = f.settings("network/classical", "by_view")
    return f"{span(ratios)} of its error, {count(ratios, 1)} settings"


def beside_fista_medians(f):
    ratios = f.settings("network/classical", "ratio")
    return f"{span(ratios)}, below 1 in {count(ratios, 1)}"


def median_flux(section, **chosen):
    def cell(f):
        faint, others = (f.settings(section, "median", snr=snr, **chosen) for snr in (PEAK_SNR[:1], PEAK_SNR[1:]))
        return f"{largest(faint)}; {largest(others)} at most"

    return cell


def stars(f):
    flux = 100 * max(abs(f(f"deconvolution/stars, {upsample}, 500", "flux")) for upsample in (2, 4))
    cases = [f"deconvolution/stars, {upsample}, {snr}" for upsample in (2, 4) for snr in (50, 500, 5000)]
    cores, noise = (span([f(case, key) for case in cases], "{:.1f}") for key in ("core", "core_of_noise"))
    return f"{flux:.2f} %; {cores} sigma, noise alone {noise}"


def detections(name):
    return lambda f: f"{none(f(name, 'found'))} in {f(name, 'frames')} frames"


def seconds_and_memory(f):
    return f"{f('deconvolution/speed', 'seconds'):.1f} s, {f('deconvolution/speed', 'gigabytes'):.2f} GB"


def both_upsamplings(key):
    return lambda f: "; ".join(span(f.settings("network/quality", key, upsample=(u,))) for u in (2, 4))


def scatter_of_flux(f):
    ratios = f.settings("network/flux", "scatter_ratio")
    return f"{span(ratios)}, above 1.1 in {sum(ratio > 1.1 for ratio in ratios)} of {len(ratios)}"


def star_widths(f):
    return span([widths[-1] for widths in f.settings("network/shapes", "widths", snr=(50, 200))])


def stamp_and_frame(f):
    stamp, frame, memory = (f("network/speed", key) for key in ("seconds_128", "seconds_2048", "gigabytes"))
    return f"{1e3 * stamp:.0f} ms; {frame:.0f} s, {memory:.1f} GB"


def colours_of_clumps(f):
    how = "clumps bluer, peak SNR {}, FWHM 3 and 4.5, network, seed 5"
    found = [
        [f(f"bands/{bands}, {how.format(snr)}", "clumps, rms")[SMALLEST] for snr in (50, 200)]
        for bands in ("matched", "each by itself", "as observed")
    ]
    matched, alone, seen = ("; ".join(f"{value:.2f}" for value in values) for values in found)
    return f"{matched} mag; each band by itself {alone}; as observed {seen}"


def power(value):
    return re.sub(r"e([-+])0*(\d)", r"e\1\2", f"{value:.0e}").replace("e+", "e")


POISSON, OPERATORS, DCDM = "bench_poisson.py --only ", "bench_operators.py", "bench_dcdm.py"
CLASSICAL, NETWORK = "bench_deconvolution.py ", "bench_network.py "

TABLES = {
    "poisson-table": [
        "Poisson, 128³ cells around a sphere unless said otherwise, true residual 1e-6",
        Row(
            "iterations of multigrid; of SciPy's CG",
            lambda f: "; ".join(str(f(SPHERE, "iterations", name)) for name in (OURS, "SciPy CG")),
            POISSON + "sphere",
        ),
        Row(
            "faster than AMGCL's smoothed aggregation with CG, set-up included",
            faster_than("AMGCL SA-CG"),
            POISSON + "sphere",
        ),
        Row(
            "faster than PyAMG's smoothed aggregation with CG, set-up included",
            faster_than("PyAMG SA-CG"),
            POISSON + "sphere",
        ),
        Row(
            "faster than PETSc's CG with hypre's BoomerAMG, a process a core, set-up included",
            faster_than("PETSc hypre-CG"),
            POISSON + "sphere",
        ),
        Row(
            "iterations on 60 spheres, open top, one-cell gaps, a jump of 1e4, a free surface",
            iterations_on("random_spheres", "open_top", "thin_gaps", "coefficient_jump", "free_surface"),
            POISSON + "suite",
        ),
        Row(
            "spread of iterations over 64³, 128³, 256³", lambda f: str(f("poisson/sizes", "spread")), POISSON + "sizes"
        ),
        Row("time per unknown, 256³ over 128³", lambda f: f"{f('poisson/sizes', 'growth'):.2f}", POISSON + "sizes"),
        Row(
            "memory at 256³ beyond inputs and x, single precision",
            lambda f: f"{f('poisson/memory, multigrid', 'bytes_per_cell'):.0f} bytes per cell",
            POISSON + "memory",
        ),
        Row(
            "cost of 1e-12 over cost of 1e-6, white noise",
            lambda f: f"{f('poisson/precision', 'cost'):.2f}",
            POISSON + "precision",
        ),
        Row(
            "box without obstacles, 256³: dearest boundary, over its transforms",
            lambda f: f"{f('poisson/boxes, float32', 'worst'):.2f}",
            POISSON + "boxes",
        ),
        Row("`PoissonOperator.apply`, single precision: share of the triad beside it", share_of_triad, OPERATORS),
        Row(
            "the suite: problems of the gallery, smoke and real shapes, 64³, 128³, 512², 1024²",
            problems,
            POISSON + "suite",
        ),
        Row(
            "learned multigrid over the tuned classical one, suite: iterations; time (1.3 was the aim)",
            over_tuned,
            POISSON + "suite",
        ),
        Row(
            "learned multigrid over the best of PyAMG, AMGCL and PETSc's hypre, suite, set-up included: geometric mean;"
            " least",
            over_peers,
            POISSON + "suite",
        ),
        Row(
            "learned directions (DCDM) to 1e-6, 32³ and 64³ boxes with spheres; plain conjugate gradients",
            directions,
            DCDM,
        ),
    ],
    "classical-table": [
        "deconvolution, classical path, ground views of galaxies seen from space",
        Row(
            "median squared error lower than Tikhonov and Richardson-Lucy, both tuned to the truth",
            lower_than_tuned,
            CLASSICAL + "quality",
        ),
        Row(
            "... than sparse FISTA at its best fixed stop, which takes the truth to find: galaxy by galaxy, in the mean"
            " of a setting",
            beside_fista,
            NETWORK + "classical",
        ),
        Row("the same, ratio of the two medians", beside_fista_medians, NETWORK + "classical"),
        Row(
            "reduced chi² of the residual",
            lambda f: span(f.settings("deconvolution/quality", "reduced_chi2"), "{:.3f}"),
            CLASSICAL + "quality",
        ),
        Row(
            "median flux error at peak SNR 10; at 20 and more: Moffat PSFs",
            median_flux("deconvolution/flux", psf=("moffat",)),
            CLASSICAL + "flux",
        ),
        Row(
            "the same, real PSFs (PSFEx models)",
            median_flux("deconvolution/flux", psf=("psfex",)),
            CLASSICAL + "flux --psf psfex",
        ),
        Row(
            "flux of stars at peak SNR 500, median error; residual in their cores from peak SNR 50 on",
            stars,
            CLASSICAL + "stars",
        ),
        Row("5-sigma detections on pure noise, 512²", detections("deconvolution/noise"), CLASSICAL + "noise"),
        Row(
            "ghost of a source cut by an edge, over its peak",
            lambda f: f"{power(f('deconvolution/edge', 'worst'))} at most",
            CLASSICAL + "edge",
        ),
        Row("1024² to 2048² pixels", seconds_and_memory, CLASSICAL + "speed"),
    ],
    "network-table": [
        "deconvolution, the network's guess corrected, on galaxies that chose nothing",
        Row(
            "squared error over that of the best classical method (sparse FISTA at its best stop included), galaxy by"
            " galaxy, upsample 2; 4 (0.85 was the aim)",
            both_upsamplings("by_view"),
            NETWORK + "quality",
        ),
        Row("the same, ratio of the medians", both_upsamplings("ratio"), NETWORK + "quality"),
        Row(
            "median flux error at peak SNR 10; 20 and more: upsample 2",
            median_flux("network/flux", upsample=(2,)),
            NETWORK + "flux",
        ),
        Row("the same, upsample 4", median_flux("network/flux", upsample=(4,)), NETWORK + "flux"),
        Row(
            "scatter of the flux over that of aperture photometry (1.1 was the aim)", scatter_of_flux, NETWORK + "flux"
        ),
        Row("width of a star, fine pixels (2 is right), peak SNR 50 and 200", star_widths, NETWORK + "shapes"),
        Row(
            "a PSF 5 % and 10 % off, correlated noise, noise three times beyond training: squared error over the"
            " classical path's",
            lambda f: span([f(f"network/robust, {case}", "ratio") for case in UNEXPECTED]),
            NETWORK + "robust",
        ),
        Row("5-sigma detections on pure noise, 128²", detections("network/blank"), NETWORK + "blank"),
        Row(
            "source pixels within one sigma of the truth (68 % is right)",
            lambda f: span([100 * s for s in f.settings("network/calibration", "within_one_sigma")], "{:.0f}") + " %",
            NETWORK + "calibration",
        ),
        Row(
            "colours of clumps 0.55 mag bluer than their disc, bands of seeing 3 and 4.5 pixels matched, circles of 2"
            " fine pixels: error at peak SNR 50; 200",
            colours_of_clumps,
            "bench_bands.py",
        ),
        Row("a stamp of 128² fine pixels, one PSF for all; a frame of 2048²", stamp_and_frame, NETWORK + "speed"),
    ],
}
