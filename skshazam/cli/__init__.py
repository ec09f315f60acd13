"""The command line; the only place that prints."""

import click

from skshazam import __version__
from skshazam.cli._demo import demo
from skshazam.cli._extract import extract
from skshazam.cli._reporting import ReportingGroup
from skshazam.cli._store import store
from skshazam.cli._teachers import teachers

__all__ = ["main"]


@click.group(cls=ReportingGroup)
@click.version_option(__version__, prog_name="skshazam")
def main():
    """Fuse several frozen pathology foundation models into one classifier.

    Exit codes: 0 all is well; 1 an error, with a message; 2 wrong usage; 3 finished,
    but images were unreadable or stored features damaged; 130 interrupted.
    """


for command in (demo, teachers, extract, store):
    main.add_command(command)
