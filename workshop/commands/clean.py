"""`workshop clean`: removes what killed runtimes, commits and checks have left behind, and the
network of step 04. Whatever is in use stays."""

from workshop import cleanup
from workshop.command_line import Parser


def main(arguments: list[str]) -> int:
    """Removes leftovers, and prints a line for each. Returns the exit status."""
    Parser(prog="workshop clean").parse_args(arguments)
    removed = False
    for leftover in cleanup.remove_all():
        print(leftover, flush=True)
        removed = removed or leftover.removed
    if not removed:
        print("nothing to clean")
    return 0
