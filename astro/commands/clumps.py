"""``deconjugate clumps``: the clumps of disc galaxies in a deconvolved image."""

from deconjugate.astro.commands import values


def add_to(commands):
    """Add the command to the subparsers."""
    command = commands.add_parser(
        "clumps",
        help="find the clumps of disc galaxies in a deconvolved image",
        description="Find compact structures above the discs of the galaxies in what `deconvolve` wrote. Two tables "
        "are written: a row a clump, and beside it in ..._galaxies.ecsv a row a galaxy.",
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("image", metavar="OUT.fits")
    add("-o", "--output", metavar="TABLE.ecsv", required=True)
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--ext", metavar="EXT", help="image extension, name or number (default: SCI)")
    add("--colour", nargs=2, metavar=("BLUE.fits", "RED.fits"), help="two bands, deconvolved alike: the disc's colour")
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
    from deconjugate.astro.clump_file import clumps_file

    clumps, galaxies = clumps_file(
        args.image,
        args.output,
        colour=args.colour,
        ext=args.ext,
        noise=args.noise,
        seeing_arcsec=args.seeing,
        sky=args.sky,
        figure=args.figure,
        overwrite=args.overwrite,
        min_snr=args.min_snr,
        min_share=args.min_share,
    )
    if not args.quiet:
        print(f"{args.output}: {len(clumps)} clumps in {len(galaxies)} galaxies")
