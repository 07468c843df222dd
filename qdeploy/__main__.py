"""`python -m qdeploy` is the command `qdeploy`."""

from __future__ import annotations

import sys

from qdeploy.cli import main

sys.exit(main())
