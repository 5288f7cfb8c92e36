"""The ``deconjugate`` command."""

import argparse
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager

from deconjugate.astro.commands import clumps, deconvolve, photometry, psf
from deconjugate.astro.commands.parser import CommandParser
from deconjugate.astro.reporting import one_line

COMMANDS = (deconvolve, psf, clumps, photometry)

EXAMPLES = """examples:
  deconjugate deconvolve field.fits --psf field.psf -o sharp.fits
  deconjugate deconvolve field.fits --fwhm 0.8 --upsample 3 --noise ERR --mask DQ --qa sharp.png
  deconjugate deconvolve night/*.fits --fwhm 0.8 --output-dir sharp --jobs 2 --resume
  deconjugate deconvolve g.fits r.fits i.fits --match --fwhm 1.1 0.9 0.8 --output-dir sharp
exit status: 0 done, 1 could not do it, 2 wrong usage, 130 interrupted"""


def main(argv=None):
    """Run the command line; returns the exit status."""
    if argv is None:
        # This process is ours. Threads that spin while they wait cost half as much again where other work is going on.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    args = _parser().parse_args(argv)
    try:
        with _on_a_terminal():
            return args.run(args) or 0
    except BrokenPipeError:  # whoever read the output has gone, `| head` say: there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return 1
    except KeyboardInterrupt:
        print("deconjugate: interrupted, nothing written", file=sys.stderr)
        return 130
    except Exception as error:
        if getattr(args, "debug", False):
            raise
        print(f"deconjugate: error: {one_line(error)}", file=sys.stderr)
        return 1


@contextmanager
def _on_a_terminal():
    """Warnings in one line each; a polite kill unwinds like Ctrl-C, so that temporary files go."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(
            f"deconjugate: warning: {one_line(message)}", file=sys.stderr
        )
        before = signal.signal(signal.SIGTERM, signal.default_int_handler) if in_main_thread else None
        try:
            yield
        finally:
            if in_main_thread:
                signal.signal(signal.SIGTERM, before)


def _parser():
    parser = CommandParser(
        prog="deconjugate",
        description="Deconvolution of astronomical images: a learned guess, then a correction that certifies it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    kind = {"title": "commands", "required": True, "metavar": "COMMAND", "parser_class": CommandParser}
    commands = parser.add_subparsers(**kind)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"deconjugate {version('deconjugate')}")
        parser.exit()
