"""Signatures of OpenSSF Model Signing (OMS): one file beside those that it signs, `model.sig`.

The library hashes every file of the directory, and signs the list. So a signature covers what
nothing else does: that the manifest itself is the signer's.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.errors import ModelError, OutputError, PlanError
from qdeploy.files.artifact import SIGNATURE, replacing
from qdeploy.machine.remedies import require
from qdeploy.options import given_or
from qdeploy.schemas.verification import Signed
from qdeploy.types import PathLike
from qdeploy.verification.options import SignOptions, VerifyOptions
from qdeploy.verification.whole import OF_HUBS, faults_of, named, own_files

if TYPE_CHECKING:
    import model_signing.signing

# As the library says what differs.
_CHANGED = re.compile("Hash mismatch for '([^']+)'")
_EXTRA = re.compile("Extra files found in model '[^']*': ([^'\"]+)")
_MISSING = re.compile("Missing files in model '[^']*': ([^'\"]+)")
PACKAGE = "model_signing"
_CURVES = "secp256r1, secp384r1 or secp521r1 (`openssl ecparam -name prime256v1 -genkey -noout`)"


def sign_engine(engine_dir: PathLike, options: SignOptions | None = None, **fields: Any) -> Signed:
    """Write the signature of an engine directory; see `qdeploy.api.sign`.

    Raises:
        PackageError: the extra `sign` is not installed.
        ModelError: not an engine directory, or its files are not those that were built.
        PlanError: a key or a certificate that does not sign.
        OutputError: it is signed already.
    """
    asked = given_or(SignOptions, options, fields)
    require(PACKAGE)
    directory = Path(engine_dir)
    faults, _ = faults_of(directory)
    if faults:
        raise ModelError(
            f"{directory} is not as it was built, and is not signed: {named(faults)}. Build the "
            "engine again."
        )
    place = directory / SIGNATURE
    if place.exists() and not asked.force:
        raise OutputError(f"{place} exists: the engine is signed. Replace it with --force.")
    method = "sigstore" if asked.sigstore else "key" if asked.certificate is None else "certificate"
    config = _signer(asked)
    # the library refuses links in folders that it passes over, too
    links = [path.name for path in directory.rglob("*") if path.is_symlink()]
    if links:
        raise ModelError(
            f"{directory} holds links ({named(links)}), and a signature is of files. Copy it with "
            "what they lead to (`cp -rL`), and sign that."
        )
    with replacing(place) as partial, _quietly():
        try:
            config.sign(Path(os.path.realpath(directory)), partial)
        except Exception as error:  # of the library, of Sigstore or of its network
            raise PlanError(
                f"{directory} was not signed: {_reason(error)}. Look at the key or, of --sigstore, "
                "at the network."
            ) from error
    return {
        "engine": str(directory),
        "signature": str(place),
        "method": method,
        "files": len(own_files(directory)) - 1,  # but for the signature
    }


def _signer(asked: SignOptions) -> model_signing.signing.Config:
    """What signs, over all files but the signature.

    Raises:
        PlanError: a key or a certificate that cannot be used.
    """
    from model_signing import hashing, signing

    files = hashing.Config().set_ignored_paths(paths=[SIGNATURE, *OF_HUBS])
    config = signing.Config().set_hashing_config(files)
    if asked.sigstore:
        return config.use_sigstore_signer()
    assert asked.key is not None
    try:
        if asked.certificate is None:
            return config.use_elliptic_key_signer(private_key=Path(asked.key))
        return config.use_certificate_signer(
            private_key=Path(asked.key),
            signing_certificate=Path(asked.certificate),
            certificate_chain=asked.chain,
        )
    except OSError as error:
        raise PlanError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except Exception as error:  # cryptography raises classes of its own for each cause
        what = f"{asked.key}" + ("" if asked.certificate is None else f" with {asked.certificate}")
        raise PlanError(
            f"{what} does not sign: {_reason(error)}. Give a private key without a password, as "
            f"PEM, of a curve {_CURVES}."
        ) from error


def signature_fault(directory: Path, asked: VerifyOptions) -> str:
    """Why the signature is not that of the signer that was named; empty where it is.

    Raises:
        PackageError: the extra `sign` is not installed.
        PlanError: a key or a certificate that cannot be read.
    """
    require(PACKAGE)
    from model_signing import verifying

    config = verifying.Config()
    try:
        if asked.public_key is not None:
            config.use_elliptic_key_verifier(public_key=Path(asked.public_key))
        elif asked.identity is not None and asked.identity_provider is not None:
            config.use_sigstore_verifier(
                identity=asked.identity, oidc_issuer=asked.identity_provider
            )
        else:
            config.use_certificate_verifier(certificate_chain=asked.chain)
    except OSError as error:
        raise PlanError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except Exception as error:  # see `_signer`
        raise PlanError(
            f"{asked.public_key or ', '.join(map(str, asked.chain))} cannot be used: "
            f"{_reason(error)}. Give a public key, or certificates, as PEM."
        ) from error
    place = Path(os.path.realpath(directory))
    try:
        with _quietly():
            config.verify(place, place / SIGNATURE)
    except Exception as error:  # the library's own, cryptography's and those of its parsers
        return _plain(error)
    return ""


def _plain(error: Exception) -> str:
    """What the library found, without digests."""
    reason = _reason(error).replace("\\'", "'")  # bytes of a digest decide how it is quoted
    found = [
        *(f"{name} is another" for name in _CHANGED.findall(reason)),
        *(f"{names} came later" for names in _EXTRA.findall(reason)),
        *(f"{names} missing" for names in _MISSING.findall(reason)),
    ]
    if found:
        return f"the files are not those that were signed: {named(found)}"
    if "Key mismatch" in reason or type(error).__name__ == "InvalidSignature":
        return f"{SIGNATURE} is not by this key, or is damaged"
    return f"{SIGNATURE} does not hold: {reason}"


def _reason(error: Exception) -> str:
    if isinstance(error, AttributeError) and "curve" in str(error):  # the library asks any key
        return "it is of no elliptic curve"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Standard output is for results: what the library prints goes beside it."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
