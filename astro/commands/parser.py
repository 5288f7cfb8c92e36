"""The parser of a command: short where it complains, and options take more values where another asks for it."""

import argparse


class CommandParser(argparse.ArgumentParser):
    """Options in ``several`` take one value, or any number where the option ``several_with`` is given as well.

    Without it the second word in ``--psf FILE IMAGE`` is the image.
    """

    several, several_with = (), None

    def parse_known_args(self, args=None, namespace=None):
        if args is not None:
            for option in self.several:
                option.nargs = "+" if self.several_with in args else 1
        return super().parse_known_args(args, namespace)

    def error(self, message):
        """Say what is wrong and where help is; the usage, a screen of options, would hide it."""
        self.exit(2, f"{self.prog}: error: {message}\nTry `{self.prog} --help`.\n")
