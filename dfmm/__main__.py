"""`python -m dfmm` is the `dfmm` command."""

import sys

from dfmm.cli import main

sys.exit(main())
