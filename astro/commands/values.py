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


def finite(text):
    return _number(text, float, lambda value: abs(value) < float("inf"), "a finite number")


def fraction(text):
    return _number(text, float, lambda value: 0.0 <= value < 1.0, "a number from 0 to 1")


def above_one(text):
    return _number(text, float, lambda value: 1.0 < value < float("inf"), "a number above 1")


def count(text):
    return _number(text, int, lambda value: value >= 1, "a whole number, 1 or more")


def realisations(text):
    return _number(text, int, lambda value: value >= 4, "a whole number, 4 or more")


def gain(text):
    """A positive number, "header", or None for "none"."""
    word = text.strip().casefold()
    if word in ("header", "none"):
        return word if word == "header" else None
    return _number(text, float, lambda value: 0.0 < value < float("inf"), 'a positive number, "header" or "none"')


def bits(text):
    """A sum of bits: whole numbers, decimal or 0x hexadecimal, with commas between them."""

    def joined(text):
        return sum({bit for part in text.split(",") for bit in _bits_of(int(part, 0))})

    return _number(text, joined, lambda value: value > 0, "bits of a mask such as 1,4,16 or 0x15")


def _bits_of(value):
    if value < 0:
        raise ValueError("bits are not negative")
    return (1 << i for i in range(value.bit_length()) if value >> i & 1)
