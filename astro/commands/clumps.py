"""``deconjugate clumps``: the clumps of disc galaxies in a deconvolved image."""

import sys

from deconjugate.astro.commands import values
from deconjugate.astro.reporting import about, one_line


def add_to(commands):
    """Add the command to the subparsers."""
    command = commands.add_parser(
        "clumps",
        help="find the clumps of disc galaxies in deconvolved images",
        description="Find compact structures above the discs of the galaxies in what `deconvolve` wrote. Two tables "
        "are written: a row a clump, and beside it in ..._galaxies.ecsv a row a galaxy; of several images together, "
        "with a column that says which.",
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("images", metavar="OUT.fits", nargs="+", help="one or more")
    add("-o", "--output", metavar="TABLE.ecsv", required=True)
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--ext", metavar="EXT", help="image extension, name or number (default: SCI)")
    add(
        "--colour",
        nargs=2,
        action="append",
        metavar=("BLUE.fits", "RED.fits"),
        help="two bands, best of `deconvolve --match`: the disc's colour; of several images once for each, in order",
    )
    add("--min-snr", type=values.positive, default=5.0, metavar="S", help="flux over its error (default 5)")
    add(
        "--min-share", type=values.fraction, default=0.01, metavar="F", help="flux over that of the disc (default 0.01)"
    )
    add("--noise", type=values.positive, metavar="N", help="noise of a pixel of the data (default: INNOISE)")
    add("--seeing", type=values.positive, metavar="ARCSEC", help="FWHM of the PSF of the data (default: INFWHM)")
    add(
        "--sky", choices=("map", "flat", "none"), default="map", help="measured in boxes (default), as one number, none"
    )
    add("--figure", metavar="FIG.png", help="galaxies and clumps, and their number against the colour of the disc")
    add("--quiet", action="store_true", help="no summary")
    add("--debug", action="store_true", help="show the full traceback of an error")


def run(args):
    """Do what the arguments ask for."""
    count = len(args.images)
    if args.colour is not None and len(args.colour) != count:
        args.usage(f"--colour is given {len(args.colour)} times for {count} images: give it once for each, in order")
    options = {
        "ext": args.ext,
        "noise": args.noise,
        "seeing_arcsec": args.seeing,
        "sky": args.sky,
        "figure": args.figure,
        "overwrite": args.overwrite,
        "min_snr": args.min_snr,
        "min_share": args.min_share,
    }
    failed = {}
    if count == 1:
        from deconjugate.astro.clump_file import clumps_file

        clumps, galaxies = clumps_file(args.images[0], args.output, colour=args.colour and args.colour[0], **options)
    else:
        from deconjugate.astro.clump_files import clumps_files

        clumps, galaxies, failed = clumps_files(args.images, args.output, colour=args.colour, **options)
    for path, error in failed.items():
        print(f"deconjugate: error: {about(path, one_line(error))}", file=sys.stderr)
    if not args.quiet:
        of = "" if count == 1 else f" of {count - len(failed)} files"
        print(f"{args.output}: {_number(clumps, 'clump')} in {_number(galaxies, 'galaxy', 'galaxies')}{of}")
    return 1 if failed else 0


def _number(table, one, many=None):
    return f"{len(table)} {one if len(table) == 1 else many or f'{one}s'}"
