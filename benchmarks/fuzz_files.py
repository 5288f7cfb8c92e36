"""Damaged and odd FITS files: each gives a clear error or a result, in bounded time and memory.

    python benchmarks/fuzz_files.py --count 2000

Small files of many kinds (simple, several extensions, cubes, scaled integers, compressed) are damaged at random: bytes
changed, cut short, cards changed to other, huge, negative or senseless values, letters beyond ASCII, NaN everywhere,
coordinates that are infinite. Each is deconvolved as the command would do it, in a process whose memory is limited to
2 GB more than it has at the start, with a limit on the time of each file.
"""

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.io import fits

from deconjugate.astro.cli import main as command

SHAPE = (21, 23)
MEMORY, SECONDS = 2e9, 30  # the seconds of the processor, not of the clock: other work does not count
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 11.0, "CRPIX2": 9.0, "CRVAL1": 30.0, "CRVAL2": -4.0}
SKY |= {"CD1_1": -1e-4, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 1e-4, "BUNIT": "adu", "GAIN": 2.0, "EXPTIME": 30.0}
SIP = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_1_1": 1e-5}
WORDS = (
    'wtype=tnx axtype=ra lngcor = "3. 3. 3. 2. -0.3172 0.3172 -0.1586 0.1586 -0.001 2.0E-4 0.0012 -3.1E-4 4.5E-5 1E-5 "'
)
TNX = {"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX", "WAT0_001": "system=image"}
TNX |= {f"WAT1_{i // 68 + 1:03d}": WORDS[i : i + 68] for i in range(0, len(WORDS), 68)}
TNX |= {key.replace("WAT1", "WAT2"): text for key, text in TNX.items() if key.startswith("WAT1")}
VALUES = [
    "0",
    "-1",
    "1",
    "2",
    "3",
    "999",
    "99999",
    "2147483647",
    "1000000000000",
    "-64",
    "16",
    "T",
    "F",
    "1E400",
    "NaN",
]
VALUES += [
    "-1E-300",
    "1E300",
    "0.0",
    "'SCI'",
    "'RA---XYZ'",
    "'\\xe9\\xff'",
    "''",
    "'unclosed",
    "(1,2)",
    "",
    "1.5",
    "'inf'",
]
OPTIONS = [[], ["--noise", "ERR"], ["--mask", "DQ", "--bad-bits", "5"], ["--all-ext"], ["--ext", "SCI,1"]]
OPTIONS += [["--keep-hdus", "--support"], ["--sky", "flat"], ["--noise", "1", "--noise-type", "weight"]]


def image(rng, shape=SHAPE):
    y, x = np.indices(shape[-2:])
    star = 80.0 * (1.0 + ((y - 10) ** 2 + (x - 11) ** 2) / 9.85) ** -3.0
    return (star + 20.0 + rng.standard_normal(shape)).astype(np.float32)


def originals():
    """Files by kind, as bytes."""
    rng = np.random.default_rng(0)
    data, sky = image(rng), fits.Header(SKY)
    scaled = fits.PrimaryHDU(np.round(10 * data).astype(np.int32), sky)
    scaled.scale("int16", bscale=0.1, bzero=3.0)
    scaled.header["BLANK"] = -32768
    several = [fits.PrimaryHDU(), fits.ImageHDU(data, sky, name="SCI")]
    several += [fits.ImageHDU(np.ones(SHAPE, np.float32), name="ERR"), fits.ImageHDU(np.zeros(SHAPE, "i2"), name="DQ")]
    several += [fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.arange(3.0))], name="CATALOG")]
    packed = fits.CompImageHDU(np.round(data).astype(np.int16), sky, name="SCI", compression_type="RICE_1")
    kinds = {
        "simple": [fits.PrimaryHDU(data, sky)],
        "sip": [fits.PrimaryHDU(data, fits.Header(SKY | SIP))],
        "tnx": [fits.PrimaryHDU(data, fits.Header(SKY | TNX))],
        "scaled": [scaled],
        "several": several,
        "cube": [fits.PrimaryHDU(image(rng, (2, *SHAPE)), sky)],
        "packed": [fits.PrimaryHDU(), packed],
        "double": [fits.PrimaryHDU(data.astype(np.float64))],
    }
    files = {}
    for kind, hdus in kinds.items():
        stream = io.BytesIO()
        fits.HDUList(hdus).writeto(stream)
        files[kind] = stream.getvalue()
    return files


