"""Signatures of OpenSSF Model Signing over engine directories."""

from __future__ import annotations

import base64
import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import GateError, ModelError, OutputError, PlanError
from qdeploy.verification.whole import OF_HUBS
from tests import manifests
from tests.deploy.test_runtime import run_without
from tests.verification.conftest import Copy, failed, states

pytest.importorskip("model_signing")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PEM, PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
Key = ec.EllipticCurvePrivateKey


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a private key and of its public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _saved(folder / f"{name}.key", key), _public(folder / f"{name}.pub", key)


def _saved(path: Path, key: Key) -> Path:
    path.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    return path


def _public(path: Path, key: Key) -> Path:
    path.write_bytes(key.public_key().public_bytes(PEM, SPKI))
    return path


def certificate(path: Path, name: str, key: Key, issuer: str, signer: Key, *, root: bool) -> Path:
    """A certificate file that a signer gives to a key."""
    today = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    usage |= {"digital_signature": not root, "key_cert_sign": root, "crl_sign": root}
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(signer, hashes.SHA256())
    )
    path.write_bytes(built.public_bytes(PEM))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path, "own")


def test_a_signed_engine_holds_loads_and_is_taken_by_the_librarys_own_command(
    copy: Copy, engine: Callable[..., Path], keys: tuple[Path, Path]
) -> None:
    directory, (private, public) = copy(), keys
    found = qdeploy.sign(directory, key=private)
    assert found["method"] == "key" and Path(found["signature"]) == directory / "model.sig"
    assert found["files"] == len(list(engine().iterdir()))
    assert states(qdeploy.verify(directory, public_key=public))["signature"] == "ok"
    assert states(qdeploy.verify(directory))["signature"] == "not checked"
    pair = [("a", "b")]
    assert qdeploy.load(directory).predict(pair) == qdeploy.load(engine()).predict(pair)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory)]
    command += ["--signature", str(directory / "model.sig"), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name", ["model.onnx.data", "qdeploy.json", "tokenizer.json", "canary.json"]
)
def test_what_is_changed_after_signing_is_caught_even_with_a_new_manifest(
    copy: Copy, keys: tuple[Path, Path], name: str
) -> None:
    directory, (private, public) = copy(), keys
    qdeploy.sign(directory, key=private)
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content + b"\n")
    assert "signature" in failed(directory, public_key=public)
    if name != "qdeploy.json":
        (directory / "model.sig").rename(directory.parent / "model.sig")
        manifests.sign(directory)  # as somebody would who means it
        (directory.parent / "model.sig").rename(directory / "model.sig")
        found = failed(directory, public_key=public)
        assert list(found) == ["signature"]
        assert "not those that were signed" in found["signature"] and name in found["signature"]
        assert "sha256" not in found["signature"].lower()


