"""The options of `verify` and of `sign`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qdeploy import common_options as common
from qdeploy.errors import PlanError
from qdeploy.options import MEASURED, OUTPUT, Options, option
from qdeploy.types import PathLike

SIGNATURE = "Signature"
_CHAIN = "Certificates from the signing one up to the root, as PEM files."


@dataclass(frozen=True)
class VerifyOptions(Options):
    """What an engine is held against, beside what stands in its directory."""

    public_key: PathLike | None = option(
        None,
        "Public key of who signed the engine, a PEM file.",
        group=SIGNATURE,
        is_path=True,
        metavar="FILE",
    )
    certificate_chain: Sequence[PathLike] | str | None = option(
        None,
        f"{_CHAIN} For engines that were signed with a certificate.",
        group=SIGNATURE,
        metavar="FILE,...",
    )
    identity: str | None = option(
        None,
        "Who signed with Sigstore, as its certificate says: an e-mail address, or a workflow.",
        group=SIGNATURE,
        metavar="NAME",
    )
    identity_provider: str | None = option(
        None, "Who vouches for that identity.", group=SIGNATURE, metavar="URL"
    )
    report: PathLike | None = option(
        None,
        "Report of `qdeploy eval --json`: its latency is shown beside that of this machine.",
        group=MEASURED,
        is_path=True,
        metavar="FILE",
    )
    threads: int | None = common.threads()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.public_key is not None and not str(self.public_key).strip():
            raise PlanError("--public-key names no file. Name one, or leave it out.")
        given = [self.public_key is not None, bool(self.chain), self.identity is not None]
        if sum(given) > 1:
            raise PlanError(
                "--public-key, --certificate-chain and --identity are three ways to check one "
                "signature. Give the one that it was signed by."
            )
        if (self.identity is None) != (self.identity_provider is None):
            raise PlanError(
                "--identity and --identity-provider belong together: who signed, and who vouches "
                "for that. Give both."
            )

    @property
    def chain(self) -> tuple[Path, ...]:
        """The files of --certificate-chain."""
        return paths_of(self.certificate_chain)


@dataclass(frozen=True)
class SignOptions(Options):
    """What an engine is signed with."""

    key: PathLike | None = option(
        None,
        "Private key: a PEM file, of an elliptic curve (secp256r1, secp384r1 or secp521r1).",
        group=SIGNATURE,
        is_path=True,
        metavar="FILE",
    )
    certificate: PathLike | None = option(
        None,
        "Certificate of the key, a PEM file: the signature then holds it.",
        group=SIGNATURE,
        is_path=True,
        metavar="FILE",
    )
    certificate_chain: Sequence[PathLike] | str | None = option(
        None, f"{_CHAIN} With --certificate.", group=SIGNATURE, metavar="FILE,..."
    )
    sigstore: bool = option(
        False,
        "Sign with an identity of Sigstore in place of a key: needs a network and a browser.",
        group=SIGNATURE,
    )
    force: bool = option(False, "Replace the signature that is there.", group=OUTPUT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.key is None) != self.sigstore:
            raise PlanError("Give --key FILE, or --sigstore: one of them signs.")
        if self.certificate is not None and self.key is None:
            raise PlanError("--certificate is of a key: give --key too.")
        if self.chain and self.certificate is None:
            raise PlanError("--certificate-chain belongs to a certificate: give --certificate too.")

    @property
    def chain(self) -> tuple[Path, ...]:
        """The files of --certificate-chain."""
        return paths_of(self.certificate_chain)


def paths_of(named: Sequence[PathLike] | str | None) -> tuple[Path, ...]:
    """Paths that are listed, also as one text with commas; none where nothing was said.

    Raises:
        PlanError: a name that is empty, as of a variable of a shell that is not set.
    """
    if named is None:
        return ()
    listed = named.split(",") if isinstance(named, str) else named
    if not listed or any(not str(one).strip() for one in listed):
        raise PlanError("--certificate-chain names no file. Name one, or leave it out.")
    return tuple(Path(one) for one in listed)
