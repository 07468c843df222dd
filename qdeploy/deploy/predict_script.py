"""`predict.py` of an engine directory: a script that answers without qdeploy.

It is `predict_template.py` with the constants of the engine, with `predict_lines.py` where its
section `lines` stands, and of its other sections (`# <name>` to `# </name>`) those that the runtime
and the head need.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from qdeploy.calibrate.run import text_columns
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import PlanError
from qdeploy.files.artifact import read_json
from qdeploy.head import EMBEDDINGS, MULTI_LABEL, SEQUENCES, TOKENS, Head, default_prompt, head_of
from qdeploy.schemas.manifest import EngineFields
from qdeploy.types import Json

SCRIPT = "predict.py"
# Runtimes that have a section, with the packages that the script then needs.
_SECTION = re.compile(r"^ *# <(?P<name>[a-z]+)>\n(?P<body>.*?)^ *# </(?P=name)>\n", re.M | re.S)
_FOR_CHECKERS = re.compile(r"  # type: ignore\[[a-z-]+\]$", re.M)
_TEMPLATE = "predict_template.py"
_PARTS = {"lines": "predict_lines.py", "spans": "predict_spans.py"}  # sections with files


def predict_script(directory: Path, manifest: EngineFields) -> str | None:
    """The text of an engine's `predict.py`; None for a target that has none.

    Args:
        directory: of the engine, with its tokenizer.
        manifest: fields of the engine.
    """
    target = TARGETS[manifest["target"]]
    runtime = target.script
    if runtime is None:
        return None
    head = head_of(directory, manifest)
    wanted = {runtime, *_of_head(head)}
    if text_columns(manifest) and head.task != EMBEDDINGS:
        wanted.add("texts")
    filled = {"constants": _constants(directory, manifest, head, wanted), "lines": _part("lines")}
    filled["answers"] = _part("spans") if "spans" in wanted else ""

    def chosen(found: re.Match[str]) -> str:
        if found["name"] in filled:
            return filled[found["name"]]
        return _SECTION.sub(chosen, found["body"]) if found["name"] in wanted else ""

    packages = " ".join(target.snippet().packages)
    template = _read(_TEMPLATE).replace("PACKAGES", packages)
    if "raw" in wanted:
        template = template.replace("Answers of the engine", "Outputs of the engine", 1)
    text = _SECTION.sub(chosen, template)
    return _FOR_CHECKERS.sub("", text)


def _part(name: str) -> str:
    found = _SECTION.search(_read(_PARTS[name]))
    assert found is not None
    return found["body"]


def _read(name: str) -> str:
    return resources.files("qdeploy.deploy").joinpath(name).read_text("utf-8")


def _of_head(head: Head) -> set[str]:
    """Sections that a head needs."""
    if head.task == TOKENS:
        return {"single", "whole", "tokens", "entities"}
    if head.task == EMBEDDINGS:
        return {"single", "whole", "embed"}
    if head.task != SEQUENCES:
        return {"tokens", "spans"}
    if score_function(head) is None:
        return {"whole", "raw"}
    found = {"whole", "classify"}
    return found | {"multi"} if head.problem_type == MULTI_LABEL else found


def score_function(head: Head) -> str | None:
    """What makes scores of logits in `predict.py`; None of an activation that is not known."""
    try:
        return head.score_function()
    except PlanError:
        return None


def _constants(directory: Path, manifest: EngineFields, head: Head, sections: set[str]) -> str:
    """Lines of the constants that the sections use."""
    config: dict[str, Json] = {}
    if (directory / "tokenizer_config.json").is_file():
        config = read_json(directory / "tokenizer_config.json")
    values: dict[str, Json] = {}
    if {"classify", "entities"} & sections:
        values["LABELS"] = list(head.labels)
    if "classify" in sections:
        values["FUNCTION"] = score_function(head)
    values |= {
        "INPUTS": list(manifest["inputs"]),
        "OUTPUTS": list(head.answers),
        "MAX_LENGTH": manifest["max_length"],
        "VOCABULARY": manifest.get("vocabulary") or 2**31,
        "PAD_ID": manifest["pad_token_id"],
        "TRUNCATION_SIDE": config.get("truncation_side", "right"),
        "PADDING_SIDE": config.get("padding_side", "right"),
    }
    if "entities" in sections:
        values["UNKNOWN_ID"] = _token_id(directory, config.get("unk_token"))
    if "spans" in sections:
        values["NO_ANSWER"] = None
    if "embed" in sections:
        values["PROMPT"] = default_prompt(manifest)
    if "texts" in sections:
        values["TEXTS"] = list(text_columns(manifest))
    if "openvino" in sections:
        values["REST_PRECISION"] = manifest["rest_precision"]
    return "".join(f"{name} = {_literal(value)}\n" for name, value in values.items())


def _literal(value: Json) -> str:
    """Python source of a text, a number, None, or a list of texts, in double quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if not isinstance(value, str):
        return repr(value)
    plain = repr(value)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in value else plain


def _token_id(directory: Path, token: Json) -> int | None:
    """The number of a token of the directory's tokenizer; None where it has none."""
    from tokenizers import Tokenizer

    name = token.get("content") if isinstance(token, dict) else token
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    found: int | None = tokenizer.token_to_id(name) if isinstance(name, str) else None
    return found
