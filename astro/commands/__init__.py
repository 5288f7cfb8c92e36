"""The commands of ``deconjugate``, one a module.

Each has ``add_to(commands)``, which adds its parser to argparse's subparsers with ``set_defaults(run=run)``, and
``run(args)``, which does the work and returns the exit status (None is 0). It imports what it needs itself, so that
``--help`` answers at once.
"""
