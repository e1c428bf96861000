"""Tokens, the registry, enrollment, users and the audit log over a real store."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from edgeloop.errors import ConfigError, DataError, RefusedError, UsageError
from edgeloop.telemetry.collector.limits import Rate
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.enrollment import Issued, NameTakenError, Wanted
from edgeloop.telemetry.collector.security.rate import Buckets
from edgeloop.telemetry.collector.security.secrets import API, DEVICE, ENROLL, Secret, hash_password, is_password
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.tables.registry import AUDIT, REGISTRY, TOKENS, USERS
from support.collecting import make_report


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority.create(tmp_path_factory.mktemp("ca") / "tls", ["collector.local", "10.1.2.3"]).folder


@pytest.fixture
def security(store: Store, ca: Path) -> Security:
    return Security.over(store.database, ca)


def bearer(number: int = 1) -> Wanted:
    return Wanted(bearer_sha256=f"{number:064x}")


def enroll(security: Security, token: Secret, device: str = "pi-1", wanted: Wanted | None = None) -> Issued:
    return security.enrollment.enroll(token.text, device, wanted or bearer(), "10.0.0.9")


def test_a_token_enrolls_as_often_as_it_says_and_gives_its_group_and_tags(security: Security) -> None:
    token = security.create_token(ENROLL, "ann", uses=2, group="lab", tags={"site": "berlin"})
    for number in (1, 2):
        assert enroll(security, token, f"pi-{number}", bearer(number)).kind == "bearer"
    with pytest.raises(RefusedError, match="used up"):
        enroll(security, token, "pi-3", bearer(3))
    assert security.registry.members("lab", {"site": "berlin"}) == {"pi-1", "pi-2"}
    assert security.registry.members("lab", {"site": "paris"}) == set() == security.registry.members("other", {})


def test_a_token_for_one_use_is_used_once_however_many_try_at_once(security: Security) -> None:
    token = security.create_token(ENROLL, "ann", uses=1)
    outcomes: list[object] = []
    start = threading.Barrier(8)

    def try_it(number: int) -> None:
        start.wait()
        try:
            outcomes.append(enroll(security, token, f"pi-{number}", bearer(number)))
        except RefusedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
    assert len(security.registry.list()) == 1
    assert security.tokens.list()[0].used == 1


def test_the_same_request_again_gets_the_same_and_costs_no_use(security: Security) -> None:
    token = security.create_token(ENROLL, "ann", uses=1)
    first = enroll(security, token)
    assert enroll(security, token).to_dict() | {"expires_s": 0} == first.to_dict() | {"expires_s": 0}
    assert security.tokens.list()[0].used == 1


def test_a_name_that_is_taken_stays_with_its_device_unless_the_operator_says_so(security: Security) -> None:
    enroll(security, security.create_token(ENROLL, "ann", uses=1))
    spare = security.create_token(ENROLL, "ann", uses=1)
    with pytest.raises(NameTakenError, match="already"):
        enroll(security, spare, wanted=bearer(2))
    assert security.tokens.find(spare), "a refusal costs no use"
    anew = security.create_token(ENROLL, "ann", uses=1, subject="pi-1")
    with pytest.raises(RefusedError, match="another device"):
        enroll(security, anew, "pi-2", bearer(2))
    enroll(security, anew, wanted=bearer(2))
    assert security.registry.owner_of(f"{1:064x}") is None, "the old credential ended"
    found = security.registry.owner_of(f"{2:064x}")
    assert found is not None and found.device == "pi-1"


def test_revoked_expired_foreign_and_invented_tokens_are_refused(security: Security) -> None:
    revoked = security.create_token(ENROLL, "ann", uses=1)
    security.revoke_token(revoked.id, "ann")
    expired = security.tokens.create(ENROLL, "ann", uses=1, lasts_s=-1.0)
    invented = Secret.make(ENROLL)
    half = Secret(ENROLL, revoked.id, f"elt-{revoked.id}-{'A' * 43}")
    for token, reason in ((revoked, "revoked"), (expired, "expired"), (invented, "not known"), (half, "not known")):
        with pytest.raises(RefusedError, match=reason):
            enroll(security, token)
    api = security.create_token(API, "ann", subject="prometheus", role="viewer")
    with pytest.raises(RefusedError, match="no enrollment token"):
        enroll(security, api)
    assert security.registry.list() == []
    with pytest.raises(DataError, match="to revoke"):
        security.revoke_token(revoked.id, "ann")


def test_revoked_devices_stay_listed_and_removed_ones_may_come_back(security: Security) -> None:
    enroll(security, security.create_token(ENROLL, "ann", uses=1))
    security.registry.revoke(["pi-1"], "ann")
    found = security.registry.owner_of(f"{1:064x}")
    assert found is not None and found.status == "revoked"
    again = security.create_token(ENROLL, "ann", uses=1)
    with pytest.raises(NameTakenError):
        enroll(security, again)
    security.registry.remove(["pi-1"], "ann")
    enroll(security, again)
    assert security.registry.get("pi-1").status == "enrolled"
    with pytest.raises(DataError, match="no device"):
        security.registry.remove(["pi-9"], "ann")


def test_a_renewed_credential_counts_beside_the_old_one_until_it_is_used(security: Security) -> None:
    enroll(security, security.create_token(ENROLL, "ann", uses=1))
    security.enrollment.renew("pi-1", bearer(2), "10.0.0.9")
    assert security.registry.owner_of(f"{1:064x}") is not None, "the answer may have been lost"
    assert security.registry.owner_of(f"{2:064x}") is not None
    assert security.registry.owner_of(f"{1:064x}") is None


def test_devices_that_only_report_can_be_tagged_and_grouped(store: Store, security: Security) -> None:
    store.insert([make_report(device="pi-7")])
    security.registry.tag(["pi-7"], {"site": "ulm", "rack": "2"}, (), "ann")
    security.registry.tag(["pi-7"], {}, {"rack"}, "ann")
    security.registry.set_group(["pi-7"], "field", "ann")
    found = security.registry.get("pi-7")
    assert (found.tags, found.group, found.status) == ({"site": "ulm"}, "field", "known")
    assert found.last_seen_s is not None
    with pytest.raises(DataError, match="pi-8"):
        security.registry.tag(["pi-8"], {"a": "b"}, (), "ann")
    enroll(security, security.create_token(ENROLL, "ann", uses=1), "pi-7")
    assert security.registry.get("pi-7").tags == {"site": "ulm"}


def test_no_secret_is_in_the_store(tmp_path: Path, store: Store, security: Security) -> None:
    token = security.create_token(ENROLL, "ann", uses=1)
    security.users.add("ann", "correct horse battery", "operator", "ann")
    session = security.users.log_in("ann", "correct horse battery", "10.0.0.9")
    assert session is not None
    store.close()
    if store.url.startswith("sqlite"):
        everything = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
    else:
        with open_store(store.url).database.reader.connect() as connection:
            rows = [connection.execute(select(table)).all() for table in (TOKENS, USERS, AUDIT, REGISTRY)]
        everything = repr(rows).encode()
    for secret in (token.text, session.text, "correct horse battery"):
        assert secret.encode() not in everything
        assert secret.split("-")[-1].encode() not in everything
    assert token.text not in repr(token)


def test_every_deed_is_in_the_audit_log(security: Security) -> None:
    token = security.create_token(ENROLL, "ann", uses=1)
    enroll(security, token)
    with pytest.raises(RefusedError):
        enroll(security, token, "pi-2", bearer(2))
    security.users.add("ann", "correct horse battery", "operator", "root")
    assert security.users.log_in("ann", "wrong", "10.0.0.9") is None
    security.users.remove("ann", "root")
    security.registry.revoke(["pi-1"], "ann")
    entries = security.audit.entries()
    assert [entry.action for entry in entries] == [
        "token.create", "device.enroll", "device.refused", "user.add", "login.failed", "user.remove", "device.revoke",
    ]  # fmt: skip
    assert entries[1].who == f"token {token.id}" and entries[1].origin == "10.0.0.9"
    assert [entry.subject for entry in security.audit.entries(action="device", limit=1)] == ["pi-1"]


def test_passwords() -> None:
    stored = hash_password("correct horse battery")
    assert is_password("correct horse battery", stored)
    assert not is_password("wrong", stored) and not is_password("wrong", None) and not is_password("x", "scrypt$1$2")
    with pytest.raises(UsageError, match="10 to"):
        hash_password("short")


def test_a_removed_user_has_no_session_any_more(security: Security) -> None:
    security.users.add("ann", "correct horse battery", "viewer", "root")
    session = security.users.log_in("ann", "correct horse battery", "x")
    assert session is not None and security.tokens.find(session)
    security.users.set_password("ann", "another long password", "root")
    assert security.tokens.find(session) is None


def test_buckets_take_bursts_and_then_a_rate() -> None:
    buckets = Buckets(Rate(per_s=2.0, burst=3.0))
    assert [buckets.wait_s("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert buckets.wait_s("a", 0.0) == 0.5
    assert buckets.wait_s("b", 0.0) == 0.0
    assert buckets.wait_s("a", 0.5) == 0.0
    buckets.give_back("a")
    assert buckets.wait_s("a", 0.5) == 0.0 < buckets.wait_s("a", 0.5)


def test_a_ca_is_made_once_and_kept_private(ca: Path, tmp_path: Path) -> None:
    authority = Authority.load(ca)
    assert authority.server.names == ("collector.local", "10.1.2.3", "localhost", "127.0.0.1", "::1")
    assert {path.name: path.stat().st_mode & 0o777 for path in ca.iterdir()} == {
        "ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600,
    }  # fmt: skip
    with pytest.raises(UsageError, match="already"):
        Authority.create(ca)
    with pytest.raises(ConfigError, match="no CA"):
        Authority.load(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in ca.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
        (copy / path.name).chmod(0o644)
    with pytest.raises(RefusedError, match="read by others"):
        Authority.load(copy)
    with pytest.raises(UsageError, match="no name"):
        Authority.create(tmp_path / "new", ["http://x/"])


@pytest.mark.parametrize("csr", ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "x" * 5000, "é"])
def test_what_is_no_signing_request_is_refused(ca: Path, csr: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Authority.load(ca).sign_device("pi-1", csr)


def test_a_bearer_ends_in_time_even_while_its_renewal_waits(security: Security) -> None:
    secret = Secret.make(DEVICE)
    enroll(security, security.create_token(ENROLL, "ann", uses=1), wanted=Wanted(bearer_sha256=secret.hash))
    now = time.time()
    for later_s, role in ((0.0, "device"), (91 * 86400.0, "public")):
        identities = replace(security.identities, clock=lambda at=now + later_s: at)
        assert identities.who(f"bearer {secret.text}").role == role
        security.enrollment.renew("pi-1", bearer(2), "10.0.0.9")
