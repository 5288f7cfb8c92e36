"""``deconjugate clumps``: the clumps of disc galaxies in a deconvolved image."""

import sys

from deconjugate.astro.commands import values
from deconjugate.astro.commands.psf_options import add_psf_options, check_psf_count, check_psf_usage, psf_options
from deconjugate.astro.reporting import about, one_line

SHARES, TRIALS = (0.01, 0.02, 0.05, 0.1), 4


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
    _add_completeness(command)


def _add_completeness(command):
    group = command.add_argument_group(
        "how many are found: clumps put into the image, which is deconvolved again; the PSF as for `deconvolve`"
    )
    add = group.add_argument
    add(
        "--completeness",
        action="append",
        metavar="IMAGE.fits",
        help="what OUT.fits was made from, of several once for each; a third table, ..._completeness.ecsv",
    )
    command.several, command.several_with = add_psf_options(group), "--completeness"
    add(
        "--shares", nargs="+", type=values.positive, metavar="F", help="flux over that of the disc (0.01 0.02 0.05 0.1)"
    )
    add("--trials", type=values.count, metavar="N", help="for each share, a deconvolution each (default 4)")
    add("--image-noise", metavar="EXT|FILE", help="noise per pixel of IMAGE.fits (default: measured from the sky)")
    add("--image-mask", metavar="EXT|FILE", help="bad pixels of IMAGE.fits, not zero")
    add("--no-network", action="store_true", help="as in `deconvolve`")


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
    _check_completeness(args, count)
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
    if args.completeness and not failed:
        _put_in(args)
    return 1 if failed else 0


def _check_completeness(args, count):
    if args.completeness is None:
        only = ("shares", "trials", "image_noise", "image_mask", "no_network")
        only += ("psf", "psf_oversampling", "psf_ext", "psf_error", "fwhm", "fwhm_pix", "beta", "ellipticity", "pa")
        for name in only:
            if getattr(args, name):
                args.usage(f"--{name.replace('_', '-')} belongs to --completeness")
        return
    if len(args.completeness) != count:
        args.usage(
            f"--completeness is given {len(args.completeness)} times for {count} images: once for each, in order"
        )
    check_psf_usage(args)
    check_psf_count(args, count)

    from deconjugate.astro.atomic import check_output
    from deconjugate.astro.clump_completeness_file import completeness_name

    check_output(completeness_name(args.output), overwrite=args.overwrite)


def _put_in(args):
    from deconjugate.astro.clump_completeness_file import (
        completeness_files,
        completeness_name,
        completeness_table,
        write_completeness,
    )

    find = {"min_snr": args.min_snr, "min_share": args.min_share}
    found = completeness_files(
        args.images,
        args.completeness,
        [psf_options(args, number) for number in range(len(args.images))],
        shares=args.shares or SHARES,
        trials=args.trials or TRIALS,
        ext=args.ext,
        network=None if args.no_network else "default",
        noise=args.image_noise,
        mask=args.image_mask,
        sky=args.sky,
        find=find,
    )
    table = completeness_table(found, source=", ".join(args.completeness), **find)
    write_completeness(args.output, table, args.overwrite)
    if not args.quiet:
        shares = ", ".join(f"{row['found']} of {row['injected']} at {row['share']:.3g}" for row in table)
        print(f"{completeness_name(args.output)}: found {shares} of the disc")


def _number(table, one, many=None):
    return f"{len(table)} {one if len(table) == 1 else many or f'{one}s'}"
