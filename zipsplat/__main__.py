"""`python -m zipsplat` is the command `zipsplat`."""

import sys

from zipsplat.cli import main

if __name__ == "__main__":
    sys.exit(main())
