"""What the launcher of the flex template runs: a stream or a backfill, as a job that goes on by itself."""

import sys

from pipelines.launcher import main

if __name__ == "__main__":
    sys.exit(main())
