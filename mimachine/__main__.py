"""`python -m mimachine`: the command line."""

import sys

from mimachine.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
