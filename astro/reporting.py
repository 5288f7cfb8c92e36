"""What the command line says of what it did: lines, a table, JSON."""

import json
import re
import sys


class Reporter:
    """Says on standard output what became of each image, and at the end of all of them.

    Errors and warnings go to standard error, a line each, whatever is asked for.

    Parameters
    ----------
    total : int
        Images there are.
    quiet : bool
        Nothing on standard output.
    as_json : bool
        A line of JSON for each image there, and nothing else.

    Example
    -------
    >>> reporter = Reporter(1)
    >>> reporter({"input": "a.fits", "output": "b.fits", "status": "skipped"})
    b.fits: skipped, done before
    >>> reporter.finish()
    0
    """

    def __init__(self, total, *, quiet=False, as_json=False):
        self.total, self.quiet, self.as_json = total, quiet and not as_json, as_json
        self.heard = []

    def __call__(self, said):
        """Take the dictionary of one image: see :func:`deconjugate.astro.many_files.attempt`."""
        self.heard.append(said)
        of = said["input"] if self.total > 1 else None
        for warning in said.get("warnings", ()):
            print(f"deconjugate: warning: {about(of, warning)}", file=sys.stderr)
        if said["status"] == "failed":
            print(f"deconjugate: error: {about(of, said['error'])}", file=sys.stderr, flush=True)
        if self.as_json:
            print(json.dumps(said, allow_nan=False), flush=True)
        elif not self.quiet and said["status"] != "failed":
            count = f"[{len(self.heard)}/{self.total}] " if self.total > 1 else ""
            print(f"{count}{_line(said)}", flush=True)

    def finish(self):
        """Print the summary of several images; the exit status."""
        failed = [said for said in self.heard if said["status"] == "failed"]
        if self.total > 1 and not self.quiet and not self.as_json:
            print()
            for row in _table(self.heard):
                print(row)
            counts = {status: sum(said["status"] == status for said in self.heard) for status in STATUSES}
            print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
        return 1 if failed else 0


STATUSES = ("done", "skipped", "planned", "failed")


def one_line(error):
    """The message of an error or a warning, in one line."""
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:  # its own str() begins with a number
        text = f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return " ".join(str(text).split()) or type(error).__name__


def about(path, message):
    """A message with the file that it is about before it, unless it names that itself or there is none."""
    if path is None or re.search(rf"(?<![\w./]){re.escape(path)}(?!\w)", message):
        return message
    return f"{path}: {message}"


def _line(said):
    if said["status"] == "skipped":
        return f"{said['output']}: skipped, done before"
    images = said["images"]
    width, height = images[0]["size"]
    words = f"{said['output']}: {width} x {height} pixels"
    if len(images) > 1:
        words += f", {len(images)} images"
    if said["status"] == "planned":
        return words + said["plan"]
    return f"{words}, {_range('reduced chi2', images, 'reduced_chi2', '.3f')}, " + (
        f"{_range('flux ratio', images, 'flux_ratio', '.5f')}, {said['seconds']:.1f} s"
    )


def _range(name, images, key, form):
    values = [image[key] for image in images if image[key] is not None]
    if not values:
        return f"no {name}, since there is no source"
    low, high = (format(value, form) for value in (min(values), max(values)))
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def _table(heard):
    rows = [("image", "status", "pixels", "chi2", "flux ratio", "bad pixels", "seconds")]
    for said in heard:
        images = said.get("images", [])
        row = [said["input"], said["status"]]
        if images:
            row.append("{} x {}".format(*images[0]["size"]) + (f" x {len(images)}" if len(images) > 1 else ""))
        if said["status"] == "done":
            row += [_mean(images, "reduced_chi2", ".3f"), _mean(images, "flux_ratio", ".5f")]
            row += [str(sum(image["bad_pixels"] for image in images)), f"{said['seconds']:.1f}"]
        rows.append((*row, *[""] * (len(rows[0]) - len(row))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def _mean(images, key, form):
    values = [image[key] for image in images if image[key] is not None]
    return format(sum(values) / len(values), form) if values else "-"
