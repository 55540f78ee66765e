"""Which CA folders are taken, and how our own is made."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gossamer.ca.authority import Authority, workload_names
from gossamer.ca.certificates import PrivateKey, build_request, chain_pem, key_pem, load_chain, new_key, verify_request
from gossamer.ca.folder import create_authority, load_authority, open_authority
from gossamer.ca.spiffe import workload_id
from gossamer.core.errors import IdentityError, StateError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def sign(authority: Authority, request: bytes, *, lifetime: timedelta = timedelta(days=1)) -> bytes:
    workload = workload_id(trust_domain="cluster.local", namespace="default", service_account="a", name="w")
    return authority.sign(verify_request(request), workload_names(workload), now=NOW, lifetime=lifetime, serial=7)


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "cluster.local", NOW)
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert files == dict.fromkeys(("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"), 0o600)


def test_a_root_is_made_once(tmp_path: Path) -> None:
    def fingerprint(_: int) -> str:
        return open_authority(tmp_path / "ca", "cluster.local", NOW).root_fingerprint

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fingerprint, range(8)))) == 1
    assert fingerprint(0) == load_authority(tmp_path / "ca", "cluster.local", NOW).root_fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "notes").write_text("mine")
    with pytest.raises(StateError, match="cannot make the CA folder"):
        open_authority(tmp_path / "ca", "cluster.local", NOW)
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["notes"]


class Plugged:
    """A company's CA as an operator would plug it in: root, intermediate, signing certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, PrivateKey] = {name: new_key() for name in ("root", "middle", "signing")}
        self.root = certificate(self.keys["root"], "root", self.keys["root"], "root", path_length=2)
        self.middle = certificate(self.keys["middle"], "middle", self.keys["root"], "root", path_length=1)
        self.signing = certificate(self.keys["signing"], "signing", self.keys["middle"], "middle", path_length=0)
        self.chain: tuple[x509.Certificate, ...] = (self.signing, self.middle, self.root)
        self.roots: tuple[x509.Certificate, ...] = (self.root,)

    def write(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "ca-cert.pem").write_bytes(chain_pem([self.signing]))
        (self.folder / "ca-key.pem").write_bytes(key_pem(self.keys["signing"]))
        (self.folder / "root-cert.pem").write_bytes(chain_pem(self.roots))
        (self.folder / "cert-chain.pem").write_bytes(chain_pem(self.chain))
        return self.folder


