"""`python -m splatfactory` runs the command `splatfactory`."""

import sys

from splatfactory.cli import main

if __name__ == "__main__":
    sys.exit(main())
