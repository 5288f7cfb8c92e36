"""A large frame by the console command: time, memory, what it leaves of the data, and the seams between its tiles.

    python benchmarks/bench_frames.py [--quick] [--size 1024 2048 8192] [--filled 0.25] [--no-network] [--threads 2]
    python benchmarks/bench_frames.py --only measures --output-size 4096
    python benchmarks/bench_frames.py --only killed

The frame is a synthetic sky: a source for every 64 x 64 pixels, every second one a star, the others galaxies (those of
the validation set where DECONJUGATE_DATA, or shared/data beside the checkout, has them, else drawn from formulas), each
blurred with the PSF of its place. The PSF is a PSFEx model of a real exposure (else an invented one), its polynomial
stretched over the frame where that is larger than a chip. The sky is 50, the noise 2, and peaks go from 5 to 500 sigma.
``--filled 0.25`` leaves the sky empty but for the middle quarter of rows and columns: memory is that of a full frame,
for less time.

Cost: the command in a process of its own; largest resident memory as the kernel has it (VmHWM), mapped files included,
and how much of it a pixel takes above that of a frame of one tile.

Seams: the same frame in two tilings, whose borders lie elsewhere. What both images make of the data is
input - RESIDUAL sigma, so that their difference in sigmas is that of the RESIDUALs. A *step* is what it changes by from
one line of pixels to the next, averaged along 256 pixels of the line (and along 64). The largest step is taken over the
lines where tiles of the one are blended, and over those where tiles of neither are: what has to do with borders is seen
in the first alone. With a PSF that varies the tiles of both also take it at other places, which bright sources show
anywhere; so the same is done with the PSF of the frame's corner for all sources, against the frame in one piece.

Measures: the largest memory of what reads a deconvolved frame (clumps, photometry) or the data (psf), above that for a
frame of 512 x 512, in images of single precision and the size of the output. The frame stands in for an output: the
same sky, each pixel cut into 2 x 2.

Killed: three frames by two processes, all of them killed with signal 9 once the first output is there; --resume does
the rest. The files are compared, byte for byte, with those of one process that was left alone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.signal
from astropy.io import fits
from bench_deconvolution import DATA, galaxies
from results import begin
from tables import row, table, verdict

from deconjugate.astro import PSF
from deconjugate.astro.forward import RINGING
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.tiling import tiling

SKY, NOISE = 50.0, 2.0
PEAKS = 5.0, 500.0  # sigmas of the brightest pixel
MODEL = DATA / "psfex" / "val" / "decam-520206-S16-psfex.fits"
CELL = 64  # pixels a side for each source
ALONG = 256, 64  # pixels over which a step is averaged
ONE_TILE = 512
CHIP = 4096  # pixels over which the PSF varies as it does over one of the camera's
LIMIT_GB, LIMIT_SEAM = 6.0, 0.1
LEAST = 512  # pixels a side of the output that memory is counted above
DONE = "[!.]*.fits"  # what is being written begins with a dot
EXPECTED = {"reduced_chi2": (0.9, 1.1), "flux_ratio": (0.98, 1.02)}

RUN = """
import sys
from deconjugate.astro.cli import main
status = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""


