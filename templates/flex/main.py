"""The entry point of the flex template's launcher: it starts a stream, a backfill or a refresh as a job."""

import sys

from pipelines.launcher import main

if __name__ == "__main__":
    sys.exit(main())