def certificate(
    key: PrivateKey,
    name: str,
    issuer_key: PrivateKey,
    issuer: str,
    *,
    ca: bool = True,
    path_length: int | None = None,
    days: tuple[int, int] = (-10, 10),
    signs: bool = True,
) -> x509.Certificate:
    def called(what: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, what)])

    usage = x509.KeyUsage(not signs, False, False, False, False, signs, False, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


@pytest.fixture
def plugged(tmp_path: Path) -> Plugged:
    return Plugged(tmp_path / "plugged")


def test_a_plugged_in_ca_signs_with_its_chain(plugged: Plugged) -> None:
    authority = load_authority(plugged.write(), "cluster.local", NOW)
    chain = load_chain(sign(authority, build_request(new_key())), "chain")
    assert chain[1:] == (plugged.signing, plugged.middle)
    chain[0].verify_directly_issued_by(plugged.signing)
    assert chain[0].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert authority.root == plugged.root
    assert load_chain(authority.roots_pem, "roots") == (plugged.root,)


def test_the_chain_may_come_in_any_order_and_the_root_need_not_be_there(plugged: Plugged) -> None:
    plugged.chain = (plugged.root, plugged.middle, plugged.signing)
    assert load_authority(plugged.write(), "cluster.local", NOW).chain == (plugged.signing, plugged.middle)
    plugged.chain = (plugged.middle, plugged.signing, plugged.signing)
    assert load_authority(plugged.write(), "cluster.local", NOW).chain == (plugged.signing, plugged.middle)


def test_a_root_may_sign_by_itself_without_a_chain_file(plugged: Plugged) -> None:
    plugged.signing, plugged.keys["signing"] = plugged.root, plugged.keys["root"]
    folder = plugged.write()
    (folder / "cert-chain.pem").unlink()
    authority = load_authority(folder, "cluster.local", NOW)
    assert (authority.chain, authority.root) == ((), plugged.root)


def test_several_roots_are_all_trusted(plugged: Plugged) -> None:
    other = Plugged(plugged.folder).root
    plugged.roots = (other, plugged.root, other)
    authority = load_authority(plugged.write(), "cluster.local", NOW)
    assert authority.roots == (other, plugged.root)
    assert authority.root == plugged.root


def test_a_root_renewed_with_its_key_replaces_the_one_that_ended(plugged: Plugged) -> None:
    ended = certificate(plugged.keys["root"], "root", plugged.keys["root"], "root", days=(-20, -1))
    plugged.roots = (ended, plugged.root)
    plugged.chain = (plugged.signing, plugged.middle)
    assert load_authority(plugged.write(), "cluster.local", NOW).root == plugged.root


def test_a_plugged_in_leaf_ends_with_the_shortest_of_the_chain(plugged: Plugged) -> None:
    plugged.middle = certificate(plugged.keys["middle"], "middle", plugged.keys["root"], "root", days=(-1, 1))
    plugged.chain = (plugged.signing, plugged.middle)
    authority = load_authority(plugged.write(), "cluster.local", NOW)
    (leaf, *_) = load_chain(sign(authority, build_request(new_key()), lifetime=timedelta(days=5)), "chain")
    assert leaf.not_valid_after_utc == NOW + timedelta(days=1)


def break_key(plugged: Plugged) -> None:
    plugged.keys["signing"] = new_key()


def break_chain(plugged: Plugged) -> None:
    plugged.chain = (plugged.signing,)


def break_root(plugged: Plugged) -> None:
    stranger = new_key()
    plugged.roots = (certificate(stranger, "root", stranger, "root"),)
    plugged.chain = (plugged.signing, plugged.middle)


def break_authority(plugged: Plugged) -> None:
    plugged.signing = certificate(plugged.keys["signing"], "signing", plugged.keys["middle"], "middle", ca=False)


def break_age(plugged: Plugged) -> None:
    plugged.signing = certificate(plugged.keys["signing"], "signing", plugged.keys["middle"], "middle", days=(-10, -1))


def break_root_age(plugged: Plugged) -> None:
    plugged.root = certificate(plugged.keys["root"], "root", plugged.keys["root"], "root", days=(-10, -1))
    plugged.roots = (plugged.root,)
    plugged.chain = (plugged.signing, plugged.middle)


def break_beginning(plugged: Plugged) -> None:
    plugged.signing = certificate(plugged.keys["signing"], "signing", plugged.keys["middle"], "middle", days=(1, 9))


def break_usage(plugged: Plugged) -> None:
    plugged.signing = certificate(plugged.keys["signing"], "signing", plugged.keys["middle"], "middle", signs=False)


def break_depth(plugged: Plugged) -> None:
    plugged.middle = certificate(plugged.keys["middle"], "middle", plugged.keys["root"], "root", path_length=0)
    plugged.chain = (plugged.signing, plugged.middle)


def break_kind(plugged: Plugged) -> None:
    key = rsa.generate_private_key(65537, 1024)
    plugged.keys["signing"] = key
    plugged.signing = certificate(key, "signing", plugged.keys["middle"], "middle")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_key, "not the key of the certificate"),
        (break_chain, "'CN=signing' was issued by CN=middle"),
        (break_root, "'CN=middle' was issued by CN=root"),
        (break_authority, "'CN=signing' is not a CA certificate"),
        (break_age, "'CN=signing' ended on 2029-12-31"),
        (break_root_age, "'CN=root' ended on 2029-12-31"),
        (break_beginning, "'CN=signing' is only valid from 2030-01-02"),
        (break_usage, "'CN=signing' does not allow to sign"),
        (break_depth, "'CN=middle' allows 0 CAs below it; there are 1"),
        (break_kind, "must be ECDSA"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_plugged_in_ca_that_does_not_fit_is_refused(plugged: Plugged, damage: object, said: str) -> None:
    assert callable(damage)
    damage(plugged)
    with pytest.raises(IdentityError, match=said):
        load_authority(plugged.write(), "cluster.local", NOW)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ca-cert.pem", None, "cannot read ca-cert.pem: No such file"),
        ("root-cert.pem", None, "cannot read root-cert.pem"),
        ("ca-key.pem", None, "cannot read ca-key.pem"),
        ("ca-key.pem", b"junk", "ca-key.pem holds no private key"),
        ("ca-cert.pem", b"junk", "ca-cert.pem holds no certificates"),
        ("cert-chain.pem", b"junk", "cert-chain.pem holds no certificates"),
    ],
)
def test_a_broken_file_is_named(plugged: Plugged, name: str, content: bytes | None, said: str) -> None:
    path = plugged.write() / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(IdentityError, match=said):
        load_authority(plugged.folder, "cluster.local", NOW)


def test_an_encrypted_key_is_refused(plugged: Plugged) -> None:
    folder = plugged.write()
    encryption = serialization.BestAvailableEncryption(b"secret")
    key = plugged.keys["signing"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    (folder / "ca-key.pem").write_bytes(key)
    with pytest.raises(IdentityError, match="unencrypted PEM"):
        load_authority(folder, "cluster.local", NOW)
