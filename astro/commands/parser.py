"""The parser of a command, whose options may take more values where another option asks for it."""

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
