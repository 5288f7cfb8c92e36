"""The Swin-UNet beside the classical path and its peers, on the half of the validation galaxies kept for reports.

    python benchmarks/bench_network.py quality [--upsample 2 4] [--psf moffat psfex] [--step 3]
    python benchmarks/bench_network.py classical [--step 2]
    python benchmarks/bench_network.py starred [--step 10] [--peak-snr 50 200]
    python benchmarks/bench_network.py flux [--seeds 2]
    python benchmarks/bench_network.py shapes
    python benchmarks/bench_network.py robust
    python benchmarks/bench_network.py blank [--frames 1000]
    python benchmarks/bench_network.py calibration [--upsample 2] [--realisations 16]
    python benchmarks/bench_network.py speed
    python benchmarks/bench_network.py plots [--output FOLDER]
    python benchmarks/bench_network.py all [--quick] [--half select] [--weights FILE]

Weights and settings are chosen on the other half (``--half select``): galaxies of even number, all their bands. The
network's card names what it was trained on; no validation galaxy and no validation PSF is among it.
"""

import argparse
from pathlib import Path

from bench_deconvolution import DATA, PEAK_SNR
from network_flux import flux
from network_plots import plots
from network_quality import classical, quality
from network_robust import robust
from network_shapes import shapes
from network_speed import speed
from network_starred import starred
from network_uncertainty import blank, calibration
from results import begin

SECTIONS = {
    "quality": quality,
    "classical": classical,
    "starred": starred,
    "flux": flux,
    "shapes": shapes,
    "robust": robust,
    "blank": blank,
    "calibration": calibration,
    "speed": speed,
    "plots": plots,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("all", *SECTIONS), default="all")
    parser.add_argument("--quick", action="store_true", help="few galaxies, small frames, upsample 2; a minute or two")
    parser.add_argument("--half", choices=("select", "report"), default="report")
    parser.add_argument("--weights", default="default", help="a .safetensors file")
    parser.add_argument("--upsample", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--psf", nargs="+", choices=("moffat", "psfex"), default=["moffat", "psfex"])
    parser.add_argument("--peak-snr", type=int, nargs="+", default=PEAK_SNR)
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--realisations", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the pictures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.upsample, args.psf, args.step, args.seeds, args.frames = [2], ["moffat"], 17, 1, 20
    if not args.child:
        keep, packages = (args.half, args.weights) == ("report", "default"), ("operators", "solver", "astro")
        args.results = begin(quick=args.quick, keep=keep, packages=packages)
    if not (DATA / "galaxies").is_dir():
        print(f"- (no galaxies at {DATA}; set DECONJUGATE_DATA)")
        return
    # Pictures are drawn where they are asked for by name.
    for section in [name for name in SECTIONS if name != "plots"] if args.section == "all" else [args.section]:
        SECTIONS[section](args)


if __name__ == "__main__":
    main()
