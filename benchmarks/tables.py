"""Markdown tables, printed row by row as they come to be known."""


def row(*entries):
    print("| " + " | ".join(str(entry) for entry in entries) + " |", flush=True)


def table(*headings):
    print()
    row(*headings)
    row(*("---" for _ in headings))


def verdict(ok):
    return "yes" if ok else "**no**"
