"""`python -m pipelines`: a stream where the options name a queue, else a backfill; see launcher.py."""

import sys

from pipelines.launcher import main

if __name__ == "__main__":
    sys.exit(main())
