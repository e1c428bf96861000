"""`python -m edgeloop.bench`."""

import sys

from edgeloop.bench.program import main

if __name__ == "__main__":
    sys.exit(main())
