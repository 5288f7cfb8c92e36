"""Values of options, checked while the command line is read."""

import argparse


def _number(text, convert, accept, meaning):
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
    return value


def positive(text):
    return _number(text, float, lambda value: 0.0 < value < float("inf"), "a positive number")


def fraction(text):
    return _number(text, float, lambda value: 0.0 <= value < 1.0, "a number from 0 to 1")


def above_one(text):
    return _number(text, float, lambda value: 1.0 < value < float("inf"), "a number above 1")


def count(text):
    return _number(text, int, lambda value: value >= 1, "a whole number, 1 or more")


def realisations(text):
    return _number(text, int, lambda value: value >= 4, "a whole number, 4 or more")
