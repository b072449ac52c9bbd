"""`python -m app.dev`, which bin/dev ends in."""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while modules load ends us without a word; the supervisor listens later.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from app.dev.command import main

    sys.exit(main())
