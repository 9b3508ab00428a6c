"""Run the command line by `python -m mimachine.cli`."""

import sys

from mimachine.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
