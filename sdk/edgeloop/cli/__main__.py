"""`python -m edgeloop.cli`, where the console script is not on the PATH."""

import sys

from edgeloop.cli.start import main

sys.exit(main())
