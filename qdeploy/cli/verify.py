"""`qdeploy verify` and `qdeploy sign`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import options, sections, tables
from qdeploy.cli import output as talk
from qdeploy.files.kept import note
from qdeploy.schemas.verification import Signed, Verified
from qdeploy.verification.options import SignOptions, VerifyOptions


@sections.command()
@click.argument("engine_dir", type=options.PATH)
@options.of(VerifyOptions)
@options.reporting
def verify(engine_dir: Path, **settings: Any) -> None:
    """Check an engine on the machine that serves it, in seconds.

    Every file against its sha256 and no file too many; the signature, where there is one; tokens
    and outputs of rows that `build` stored; the kernels that run here against the certificate; the
    processor against that of the certificate; and, as a note, the time of a run. Exit code 1 where
    a check fails.
    """
    result, failure = talk.gated(partial(api.verify, engine_dir, **settings))
    talk.report(result, _show)
    if failure is not None:
        raise failure


def _show(found: Verified) -> None:
    for check in found["checks"]:
        tables.wrapped(f"{check['state']:12} {check['name']:10} {check['text']}", hanging=" " * 24)
    states = [check["state"] for check in found["checks"]]
    words = [
        f"{states.count(state)} {state}"
        for state in ("ok", "failed", "not checked")
        if (state in states)
    ]
    tables.say(f"{found['engine']}: {', '.join(words)}; {found['seconds']:.1f} s")


@sections.command()
@click.argument("engine_dir", type=options.PATH)
@options.of(SignOptions)
@options.reporting
def sign(engine_dir: Path, **settings: Any) -> None:
    """Sign an engine: model.sig, for all its files.

    The signature is of OpenSSF Model Signing (OMS), so that other tools check it too. The engine
    loads as before; `qdeploy verify --public-key FILE` checks it.
    """
    result = api.sign(engine_dir, **settings)
    note("output", f"{result['signature']} was written")
    talk.report(result, _signed)


def _signed(found: Signed) -> None:
    tables.say(f"{found['signature']} signs {found['files']} files.")
    option = {
        "key": "--public-key FILE",
        "certificate": "--certificate-chain FILE",
        "sigstore": "--identity NAME --identity-provider URL",
    }[found["method"]]
    tables.following("verify", Path(found["engine"]), note=f"with {option}")
