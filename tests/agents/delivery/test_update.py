"""The rules of an update."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop_agent.delivery.update import (
    Admit,
    Budget,
    Commit,
    Device,
    Health,
    IsThere,
    Offer,
    Refuse,
    Rehearsal,
    RollBack,
    Standing,
    Trial,
    Version,
    Wait,
    Window,
    back_to,
    judge_health,
    judge_offer,
    judge_rehearsal,
    to_remove,
)

OLD, NOW, NEW = Version(6, "a" * 16), Version(7, "b" * 16), Version(8, "c" * 16)
STANDING = Standing(NOW, NOW, None, 7, {}, [OLD, NOW], {OLD.digest, NOW.digest})
BOARD = Device("rpi4", {"rpi-armv7", "generic-x86-64"}, 1 << 30)
OFFER = Offer(NEW, "rpi4", 5 << 20)


def reason(verdict: object) -> str:
    assert isinstance(verdict, Refuse), verdict
    return verdict.reason


def test_a_newer_version_for_this_board_is_tried() -> None:
    assert judge_offer(OFFER, STANDING, BOARD) == Admit()
    assert judge_offer(OFFER, Standing(), BOARD) == Admit()


def test_what_runs_already_is_no_update() -> None:
    assert judge_offer(replace(OFFER, version=NOW), STANDING, BOARD) == IsThere()


@pytest.mark.parametrize(
    ("offer", "standing", "board", "why"),
    [
        (replace(OFFER, version=OLD), STANDING, BOARD, "version 6 is older than 7, which ran here"),
        (replace(OFFER, version=Version(7, "d" * 16)), STANDING, BOARD, "another version 7 runs here"),
        (replace(OFFER, target="generic-x86-64"), STANDING, BOARD, "it was made for generic-x86-64, this is rpi4"),
        (OFFER, replace(STANDING, failed={NEW.digest: "too slow"}), BOARD, "version 8 failed here before: too slow"),
        (OFFER, replace(STANDING, trial=Trial(Version(9, "e" * 16))), BOARD, "version 9 is on trial here"),
        (OFFER, STANDING, replace(BOARD, free_bytes=20 << 20), "the disk has 1.0 MB too little for it"),
    ],
)
def test_what_is_refused(offer: Offer, standing: Standing, board: Device, why: str) -> None:
    assert reason(judge_offer(offer, standing, board)) == why


def test_going_back_takes_a_signed_exception() -> None:
    assert judge_offer(replace(OFFER, version=OLD, may_go_back=True), STANDING, BOARD) == Admit()


def test_a_rollback_does_not_lower_the_bar() -> None:
    went_back = replace(STANDING, running=OLD, committed=OLD)
    assert "older than 7" in reason(judge_offer(replace(OFFER, version=Version(6, "f" * 16)), went_back, BOARD))


def test_a_failed_version_is_tried_again_when_asked_to() -> None:
    failed = replace(STANDING, failed={NEW.digest: "too slow"})
    assert judge_offer(replace(OFFER, again=True), failed, BOARD) == Admit()


def test_a_rehearsal_is_held_against_the_budget() -> None:
    done = Rehearsal("xnnpack", 100, 12.0, 50_000_000)
    assert judge_rehearsal(done, Budget()) == Admit()
    assert judge_rehearsal(done, Budget(12.0, 50_000_000)) == Admit()
    assert "p95 12 ms on xnnpack (n = 100), the budget is 10 ms" in reason(judge_rehearsal(done, Budget(10.0)))
    assert "50 MB on xnnpack" in reason(judge_rehearsal(done, Budget(None, 40_000_000)))
    assert reason(judge_rehearsal(Rehearsal(failed="golden outputs differ"), Budget())) == "golden outputs differ"


@pytest.mark.parametrize(
    ("health", "verdict"),
    [
        (Health(10, 500, 0, 0, 3.0), Wait()),
        (Health(60, 9, 0, 0, 3.0), Wait()),
        (Health(60, 10, 0, 0, 3.0), Commit()),
        (Health(600, 9, 0, 0, 3.0), RollBack("9 inferences in 600 s: no sign that it works")),
        (Health(1, 0, 0, 1, 0.0, "killed by SIGSEGV"), RollBack("its worker failed: killed by SIGSEGV")),
        (Health(5, 10, 11, 0, 3.0), RollBack("11 frames failed, 10 did not")),
        (
            Health(5, 10, 0, 0, 30.0),
            RollBack("too slow while it ran: p95 30 ms (n = 10), the budget is 20 ms"),
        ),
    ],
)
def test_health_is_judged_when_enough_was_seen(health: Health, verdict: object) -> None:
    assert judge_health(health, Window(), Budget(20.0)) == verdict


def test_what_runs_and_what_it_falls_back_to_is_never_removed() -> None:
    versions = [Version(n, str(n)) for n in range(1, 8)]
    standing = Standing(versions[0], versions[1], Trial(versions[0]), 7, {}, versions)
    assert to_remove(standing, keep=3) == tuple(versions[2:6])
    assert to_remove(standing, keep=1) == tuple(versions[2:])


def test_by_hand_one_goes_back_to_the_version_before() -> None:
    assert back_to(STANDING) == OLD
    assert back_to(replace(STANDING, running=NEW, trial=Trial(NEW))) == NOW
    assert "no other version" in reason(back_to(replace(STANDING, kept=[NOW])))
    assert "no other version" in reason(back_to(replace(STANDING, well={NOW.digest})))
