"""Settings of hypothesis for every folder."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no failure, and the same examples each time keep a failure reproducible.
settings.register_profile("qdeploy", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("qdeploy")

# A background job of a shell may start with SIGINT ignored, and so would every process that the
# tests start to interrupt: with a handler here they begin with the default again.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
