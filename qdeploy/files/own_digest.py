"""A JSON file that holds the sha256 of itself: of its bytes with zeros where the digest stands.

Every other file of a directory has its sha256 in the manifest, and the manifest has nowhere else to
be held against. Whoever changes it on purpose can write the digest anew: it is for damage, and a
signature (`qdeploy sign`) is for intent.
"""

from __future__ import annotations

import hashlib
import re

FIELD = "digest"
BLANK = "0" * 64
# As `write_json` indents the fields of the outermost object, so that no nested one is meant.
_PLACE = re.compile(rb'^  "digest": "([0-9a-f]{64})"', re.MULTILINE)


def stamped(content: bytes) -> bytes:
    """The content with its digest in place of `BLANK`.

    Raises:
        ValueError: it has no field for it.
    """
    blank, _ = _split(content)
    digest = hashlib.sha256(blank).hexdigest().encode()
    return blank.replace(_field(BLANK.encode()), _field(digest), 1)


def holds(content: bytes) -> bool:
    """Whether a file is as it was stamped, to the byte; False where it holds no digest."""
    try:
        blank, digest = _split(content)
    except ValueError:
        return False
    return hashlib.sha256(blank).hexdigest() == digest


def there(content: bytes) -> bool:
    """Whether a file has a digest; those of earlier versions have none."""
    return _PLACE.search(content) is not None


def _field(digest: bytes) -> bytes:
    return b'\n  "digest": "' + digest + b'"'


def _split(content: bytes) -> tuple[bytes, str]:
    """The content with zeros, and the digest that stood there."""
    places = list(_PLACE.finditer(content))
    if len(places) != 1:
        raise ValueError("one field for the digest was expected")
    start, end = places[0].span(1)
    return content[:start] + BLANK.encode() + content[end:], places[0][1].decode()
