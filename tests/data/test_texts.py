"""Texts of a caller: read as what they are, or refused; never one row as two."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeploy.data import rows_from_texts
from qdeploy.errors import DataError


class Table:
    """What iterates over the names of its columns, as tables of several libraries do."""

    columns = ("question", "sentence")

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("texts", "first", "second"),
    [
        (["q", "s"], ("q", "s"), None),
        ([("q", "s")], ("q",), ("s",)),
        ([["q", "s"]], ("q",), ("s",)),
        ((("q", "s"), ("t", "u")), ("q", "t"), ("s", "u")),
        ([{"text": "q", "text_pair": "s"}], ("q",), ("s",)),
        ([{"text": "q"}, {"text": "s", "text_pair": None}], ("q", "s"), None),
        ([{"text": "q", "text_pair": "s"}, ("t", "u")], ("q", "t"), ("s", "u")),
        ([{"text": "q"}, "s"], ("q", "s"), None),
        (np.array(["q", "s"]), ("q", "s"), None),
        ((text for text in "qs"), ("q", "s"), None),
        ([""], ("",), None),
        ([("q", "")], ("q",), ("",)),
    ],
)
def test_what_is_read(texts: Any, first: tuple[str, ...], second: tuple[str, ...] | None) -> None:
    rows = rows_from_texts(texts)
    assert (rows.first, rows.second) == (first, second)
    assert all(type(text) is str for text in rows.first)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "No rows were given"),
        ((), "No rows were given"),
        ("lonely", r"One string was given.*pass \[text\]"),
        (("q", "s"), r"A tuple of 2 strings.*\[\(first, second\)\] for one pair, or \[text, …\]"),
        (("q", "s", "t"), r"A tuple of 3 strings.*pass \[text, …\]"),
        ({"text": "q", "text_pair": "s"}, r"One dict was given \(keys 'text', 'text_pair'\)"),
        ({}, "One dict was given"),
        (None, "None was given, and a list was expected"),
        (7, r"7 \(int\) was given"),
        (b"q", r"b'q' \(bytes\) was given"),
        ({"q", "s"}, "a set was given"),
        (Table(), "a Table was given"),
        (SimpleNamespace(), "a SimpleNamespace was given"),
        ([("a", "b"), "c"], r"Row 1 is 'c' \(str\), and row 0 is .* texts and pairs .* were mixed"),
        (["c", {"text": "a", "text_pair": "b"}], "Row 1 is a dict, and row 0 is 'c'"),
        ([("a", "b", "c")], r"Row 0 is \('a', 'b', 'c'\) \(tuple\), and a pair"),
        ([("a",)], "Row 0 is .*, and a pair of texts was expected"),
        ([3], r"Row 0: the text is 3 \(int\), and a string was expected: pass a list of texts"),
        (["a", None], "Row 1: the text is None"),
        ([b"a"], r"Row 0: the text is b'a' \(bytes\).*value.decode\(\)"),
        ([("a", None)], "Row 0: the second text is None"),
        ([(1.5, "a")], r"Row 0: the first text is 1.5 \(float\)"),
        ([{"question": "a"}], r"Row 0 is a dict with the keys 'question'.*\"text_pair\": second"),
        ([{"text": "a", "text_pair": 3}], r"Row 0: the 'text_pair' is 3"),
        ([{"text_pair": "a"}], "keys 'text_pair'"),
        (["a", "\ud800"], r"Row 1: the text holds half of a surrogate pair \(U\+D800 at 0\)"),
        ([("a", "b\udfff")], r"Row 0: the second text .* \(U\+DFFF at 1\).*encode\('utf-8'"),
        (["\ud83d\ude00"], "half of a surrogate pair"),
        (np.array([["a", "b"]]), "Row 0: the text is a ndarray"),
        ([float("nan")], "Row 0: the text is nan"),
        (np.array("q"), "a ndarray was given, and a list was expected"),
        ([10**5000], "Row 0: the text is a int"),
        ([[[10**5000], "a"]], "Row 0: the first text is a list"),
        ([{10**5000: "a"}], "Row 0 is a dict with the keys"),
        ({10**5000: "a"}, "One dict was given"),
        (memoryview(b"q"), r"Row 0: the text is 113 \(int\)"),
        ([np.array(["a"])], "Row 0: the text is a ndarray"),
        ((text for text in (None,)), "Row 0: the text is None"),
    ],
)
def test_what_is_refused(texts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        rows_from_texts(texts)
    str(caught.value).encode()  # can be printed


def test_a_text_of_a_row_that_is_refused_is_not_printed_whole() -> None:
    with pytest.raises(DataError) as caught:
        rows_from_texts(["a", ("long " * 1000, "b")])  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


NESTED: Any = "bottom"
for _ in range(5000):
    NESTED = [NESTED]
ODD = {  # by name, since some cannot be written
    "digits": 10**5000, "nested": NESTED, "number": np.array(1), "array": np.array(["a"]),
    "object": object(), "class": str, "str_": np.str_("a"),
}  # fmt: skip
ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=3),
        st.text(max_size=3), st.text(st.characters(categories=["Cs"]), max_size=2),
        st.sampled_from(list(ODD)).map(lambda name: ODD[name]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.sampled_from(["text", "text_pair"]), st.integers()), inner),
        st.lists(inner, max_size=3).map(iter),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300)
@given(texts=ANYTHING)
def test_anything_is_read_or_refused(texts: Any) -> None:
    try:
        rows = rows_from_texts(texts)
    except DataError as error:
        str(error).encode()
        assert len(str(error)) < 700
    else:
        assert len(rows) and all(type(text) is str for text in rows.first)
