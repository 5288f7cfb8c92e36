"""``deconjugate deconvolve``: FITS images sharpened to a known PSF on a finer grid."""

import os
import sys

from deconjugate.astro.commands import values
from deconjugate.astro.commands.psf_options import add_psf_options, check_psf_count, check_psf_usage, psf_options

EPILOG = """exit status: 0 all done, 1 at least one image could not be done, 2 wrong usage, 130 interrupted

Every extension and card of the output: docs/output.md of the project."""


def add_to(commands):
    """Add the command to the subparsers."""
    import argparse

    command = commands.add_parser(
        "deconvolve",
        usage="deconjugate deconvolve [options] (--psf FILE | --fwhm ARCSEC | --fwhm-pix PIXELS) IMAGE.fits ...",
        help="sharpen FITS images to a known PSF on a finer grid",
        description="Deconvolve FITS images to a Gaussian PSF of 2 fine pixels, N of which make a pixel of the image. "
        "Counts are conserved, sky positions stay. The output holds SCI, DQ (flags), RESIDUAL (in sigmas), PSF, and "
        "where they are asked for ERR, SUPPORT and the other extensions of the input.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("images", metavar="IMAGE.fits", nargs="+", help="one or more; - reads their names from standard input")
    add(
        "--match",
        action="store_true",
        help="the images are bands of one object: bring all to one resolution and shape, so that colours are honest, "
        "and those on other pixels to the finest; --psf and --fwhm, after the images, then take a value for each",
    )
    add(
        "-o", "--output", metavar="OUT.fits", help="of one image; default: IMAGE_deconvolved.fits in the current folder"
    )
    add("--output-dir", metavar="DIR", help="folder of the outputs, each named IMAGE_deconvolved.fits; made if absent")
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--resume", action="store_true", help="skip images whose output exists, made from the same files and options")
    add(
        "--jobs", type=values.count, default=1, metavar="N", help="images done at a time, each by a process (default 1)"
    )
    command.several = add_psf_options(
        command.add_argument_group("point spread function, one of --psf, --fwhm and --fwhm-pix")
    )
    command.several_with = "--match"
    _add_input(command.add_argument_group("input"))
    _add_method(command.add_argument_group("method"))
    extra = command.add_argument_group("more in the output")
    extra.add_argument(
        "--uncertainty",
        type=values.realisations,
        metavar="N",
        help="the standard deviation of every pixel (extension ERR), from N realisations of the noise, each as long as "
        "the image itself; 8 or 16 will do",
    )
    extra.add_argument("--support", action="store_true", help="where the data show something, by scale (SUPPORT)")
    extra.add_argument("--keep-hdus", action="store_true", help="the other HDUs of the input, as they are")
    report = command.add_argument_group("reports")
    report.add_argument(
        "--qa",
        metavar="QA.png",
        help="page of pictures that shows what was done (png, pdf or svg); a folder for several images",
    )
    report.add_argument("--json", action="store_true", help="the result of each image as a line of JSON")
    report.add_argument("--dry-run", action="store_true", help="say what would be done, how long and how much memory")
    report.add_argument("--quiet", action="store_true", help="no summary, no progress bar")
    report.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def _add_input(group):
    add = group.add_argument
    add("--ext", metavar="EXT", help='extension: name, number or "NAME,VER" (default: first 2-D image, SCI first)')
    add(
        "--all-ext",
        action="store_true",
        help="every image of the file: all SCI, else all but noise, masks and the like",
    )
    add("--noise", metavar="EXT|FILE", help="noise per pixel (default: measured from the sky)")
    add(
        "--noise-type",
        choices=("rms", "variance", "ivar", "weight"),
        help="what it holds (default: as it is named); ivar is 1 / variance, weight too up to a factor that the sky "
        "gives; weight 0 is bad",
    )
    add(
        "--gain",
        type=values.gain,
        default="header",
        metavar="G",
        help="electrons per count, for the sources' shot noise in a measured noise; none: leave it out (default: "
        "GAIN of the header, if it has it)",
    )
    add("--mask", metavar="EXT|FILE", help="bad pixels, not zero")
    add("--bad-bits", type=values.bits, metavar="BITS", help="bits of the mask that are bad, 1,4,16 (default: all)")
    add("--saturation", type=values.positive, metavar="LEVEL", help="this and above is bad (default: SATURATE)")
    add(
        "--sky",
        choices=("map", "flat", "none"),
        default="map",
        help="measured in boxes (default); as one number, where sources fill the frame; or not there",
    )


def _add_method(group):
    add = group.add_argument
    add("--upsample", type=values.count, default=2, metavar="N", help="fine pixels per pixel (default 2)")
    add("--k-sigma", type=values.positive, default=3.0, metavar="K", help="significance of detail (default 3)")
    guess = group.add_mutually_exclusive_group()
    guess.add_argument("--network", metavar="FILE", help="weights of another network (default: the one that ships)")
    guess.add_argument("--no-network", action="store_true", help="classical method alone")
    add("--device", default="auto", help="auto, cpu or cuda (default auto)")
    add("--tile", type=values.count, metavar="N", help="side of the tiles of a large frame, in pixels")


def run(args):
    """Do what the arguments ask for."""
    _check_usage(args)
    images = _images(args)
    outputs = _outputs(args, images)

    from deconjugate.astro.many_files import Job, run_bands, run_jobs
    from deconjugate.astro.reporting import Reporter

    options = [_options(args, image, number, len(images)) for number, image in enumerate(images)]
    jobs = [Job(*each) for each in zip(images, outputs, options)]
    reporter = Reporter(len(jobs), quiet=args.quiet, as_json=args.json)
    how = {"resume": args.resume, "debug": args.debug, "only_plan": args.dry_run}
    try:
        if args.match:
            run_bands(jobs, reporter, **how)
        else:
            run_jobs(jobs, reporter, processes=args.jobs, **how)
    except KeyboardInterrupt:
        if len(jobs) == 1:
            raise
        reporter.finish()
        print("deconjugate: interrupted; what is done stays, and --resume goes on with the rest", file=sys.stderr)
        return 130
    return reporter.finish()


def _check_usage(args):
    check_psf_usage(args)
    if args.noise_type is not None and args.noise is None:
        args.usage("--noise-type belongs to --noise")
    if isinstance(args.gain, float) and args.noise is not None:
        args.usage("--gain belongs to a measured noise, not to --noise, which holds everything")
    if args.bad_bits is not None and args.mask is None:
        args.usage("--bad-bits belongs to --mask")
    for name, value in (("--jobs", args.jobs > 1), ("--all-ext", args.all_ext)):
        if args.match and value:
            args.usage(f"{name} is not for --match, where every output is made from all images")
    if args.ext is not None and args.all_ext:
        args.usage("give --ext or --all-ext, not both")
    if args.output is not None and args.output_dir is not None:
        args.usage("give --output or --output-dir, not both")


def _images(args):
    """The images that are named; "-" stands for those on standard input, one a line."""
    images = []
    for name in args.images:
        images += [line.strip() for line in sys.stdin if line.strip()] if name == "-" else [name]
    if not images:
        args.usage("no image is named on standard input")
    if args.match:
        check_psf_count(args, len(images))
    if args.match and len(images) == 1:
        args.usage("--match is for two images or more")
    if len(images) > 1 and args.output is not None:
        args.usage(f"--output is for one image, and there are {len(images)}; give --output-dir")
    return images


def _outputs(args, images):
    if args.output is not None:
        return [args.output]
    folder = args.output_dir or ""
    outputs = [os.path.join(folder, f"{stem(image)}_deconvolved.fits") for image in images]
    first = {}
    for number, (image, output) in enumerate(zip(images, outputs)):
        if first.setdefault(output, number) != number:
            before = images[first[output]]
            both = (
                f"{image} is named twice" if before == image else f"{before} and {image} are of one name: do them apart"
            )
            args.usage(f"{both}; both would be written to {output}")
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        args.usage(f"--output-dir {folder} is a file; give a folder")
    if folder and not args.dry_run:
        os.makedirs(folder, exist_ok=True)
    return outputs


def stem(path):
    """The name of a FITS file without its folder and endings."""
    name = os.path.basename(path)
    for ending in (".gz", ".bz2", ".fz", ".fits", ".fit", ".fts"):
        name = name[: -len(ending)] if name.casefold().endswith(ending) else name
    return name


def _options(args, image, number, count):
    """The options of the image of this number among so many."""
    from deconjugate.astro.deconvolve_file import file_options

    qa, several = args.qa, count > 1
    if qa is not None and (several or os.path.isdir(qa)):
        if not os.path.isdir(qa):
            args.usage(f"--qa {qa}: of several images the pages need a folder that exists")
        qa = os.path.join(qa, f"{stem(image)}_qa.png")
    return file_options(
        **psf_options(args, number),
        ext=args.ext,
        all_ext=args.all_ext,
        noise=args.noise,
        noise_kind=args.noise_type,
        gain=None if args.noise is not None else args.gain,
        mask=args.mask,
        bad_bits=args.bad_bits,
        saturation=args.saturation,
        sky=args.sky,
        upsample=args.upsample,
        k_sigma=args.k_sigma,
        keep_hdus=args.keep_hdus,
        support=args.support,
        qa=qa,
        overwrite=args.overwrite,
        network=None if args.no_network else (args.network or "default"),
        uncertainty=args.uncertainty,
        device=args.device,
        tile=args.tile,
        progress=not args.quiet and (args.match or not several) and sys.stderr.isatty(),
    )
