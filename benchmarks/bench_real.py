"""Real frames, and the simulated kinds that spoilt them: what one thing that no model explains does to the rest.

    python benchmarks/bench_real.py locality     # a galaxy, and a star that is clipped, bleeding, off its PSF
    python benchmarks/bench_real.py injection    # sources of known truth in quiet places of the real frames
    python benchmarks/bench_real.py frames --sheet sheet.png
    python benchmarks/bench_real.py pair         # a field that a space telescope has seen too
    python benchmarks/bench_real.py edges        # galaxies that the frame cuts, and faint ones
    python benchmarks/bench_real.py all --quick

Every part takes --half select|report (galaxies to choose settings with, or to report), --quick, and --network or
--no-network for one of the two guesses alone. The data are looked for in DECONJUGATE_DATA, else beside the checkout.
"""

import argparse
import tempfile
from importlib.util import find_spec

from bench_deconvolution import DATA
from real_as_is import frames
from real_edges import edges
from real_frames import NAMES
from real_injection import injection
from real_locality import locality
from real_pair import pair
from results import begin

PARTS = {"locality": locality, "injection": injection, "frames": frames, "pair": pair, "edges": edges}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("--quick", action="store_true", help="few cases of each kind")
    parser.add_argument("--half", choices=("select", "report"), default="select")
    guess = parser.add_mutually_exclusive_group()
    guess.add_argument("--network", action="store_true", help="the network alone, not the classical path")
    guess.add_argument("--no-network", action="store_true", help="the classical path alone")
    parser.add_argument("--weights", default="default", help="a .safetensors file")
    parser.add_argument("--sheet", metavar="FILE.png", help="frames: draw a contact sheet")
    parser.add_argument("--frames", nargs="+", choices=NAMES, help="injection, frames: these alone")
    args = parser.parse_args()
    args.frames = args.frames or (["hsc_gal1"] if args.quick else list(NAMES))
    args.networks = {"network": args.weights, "classical": None}
    if args.network or args.no_network:
        del args.networks["classical" if args.network else "network"]
    keep = (args.half, args.weights, len(args.networks)) == ("report", "default", 2)
    args.results = begin(quick=args.quick, keep=keep, packages=("operators", "solver", "astro"))
    if not (DATA / "frames").is_dir():
        print(f"- (no frames at {DATA}; set DECONJUGATE_DATA)")
        return
    if find_spec("skimage") is None:
        print("- (no Richardson-Lucy beside the frames: pip install scikit-image)")
        return
    with tempfile.TemporaryDirectory() as args.folder:
        for part in PARTS if args.part == "all" else [args.part]:
            print(f"\n## {part}, {args.half} half", flush=True)
            PARTS[part](args)


if __name__ == "__main__":
    main()
