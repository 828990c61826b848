"""`python -m zipsplat` is the command `zipsplat`."""

from zipsplat.cli import main
from zipsplat.native_work import exit_process


def run() -> None:
    """Run the command and exit with its status."""
    exit_process(main())


if __name__ == "__main__":
    run()
