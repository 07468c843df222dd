"""What reading a damaged .npz raises."""

from __future__ import annotations

import zipfile
import zlib

# What numpy, zipfile and zlib raise on a file that is cut, changed or something else; a changed
# shape may ask for more memory than there is, or overflow.
DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