def mutated(content, rng):
    """A damaged copy of a file, and what was done to it."""
    content = bytearray(content)
    how = rng.choice(["card", "card", "card", "cut", "bytes", "header bytes", "pixels", "infinite", "delete", "insert"])
    cards = [i for i in range(0, len(content) - 79, 80) if content[i + 8 : i + 10] == b"= "]
    where = int(rng.choice(cards))
    if how == "card":
        for _ in range(rng.integers(1, 4)):
            where = int(rng.choice(cards))
            value = str(rng.choice(VALUES)).encode().decode("unicode_escape").encode("latin-1")
            content[where + 10 : where + 80] = value.rjust(20)[:70].ljust(70)
    elif how == "cut":
        del content[int(rng.integers(0, len(content))) :]
    elif how in ("bytes", "header bytes"):
        end = len(content) if how == "bytes" else min(5760, len(content))
        for i in rng.integers(0, end, int(rng.integers(1, 20))):
            content[i] = int(rng.integers(256))
    elif how == "pixels":
        start = int(rng.integers(2880, len(content)))
        value = rng.choice([b"\\xff", b"\\x00", b"\\x7f"]).decode("unicode_escape").encode("latin-1")
        content[start:] = value * (len(content) - start)
    elif how == "infinite":
        for i in cards:
            if content[i : i + 5] in (b"CRPIX", b"CRVAL", b"CD1_1", b"CD2_2", b"CDELT") and rng.random() < 0.6:
                value = rng.choice([b"1E308", b"-1E308", b"0.0", b"1E-320", b"1E999", b"NaN"])
                content[i + 10 : i + 80] = value.rjust(20).ljust(70)
    elif how == "delete":
        del content[where : where + 80]
    else:
        content[where:where] = b"NAXIS3  =                  999".ljust(80)
    return bytes(content), str(how)


def run(path, output, options):
    """The exit status of the command and what it wrote to standard error."""
    errors, stderr = io.StringIO(), sys.stderr
    sys.stderr = errors
    try:
        width = ["--fwhm-pix", "3.2", "--no-network", "--quiet", "--overwrite"]
        return command(["deconvolve", path, "-o", output, *width, *options]), errors.getvalue()
    finally:
        sys.stderr = stderr


def fuzz(count, seed):
    """Try ``count`` files; outcomes by kind of damage, and the failures."""
    rng = np.random.default_rng(seed)
    files = originals()
    outcomes, failures = Counter(), []
    signal.signal(signal.SIGVTALRM, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "out.fits")
        for kind, content in files.items():  # what is whole is done
            path = os.path.join(folder, f"{kind}.fits")
            Path(path).write_bytes(content)
            status, said = run(path, output, [])
            if status:
                failures.append((kind, "nothing", said))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (int(used + MEMORY), resource.RLIM_INFINITY))
        for number in range(count):
            kind = str(rng.choice(list(files)))
            content, how = mutated(files[kind], rng)
            options = OPTIONS[int(rng.integers(len(OPTIONS)))]
            path = os.path.join(folder, f"{number}.fits")
            Path(path).write_bytes(content)
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            try:
                status, said = run(path, output, options)
                lines = [line for line in said.splitlines() if line.startswith("deconjugate: error: ")]
                unclear = status and (len(lines) != 1 or len(lines[0]) < 30 or "Traceback" in said)
                strange = any(not line.startswith("deconjugate: ") for line in said.splitlines())
                outcome = "result" if status == 0 else "error"
                if unclear or strange or "Unable to allocate" in said or "rray_alloc" in said:
                    failures.append((kind, how, f"{options} {said}"))
            except (Exception, SystemExit):
                outcome = "crash"
                status = None
                failures.append((kind, how, f"{options} {traceback.format_exc()}"))
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if status == 130:
                raise KeyboardInterrupt
            outcomes[how, outcome] += 1
            os.unlink(path)
            if number % 100 == 99:
                print(f"{number + 1} files, {len(failures)} failures", file=sys.stderr, flush=True)
    return outcomes, failures


def _too_long(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes, failures = fuzz(args.count, args.seed)
    for (how, outcome), count in sorted(outcomes.items()):
        print(f"{how:14} {outcome:8} {count}")
    for kind, how, said in failures:
        print(f"FAILED {kind}, {how}: {said}")
    print(f"{args.count} files, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