def test_another_key_and_a_damaged_signature(
    copy: Copy, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    directory, (private, public) = copy(), keys
    qdeploy.sign(directory, key=private)
    _, other = key_pair(tmp_path, "other")
    text = failed(directory, public_key=other)["signature"]
    assert text == "model.sig is not by this key, or is damaged"
    whole = (directory / "model.sig").read_bytes()
    for at in range(0, len(whole), len(whole) // 12):
        changed = bytes([whole[at] ^ 1])
        (directory / "model.sig").write_bytes(whole[:at] + changed + whole[at + 1 :])
        assert "signature" in failed(directory, public_key=public), at
    (directory / "model.sig").write_bytes(b"")
    assert "does not hold" in failed(directory, public_key=public)["signature"]


def test_the_signature_goes_where_the_engine_goes(
    copy: Copy, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, (private, public) = copy("before"), keys
    monkeypatch.chdir(tmp_path)
    qdeploy.sign("before", key=private)
    qdeploy.sign("before", key=private, force=True)
    elsewhere = directory.rename(tmp_path / "after")
    (tmp_path / "link").symlink_to(elsewhere)
    monkeypatch.chdir(elsewhere)
    for place in (".", elsewhere, tmp_path / "link"):
        assert states(qdeploy.verify(place, public_key=public))["signature"] == "ok"
    (elsewhere / ".gitattributes").write_bytes(b"")  # as a hub adds it
    (elsewhere / ".cache" / "huggingface").mkdir(parents=True)
    (elsewhere / ".cache" / "huggingface" / "x").write_bytes(b"")
    assert failed(elsewhere, public_key=public) == {}
    (elsewhere / ".hidden").write_bytes(b"")
    assert {"files", "signature"} == set(failed(elsewhere, public_key=public))
    assert ".hidden came later" in failed(elsewhere, public_key=public)["signature"]
    (elsewhere / ".hidden").rename(tmp_path / ".hidden")
    (elsewhere / "plan.json").rename(tmp_path / "plan.json")
    assert "plan.json missing" in failed(elsewhere, public_key=public)["signature"]
    (tmp_path / "plan.json").rename(elsewhere / "plan.json")
    (elsewhere / "README.md").rename(tmp_path / "README.md")
    (elsewhere / "README.md").symlink_to(tmp_path / "README.md")
    assert "symlink" in failed(elsewhere, public_key=public)["signature"]


def test_what_git_and_the_hub_left_is_neither_signed_nor_counted(
    copy: Copy, engine: Callable[..., Path], keys: tuple[Path, Path]
) -> None:
    """Files, count and signature leave the same out, whether it was there before or comes after."""
    directory, (private, public) = copy(), keys
    built = len(list(engine().iterdir()))

    def left(content: bytes) -> None:
        for name in OF_HUBS:
            path = directory / name
            if not name.startswith(".gita") and name != ".gitignore":
                path.mkdir(exist_ok=True)
                path = path / "inner"
            path.write_bytes(content)

    left(b"before")
    found = qdeploy.sign(directory, key=private)
    signed = json.loads((directory / "model.sig").read_bytes())["dsseEnvelope"]["payload"]
    listed = json.loads(base64.b64decode(signed))["predicate"]["resources"]
    assert found["files"] == len(listed) == built
    left(b"after")
    assert failed(directory, public_key=public) == {}
    (directory / "deep").mkdir()
    (directory / "deep" / ".gitignore").write_bytes(b"")  # of the top alone it is passed over
    assert {"files", "signature"} == set(failed(directory, public_key=public))


def test_a_signed_engine_can_be_built_anew(
    copy: Copy, engine: Callable[..., Path], keys: tuple[Path, Path]
) -> None:
    directory = copy()
    qdeploy.sign(directory, key=keys[0])
    qdeploy.build(engine().parent / "model", directory, strategy="fp32", force=True)
    assert not (directory / "model.sig").exists() and failed(directory) == {}


def test_an_engine_that_is_not_signed(copy: Copy, keys: tuple[Path, Path]) -> None:
    text = failed(copy(), public_key=keys[1])["signature"]
    assert text == "the engine is not signed: no model.sig"


def test_certificates(copy: Copy, tmp_path: Path) -> None:
    root, leaf = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    top = certificate(tmp_path / "root.pem", "root", root, "root", root, root=True)
    own = certificate(tmp_path / "leaf.pem", "leaf", leaf, "root", root, root=False)
    other = certificate(tmp_path / "other.pem", "root", leaf, "root", leaf, root=True)
    private, directory = _saved(tmp_path / "leaf.key", leaf), copy()
    options = ["--key", str(private), "--certificate", str(own), "--certificate-chain", str(top)]
    assert main(["sign", str(directory), *options, "-q"]) == 0
    assert main(["verify", str(directory), "--certificate-chain", str(top), "-q"]) == 0
    assert "signature" in failed(directory, certificate_chain=[other])
    (directory / "README.md").write_bytes(b"")
    assert "signature" in failed(directory, certificate_chain=[top])


def test_what_is_not_signed(copy: Copy, keys: tuple[Path, Path], tmp_path: Path) -> None:
    directory, (private, _) = copy(), keys
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "rsa.key").write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    for file in (tmp_path / "rsa.key", Path(__file__)):
        with pytest.raises(PlanError, match="does not sign: .* Give a private key"):
            qdeploy.sign(directory, key=file)
    with pytest.raises(PlanError, match="none cannot be read: No such file"):
        qdeploy.sign(directory, key=tmp_path / "none")
    with pytest.raises(PlanError, match="Give --key FILE, or --sigstore"):
        qdeploy.sign(directory)
    with pytest.raises(PlanError, match="cannot be used: .* Give a public key"):
        qdeploy.sign(directory, key=private)
        qdeploy.verify(directory, public_key=tmp_path / "rsa.key")
    with pytest.raises(OutputError, match="Replace it with --force"):
        qdeploy.sign(directory, key=private)
    assert qdeploy.sign(directory, key=private, force=True)["files"] > 5
    with pytest.raises(PlanError, match="three ways to check one signature"):
        qdeploy.verify(directory, public_key=private, identity="a", identity_provider="b")
    with pytest.raises(PlanError, match="Give both"):
        qdeploy.verify(directory, identity="a")
    (directory / "plan.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="is not signed: plan.json is not the file that was built"):
        qdeploy.sign(directory, key=private, force=True)
    assert sorted(path.name for path in directory.glob(".*")) == []


def test_without_the_extra(copy: Copy, keys: tuple[Path, Path]) -> None:
    directory, (private, public) = copy(), keys
    signed = shutil.copytree(directory, directory.with_name("signed"))
    qdeploy.sign(signed, key=private)
    for call in (
        f"sign({str(directory)!r}, key={str(private)!r})",
        f"verify({str(signed)!r}, public_key={str(public)!r})",
    ):
        code = f"import qdeploy; qdeploy.{call}"
        _, _, said = run_without(("model_signing",), code)
        assert "PackageError: The package model_signing is not installed" in said
        assert "sign" in said.rpartition("Type: ")[2]
    status, _, said = run_without(
        ("model_signing",), f"import qdeploy; qdeploy.verify({str(signed)!r})"
    )
    assert status == 0, said


@pytest.mark.parametrize("chain", ["", ",", [""]])
def test_a_chain_that_names_no_file_is_not_passed_over(copy: Copy, chain: str | list[str]) -> None:
    """As of a variable of a shell that is not set: what was asked for is not left out."""
    with pytest.raises(PlanError, match="--certificate-chain names no file"):
        qdeploy.verify(copy(), certificate_chain=chain)


def test_a_key_that_names_no_file_is_not_passed_over(copy: Copy) -> None:
    with pytest.raises(PlanError, match="--public-key names no file"):
        qdeploy.load(copy(), public_key="")


def test_load_asks_who_signed(copy: Copy, keys: tuple[Path, Path], tmp_path: Path) -> None:
    directory, (private, public), pair = copy(), keys, [("a", "b")]
    answers = qdeploy.load(directory).predict(pair)
    with pytest.raises(GateError, match="signature: the engine is not signed"):
        qdeploy.load(directory, public_key=public)
    qdeploy.sign(directory, key=private)
    for options in ({"verify": True}, {"verify": "sha256"}, {}):
        loaded: Any = qdeploy.load(directory, public_key=public, **options)
        assert loaded.predict(pair) == answers
    _, other = key_pair(tmp_path, "other")
    strangers: list[dict[str, Any]] = [{"public_key": other}, {"certificate_chain": [other]}]
    for stranger in strangers:
        with pytest.raises((GateError, PlanError), match=r"model\.sig|cannot be used"):
            qdeploy.load(directory, verify=True, **stranger)
    for verify in ("stat", False):
        with pytest.raises(PlanError, match="public_key names who signed, .* Write verify=True"):
            qdeploy.load(directory, verify=verify, public_key=public)
    with pytest.raises(PlanError, match="Give both"):
        qdeploy.load(directory, identity="a")


def test_links_are_not_signed(copy: Copy, tmp_path: Path) -> None:
    directory, linked = copy(), tmp_path / "linked"
    linked.mkdir()
    for path in directory.iterdir():
        (linked / path.name).symlink_to(path)
    private, _ = key_pair(tmp_path, "k")
    with pytest.raises(ModelError, match=r"holds links .*cp -rL"):
        qdeploy.sign(linked, key=private)
    assert not (linked / "model.sig").exists()
