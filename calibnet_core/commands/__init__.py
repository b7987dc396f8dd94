"""The subcommands of `calibnet`, one module each, found by name.

A module `do_this.py` becomes `calibnet do-this`. It offers

    SUMMARY: str                                               one line for the list of commands
    def add_arguments(parser: argparse.ArgumentParser) -> None
    def run(args: argparse.Namespace) -> int                   0 done, 1 some inputs failed

and imports whatever is slow to load inside `run`, so that `calibnet --help` answers at once.
"""