def write_psf(path, side, varying=True):
    """A PSFEx model whose polynomial spans a frame of ``side`` pixels, or is constant."""
    if MODEL.exists():
        with fits.open(MODEL) as hdus:
            mask, header = hdus[1].data["PSF_MASK"], hdus[1].header
    else:
        y, x = np.mgrid[-24:25, -24:25]
        shapes = [(1 + (x**2 * a + y**2 * b) / 5.3) ** -3.0 for a, b in ((1.0, 1.0), (1.1, 0.9), (0.95, 1.05))]
        round_, wide, tall = (shape / shape.sum() for shape in shapes)
        mask = np.stack([round_, wide - round_, tall - round_])[None]
        header = {"POLDEG1": 1, "PSF_SAMP": 1.0}
    mask = mask if varying else mask[:, :1]
    shape = ",".join(str(n) for n in mask.shape[:0:-1])
    column = fits.Column("PSF_MASK", f"{mask[0].size}E", dim=f"({shape})", array=mask)
    hdu = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    hdu.header.update(PSF_SAMP=header["PSF_SAMP"], POLNAXIS=2 if varying else 0)
    if varying:
        hdu.header.update(POLDEG1=header["POLDEG1"], POLNAME1="X_IMAGE", POLNAME2="Y_IMAGE")
        for axis in (1, 2):
            hdu.header[f"POLZERO{axis}"], hdu.header[f"POLSCAL{axis}"] = 0.5 * side + 0.5, float(max(side, CHIP))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def write_frame(path, side, psf, filled=1.0, seed=4):
    """The synthetic sky; every source is seen through the PSF of its own place."""
    rng = np.random.default_rng(seed)
    if (DATA / "galaxies").is_dir():
        stamps = [image for _, image in galaxies(1)]
    else:
        stamps = [parametric_galaxy(rng) for _ in range(64)]
    frame = rng.standard_normal((side, side), dtype=np.float32)
    frame *= NOISE
    frame += SKY
    part = int(filled * side)
    for k in range((part // CELL) ** 2):
        row_, column = rng.integers(side - part, side + part, 2)
        sharp = np.ones((1, 1)) if k % 2 else stamps[rng.integers(len(stamps))]
        p = psf.fine(2, position=(column / 2, row_ / 2))
        blurred = scipy.signal.oaconvolve(sharp, p)
        # Its corner, on whole native pixels.
        top, left = (int(c) - n // 2 for c, n in zip((row_, column), blurred.shape))
        blurred = np.pad(blurred, [(top % 2, 1), (left % 2, 1)])
        blurred = blurred[: blurred.shape[0] // 2 * 2, : blurred.shape[1] // 2 * 2]
        native = blurred.reshape(blurred.shape[0] // 2, 2, -1, 2).sum(axis=(1, 3))
        peak = NOISE * np.exp(rng.uniform(*np.log(PEAKS)))
        _add(frame, (native * (peak / native.max())).astype(np.float32), top // 2, left // 2)
    fits.PrimaryHDU(frame).writeto(path)


def _add(frame, stamp, top, left):
    """Add a stamp; what lies outside the frame is lost."""
    places = [slice(max(c, 0), min(c + n, m)) for c, n, m in zip((top, left), stamp.shape, frame.shape)]
    inside = tuple(slice(s.start - c, s.stop - c) for s, c in zip(places, (top, left)))
    frame[tuple(places)] += stamp[inside]


def make(folder, side, *, filled=1.0, varying=True):
    """Write a frame and its PSF; their name."""
    name = f"{side}_{filled:g}_{'varying' if varying else 'constant'}"
    if not (folder / f"{name}.fits").exists():
        start = time.perf_counter()
        write_psf(folder / f"{name}.psf", side, varying)
        write_frame(folder / f"{name}.fits", side, PSF.from_file(folder / f"{name}.psf"), filled)
        print(f"{name}.fits drawn in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return name


def deconvolved(folder, name, output, options, threads):
    """What the command says of a frame, with "peak_gb"."""
    files = [folder / f"{name}.fits", "--psf", folder / f"{name}.psf", "-o", folder / output]
    line, peak = commanded("deconvolve", *files, "--json", "--overwrite", *options, threads=threads)
    return json.loads(line) | {"peak_gb": float(peak) / 1e6}


def commanded(*words, threads):
    """Lines that the console command prints, and its largest resident memory in kB; its progress bar is to be seen."""
    command = [sys.executable, "-c", RUN, *(str(word) for word in words)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), NUMBA_NUM_THREADS=str(threads))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the command ended with {done.returncode}: {done.stdout}")
    return done.stdout.splitlines()


def bench_cost(folder, sides, filled, options, threads, base, note):
    print("\nWhat a frame costs, upsample 2")
    headings = "GB at most", "bytes per pixel above", "bytes of output", "chi2", "flux ratio", "below 6 GB"
    table("frame", "seconds", *headings)
    one = None
    for side in (base, *sides):
        share = filled if side in sides else 1.0
        name = make(folder, side, filled=share)
        done = deconvolved(folder, name, "out.fits", options, threads)
        (image,), peak = done["images"], done["peak_gb"]
        for key, (low, high) in EXPECTED.items():
            if not low < image[key] < high:
                raise SystemExit(f"{key} is {image[key]}: {done}")
        one = one or peak
        note(f"{side}^2, {share:g} filled", seconds=done["seconds"], gigabytes=peak, **{k: image[k] for k in EXPECTED})
        row(
            f"{side} x {side}",
            f"{done['seconds']:.0f}",
            f"{peak:.2f}",
            f"{1e9 * (peak - one) / side**2:.0f}",
            f"{os.path.getsize(folder / 'out.fits') / side**2:.0f}",
            f"{image['reduced_chi2']:.4f}",
            f"{image['flux_ratio']:.5f}",
            verdict(peak < LIMIT_GB),
        )


def bench_seams(folder, cases, options, threads, note):
    print("\nSteps of the difference between two tilings, sigmas: the largest where tiles are blended, and elsewhere")
    headings = (f"{where}, mean of {n} pixels" for n in ALONG for where in ("borders", "elsewhere"))
    table("frame", "tiles", *headings, "rms of the difference", "seam below 0.1")
    for side, varying, sizes in cases:
        name = make(folder, side, varying=varying)
        residuals, zones = [], []
        for size in sizes:
            deconvolved(folder, name, "tiles.fits", [*options, *(["--tile", size] if size else [])], threads)
            residuals.append(fits.getdata(folder / "tiles.fits", "RESIDUAL").astype(np.float32))
            zones.append(blended(side, size or side, PSF.from_file(folder / f"{name}.psf")))
        difference = residuals[1] - residuals[0]
        largest = [_largest_step(difference, lines, n) for n in ALONG for lines in (zones[0], ~(zones[0] | zones[1]))]
        row(
            f"{side} x {side}, PSF {'varying' if varying else 'constant'}",
            f"{sizes[0]} and {sizes[1] or 'one piece'}",
            *(f"{step:.3f}" for step in largest),
            f"{difference.std():.3f}",
            verdict(largest[0] < LIMIT_SEAM),
        )
        note(
            f"seams, {side}^2, PSF {'varying' if varying else 'constant'}",
            borders=largest[0::2],
            elsewhere=largest[1::2],
        )


def blended(side, size, psf):
    """Which lines lie where two tiles are blended."""
    reach = -(-psf.fine(2, max_size=2 * side).shape[0] // 4) + RINGING // 2
    tiles = tiling((side, side), size, 2 * reach + 16)  # as deconvolve() does it
    lines, quarter = np.zeros(side, bool), tiles.overlap // 4
    for start, after in zip(tiles.starts[0], tiles.starts[0][1:]):
        lines[after + quarter : start + size - quarter] = True
    return lines


def _largest_step(difference, lines, along):
    """The largest step between two of some lines, on either axis."""
    pairs, largest = lines[1:] & lines[:-1], 0.0
    for image in (difference, difference.T):
        steps = np.diff(image, axis=0)[pairs][:, : len(lines) // along * along]
        largest = max(largest, np.abs(steps.reshape(len(steps), -1, along).mean(axis=2)).max())
    return largest


def bench_measures(folder, side, threads, note):
    print("\nLargest memory of what measures a frame, above that for an output of 512 x 512")
    table("command", "output", "seconds", "GB", "images of single precision above", "what it found")
    for measure in ("clumps", "photometry", "psf"):
        least = None
        for n in (LEAST, side):
            name, sharp, start = make(folder, n // 2), folder / f"{n}_cut.fits", time.perf_counter()
            if not sharp.exists():
                _cut_finer(folder / f"{name}.fits", sharp)
            given = {
                "clumps": [sharp],
                "photometry": [folder / f"{name}.fits", sharp],
                "psf": [folder / f"{name}.fits"],
            }
            output = folder / ("psf.fits" if measure == "psf" else "table.ecsv")
            said, peak = commanded(measure, *given[measure], "-o", output, "--overwrite", threads=threads)
            seconds, peak = time.perf_counter() - start, float(peak) / 1e6
            least = peak if least is None else least
        images = 1e9 * (peak - least) / (4 * side**2)
        row(measure, f"{side} x {side}", f"{seconds:.0f}", f"{peak:.2f}", f"{images:.1f}", said.split(": ", 1)[1])
        note(f"{measure}, {side}^2", seconds=seconds, gigabytes=peak, images=images)


def _cut_finer(path, output):
    """What stands in for the deconvolution of a frame."""
    cards = {"UPSAMPLE": 2, "CONSERVE": "counts", "TGTFWHM": 2.0, "INFWHM": 4.0, "INNOISE": NOISE}
    fine = np.repeat(np.repeat(fits.getdata(path), 2, 0), 2, 1) / np.float32(4)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(fine, fits.Header(cards), name="SCI")]).writeto(output)


def bench_killed(folder, threads, note):
    sides, frames, outputs = (192, 200, 208), [], {}
    psf = make(folder, sides[0], varying=False)
    for side in sides:
        frames.append(folder / f"{make(folder, side, varying=False)}.fits")
    words = ["deconvolve", *frames, "--psf", folder / f"{psf}.psf", "--no-network", "--quiet", "--output-dir"]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), NUMBA_NUM_THREADS=str(threads))
    command = [sys.executable, "-c", RUN, *(str(word) for word in words)]
    commanded(*words, folder / "alone", threads=threads)
    killed = folder / "killed"
    process = subprocess.Popen(
        [*command, str(killed), "--jobs", "2"], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    while process.poll() is None and not list(killed.glob(DONE)):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in killed.glob(DONE)}
    commanded(*words, killed, "--jobs", "2", "--resume", threads=threads)
    for name in ("alone", "killed"):
        outputs[name] = {path.name: path.read_bytes() for path in (folder / name).iterdir()}
    stayed = sum(kept[name] == (killed / name).stat().st_mtime_ns for name in kept)
    same = outputs["alone"] == outputs["killed"]
    table("frames", "done when killed", "of these left as they were", "the same files, byte for byte")
    row(len(sides), len(kept), stayed, verdict(same))
    note("killed", frames=len(sides), done=len(kept), kept=stayed, same=same)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small frames, on the classical path; not killed")
    sections = ("cost", "seams", "measures", "killed")
    parser.add_argument("--only", choices=sections, nargs="*")
    parser.add_argument("--size", type=int, nargs="*", default=(1024, 2048, 8192), help="of the frames in cost")
    parser.add_argument("--seam", type=int, nargs=2, default=(2048, 1024), help="of the two frames in seams")
    parser.add_argument("--output-size", type=int, default=4096, help="of the frame in measures")
    parser.add_argument("--filled", type=float, default=1.0, help="share of rows and columns that hold sources")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-network", action="store_true")
    args = parser.parse_args()
    cases = list(zip(args.seam, (True, False), ((576, 704), (480, None))))
    base = ONE_TILE
    if args.quick:
        base, args.size, args.filled, cases = 192, (448,), 0.5, [(544, False, (480, None))]
        args.no_network, args.output_size = True, 768
    args.only = args.only or sections[: 3 if args.quick else 4]
    results = begin(quick=args.quick, packages=("operators", "solver", "astro"))
    more = ["--no-network"] if args.no_network else []

    def note(name, **values):
        results.note(f"frames/{name}, {'classical' if args.no_network else 'network'}", **values)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "cost" in args.only:
            bench_cost(folder, args.size, args.filled, more, args.threads, base, note)
        if "seams" in args.only:
            bench_seams(folder, cases, more, args.threads, note)
        if "measures" in args.only:
            bench_measures(folder, args.output_size, args.threads, note)
        if "killed" in args.only:
            bench_killed(folder, args.threads, note)
