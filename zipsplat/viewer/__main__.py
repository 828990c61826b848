"""`python -m zipsplat.viewer`."""

import sys

from zipsplat.viewer import main

if __name__ == "__main__":
    sys.exit(main())
