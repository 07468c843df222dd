"""tokenizer_config.json."""

from __future__ import annotations

from typing import Literal

import msgspec


class TokenizerConfig(msgspec.Struct, kw_only=True):
    """What is read of tokenizer_config.json."""

    truncation_side: Literal["left", "right"] = "right"
    padding_side: Literal["left", "right"] = "right"
