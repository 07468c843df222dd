"""`python -m qdeploy` is the command `qdeploy`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is imported is no traceback either."""
    try:
        from qdeploy.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: nothing was written.\n")
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
