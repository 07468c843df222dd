"""Silence for transformers, the hub and the tracer: progress is reported by qdeploy alone."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "peft", "huggingface_hub")
# What these log of a failed trace, as errors too, stands in the exception that they raise.
_SILENT = ("torch.export", "torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, progress bars and log lines below errors, and restore all at the end."""
    from transformers.utils import logging as chatter

    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in (*_LOGGERS, *_SILENT)}
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
