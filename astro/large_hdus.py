"""FITS images that lie in files written into another, strip by strip."""

import numpy as np

from deconjugate.astro.scratch import forget, is_mapped, strips

BLOCK = 2880  # bytes, of which every part of a FITS file takes a whole number
PUNCTUATION = frozenset(b":;<=>?@[\\]^_`")  # between the digits and letters, not to be used in a CHECKSUM


def is_large(hdu):
    """Whether the pixels of an image lie in a file of :class:`deconjugate.astro.scratch.Scratch`."""
    from astropy.io import fits

    return type(hdu) is fits.ImageHDU and is_mapped(hdu.data)


def write_large(file, hdu):
    """Write an image for which :func:`is_large` holds, with CHECKSUM and DATASUM, into an open binary file.

    The same bytes as astropy writes, in the memory of a strip of the image.

    Source
    ------
    FITS standard 4.0, appendix J.
    """
    total = 0
    for rows in strips(hdu.data):
        total = ones_complement_sum(_stored(hdu.data[rows]), total)
        forget(hdu.data)
    header = hdu.header
    header["DATASUM"] = (str(total), "of this HDU")
    header.set("CHECKSUM", "0" * 16, "of this HDU", before="DATASUM")
    header["CHECKSUM"] = encoded(0xFFFFFFFF - ones_complement_sum(header.tostring().encode("ascii"), total))
    file.write(header.tostring().encode("ascii"))
    for rows in strips(hdu.data):
        file.write(_stored(hdu.data[rows]))
        forget(hdu.data)
    file.write(bytes(-hdu.data.nbytes % BLOCK))


def ones_complement_sum(content, total=0):
    """The sum of 32-bit words, carries added at the low end; the last word is filled up with zeros."""
    whole = len(content) // 4 * 4
    total += int(np.frombuffer(content[:whole], ">u4").sum(dtype=np.uint64))
    total += int.from_bytes(content[whole:] + bytes(-len(content) % 4), "big")
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encoded(value):
    """32 bits as 16 digits and letters, by the rules for CHECKSUM."""
    columns = []
    for byte in value.to_bytes(4, "big"):
        letters = [byte // 4 + ord("0") + (byte % 4 if k == 0 else 0) for k in range(4)]
        while PUNCTUATION.intersection(letters):
            for k in (0, 2):
                if PUNCTUATION.intersection(letters[k : k + 2]):
                    letters[k], letters[k + 1] = letters[k] + 1, letters[k + 1] - 1
        columns.append(letters)
    text = bytes(columns[i][k] for k in range(4) for i in range(4))
    return (text[-1:] + text[:-1]).decode("ascii")


def _stored(array):
    """Bytes as FITS has them; rows of a multiple of 4 bytes in total, but for the last of an image."""
    return array.astype(array.dtype.newbyteorder(">")).tobytes()
