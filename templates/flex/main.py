"""What the launcher of the flex template runs: a stream from a subscription, as a job that goes on by itself."""

import sys

from pipelines.audience import main

if __name__ == "__main__":
    sys.exit(main())
