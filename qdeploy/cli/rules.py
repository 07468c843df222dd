"""Rules of a target that a file breaks."""

from __future__ import annotations

from qdeploy.cli import tables
from qdeploy.names import short_name
from qdeploy.schemas.inspection import Contract, RuleSummary


def show(found: Contract, *, verbose: bool) -> None:
    """Broken rules, each once; with `verbose` each of them."""
    target, errors = found["target"], found["errors"]
    verdict = "keeps the rules" if not errors else f"breaks the rules in {errors} places"
    tables.say("")
    tables.say(f"{target}: {verdict}, {found['advice']} of advice")
    if verbose:
        for one in found["violations"]:
            tables.wrapped(
                f"  {one['severity']}: {one['node']}: {one['text']}; {one['remedy']} "
                f"({one['rule']})"
            )
        return
    for rule in found["rules"]:
        _rule(rule)


def _rule(rule: RuleSummary) -> None:
    """A rule, how often it is broken, what to do, and the first places."""
    count, places = rule["count"], rule["places"]
    texts = {place["text"] for place in places}
    fact = f": {places[0]['text']}" if len(texts) == 1 else ""
    tables.wrapped(
        f"{rule['severity']} {rule['rule']}, {count} place{'s' if count > 1 else ''}{fact}. "
        f"To do: {rule['remedy']}."
    )
    for place in places:
        own = f": {place['text']}" if len(texts) > 1 else ""
        tables.wrapped(f"{short_name(place['node'])}{own}", indent="    ")
    if more := count - len(places):
        tables.say(f"    and {more} more (all of them: -v)")
