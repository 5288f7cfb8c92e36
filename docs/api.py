"""The API reference, static pages from the docstrings; a warning is an error.

python docs/api.py FOLDER          # make docs
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pdoc

PACKAGES = ("deconjugate.operators", "deconjugate.solver", "deconjugate.astro")


def public_modules(name):
    """A package and the modules in it without an underscore before their name.

    pdoc itself finds those that ``__all__`` names (a function may have its module's name) and what lies deeper.
    """
    package = import_module(name)
    found = [module.name for module in iter_modules(package.__path__)]
    return [name, *(f"{name}.{module}" for module in found if module[0] != "_" and module not in package.__all__)]


def load_names(name):
    """Put what a package loads when it is first asked for where pdoc looks."""
    package = import_module(name)
    vars(package).update({public: getattr(package, public) for public in package.__all__})


def main(folder):
    warnings.simplefilter("error")
    for name in PACKAGES:
        load_names(name)
    pdoc.render.configure(docformat="numpy", math=True, show_source=False)
    pdoc.pdoc(*(module for name in PACKAGES for module in public_modules(name)), output_directory=Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
