"""The supervisor's decisions, without processes."""

from __future__ import annotations

import signal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop_agent.supervisor.decisions import (
    Blame,
    Fault,
    GiveUp,
    Policy,
    Restart,
    Standing,
    after_fault,
    describe_exit,
    invoke_limit_s,
    overdue,
    too_large,
    try_again,
)
from edgeloop_agent.supervisor.endings import End, judged

POLICY = Policy()
CRASH = Fault(Blame.RUN, "worker died of SIGSEGV", ran_s=5.0)
NOT_THERE = Fault(Blame.START, "library missing")
KILLED = Fault(Blame.OUTSIDE, "worker was killed by SIGKILL", ran_s=5.0)


def decide(standing: Standing, *faults: Fault) -> tuple[Standing, Restart | GiveUp]:
    for fault in faults[:-1]:
        standing, _ = after_fault(standing, POLICY, fault)
    return after_fault(standing, POLICY, faults[-1])


def test_a_crash_moves_on_to_the_next_delegate_at_once():
    standing, decision = decide(Standing.start(("edgetpu", "xnnpack", "cpu")), CRASH)
    assert standing.delegate == "xnnpack"
    assert decision == Restart(0.0, "fallback", "edgetpu -> xnnpack: worker died of SIGSEGV", "edgetpu", 600.0)


def test_a_delegate_that_cannot_start_is_out():
    standing, decision = decide(Standing.start(("edgetpu", "xnnpack")), NOT_THERE)
    assert standing.delegate == "xnnpack"
    assert isinstance(decision, Restart)
    assert decision.quarantined == "edgetpu"
    standing, decision = decide(standing.with_success(), CRASH)
    assert (standing.delegate, decision.kind) == ("xnnpack", "restart")  # never back to the one that is out


def test_a_worker_killed_from_outside_comes_back_on_the_same_delegate_and_nothing_is_held_against_it():
    standing, decision = decide(Standing.start(("xnnpack", "cpu")), *[KILLED] * 10)
    assert standing.delegate == "xnnpack"
    assert standing.faults == (0, 0)
    assert isinstance(decision, Restart)
    assert decision.kind == "restart"


def test_pauses_between_restarts_double_up_to_a_limit():
    standing = Standing.start(("xnnpack",)).with_success()
    delays = []
    for _ in range(10):
        standing, decision = after_fault(standing, POLICY, KILLED)
        assert isinstance(decision, Restart)
        delays.append(decision.delay_s)
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_running_well_for_a_while_clears_the_record():
    standing, _ = decide(Standing.start(("xnnpack",)), CRASH, CRASH)
    standing, decision = after_fault(standing, POLICY, Fault(Blame.RUN, "crash", ran_s=POLICY.stable_after_s))
    assert standing.faults == (1,)
    assert isinstance(decision, Restart)
    assert decision.delay_s == POLICY.backoff_first_s


def test_the_last_delegate_that_is_not_out_stays_until_it_failed_three_times():
    standing = Standing.start(("edgetpu", "xnnpack"))
    quarantined = []
    for _ in range(1 + POLICY.faults_until_quarantine):
        standing, decision = after_fault(standing.with_success(), POLICY, CRASH)
        assert isinstance(decision, Restart)
        quarantined.append(decision.quarantined)
    assert quarantined == ["edgetpu", "", "", "xnnpack"]


def test_an_accelerator_that_crashed_once_comes_back_after_its_pause():
    standing, decision = decide(Standing.start(("edgetpu", "xnnpack")).with_success(), CRASH)
    assert isinstance(decision, Restart)
    assert try_again(standing, POLICY, decision.again_in_s - 1) is None
    again = try_again(standing, POLICY, decision.again_in_s)
    assert again is not None
    assert again.delegate == "edgetpu"


def test_a_delegate_that_is_out_is_tried_again_after_longer_and_longer_pauses():
    standing, now_s, pauses = Standing.start(("edgetpu", "xnnpack")), 1000.0, []
    for _ in range(10):
        standing, decision = after_fault(standing, POLICY, NOT_THERE, now_s)
        assert isinstance(decision, Restart)
        assert (standing.delegate, decision.quarantined) == ("xnnpack", "edgetpu")
        standing = standing.with_success()
        pauses.append(decision.again_in_s)
        assert try_again(standing, POLICY, now_s + decision.again_in_s - 1) is None
        now_s += decision.again_in_s
        again = try_again(standing, POLICY, now_s)
        assert again is not None
        assert (again.delegate, again.quarantined, again.proven) == ("edgetpu", (False, False), 1)
        standing = again
    assert pauses == [600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400]


def test_one_fault_more_and_a_delegate_that_was_tried_again_is_out():
    standing, _ = decide(Standing.start(("edgetpu", "xnnpack")), NOT_THERE)
    again = try_again(standing.with_success(), POLICY, POLICY.retry_after_s)
    assert again is not None
    standing, decision = after_fault(again, POLICY, CRASH, POLICY.retry_after_s)
    assert isinstance(decision, Restart)
    assert (standing.delegate, decision.quarantined) == ("xnnpack", "edgetpu")
    well = Fault(Blame.RUN, "crash", ran_s=POLICY.stable_after_s)
    _, decision = after_fault(again, POLICY, well, POLICY.retry_after_s)
    assert isinstance(decision, Restart)
    assert decision.again_in_s == POLICY.retry_after_s, "a minute without a fault clears the record"


def test_a_delegate_behind_the_one_in_use_is_left_alone():
    standing, _ = decide(Standing.start(("xnnpack", "gpu")), CRASH, NOT_THERE)
    assert standing.delegate == "xnnpack"
    assert try_again(standing, POLICY, 1e9) is None


def test_it_gives_up_only_when_no_delegate_is_left_and_nothing_ever_worked():
    _, decision = decide(Standing.start(("edgetpu", "xnnpack")), NOT_THERE, NOT_THERE)
    assert decision == GiveUp("no delegate left: xnnpack: library missing")
    _, named = decide(Standing.start(("xnnpack",)), Fault(Blame.START, "delegate xnnpack: library missing"))
    assert named == decision, "the delegate is named once"
    standing, decision = decide(Standing.start(("xnnpack",)).with_success(), *[CRASH] * 20)
    assert isinstance(decision, Restart)
    assert (standing.delegate, decision.delay_s) == ("xnnpack", POLICY.backoff_max_s)


def test_when_all_are_out_the_one_that_worked_is_kept_trying():
    standing = Standing.start(("edgetpu", "xnnpack")).with_success()
    standing, _ = decide(standing, *[CRASH] * 5, NOT_THERE)
    standing, decision = after_fault(standing, POLICY, NOT_THERE)
    assert isinstance(decision, Restart)
    assert standing.delegate == "edgetpu"


faults = st.builds(
    Fault, st.sampled_from(list(Blame)), st.just("trouble"), st.floats(0, 1e4, allow_nan=False, allow_infinity=False)
)


@given(st.integers(1, 4), st.lists(st.tuples(faults, st.booleans()), max_size=40))
def test_whatever_happens_there_is_a_delegate_to_run_or_nothing_ever_worked(count, history):
    standing, succeeded = Standing.start(tuple("abcd"[:count])), False
    for fault, success in history:
        if success:
            standing, succeeded = standing.with_success(), True
        standing, decision = after_fault(standing, POLICY, fault)
        if isinstance(decision, GiveUp):
            assert not succeeded
            assert all(standing.quarantined)
            return
        assert 0 <= decision.delay_s <= POLICY.backoff_max_s
        assert standing.delegate in standing.delegates
        assert not standing.quarantined[standing.current] or standing.current == standing.proven
        assert (decision.kind == "fallback") == ("->" in decision.detail)


@pytest.mark.parametrize(
    ("ages", "text"),
    [
        ({"ready": False, "since_start_s": 121}, "not ready"),
        ({"ready": True, "since_message_s": 11}, "no heartbeat"),
        ({"ready": True, "busy_s": 31}, "one frame took"),
        ({"ready": True, "busy_s": 4, "invoking_s": 3.1, "invoke_limit_s": 3.0}, "an invoke took more than 3 s"),
    ],
)
def test_the_watchdog_finds_a_worker_that_hangs(ages, text):
    values = {"since_start_s": 1.0, "since_message_s": 1.0, "busy_s": 0.0, **ages}
    fault = overdue(POLICY, **values)
    assert fault is not None
    assert fault.blame is Blame.RUN
    assert text in fault.detail


@pytest.mark.parametrize(
    ("invokes", "slowest_s", "is_library", "limit_s"),
    [(49, 0.01, True, inf), (50, 0.01, True, 3), (50, 0.5, True, 10), (5000, 0.01, False, inf)],
)
def test_a_driver_that_hangs_is_found_by_what_it_took_before(invokes, slowest_s, is_library, limit_s):
    assert invoke_limit_s(POLICY, invokes, slowest_s, is_library=is_library) == limit_s


@pytest.mark.parametrize(
    ("invokes", "slowest_s", "limit_s"), [(199, 0.01, 3), (200, 0.01, 0.4), (200, 0.1, 2), (200, 0.5, 10)]
)
def test_a_driver_in_which_nothing_moves_is_not_waited_for_that_long(invokes, slowest_s, limit_s):
    assert invoke_limit_s(POLICY, invokes, slowest_s, is_library=True, is_asleep=True) == limit_s


def test_the_watchdog_is_patient_while_a_model_loads_and_while_no_frames_come():
    assert overdue(POLICY, ready=False, since_start_s=60, since_message_s=60, busy_s=0) is None
    assert overdue(POLICY, ready=True, since_start_s=1e6, since_message_s=1, busy_s=0) is None


@pytest.mark.parametrize(
    ("code", "blame", "text"),
    [
        (-signal.SIGSEGV, Blame.RUN, "SIGSEGV"),
        (-signal.SIGILL, Blame.RUN, "SIGILL"),
        (128 + signal.SIGSEGV, Blame.RUN, "SIGSEGV"),  # as an emulator or a shell reports it
        (-signal.SIGKILL, Blame.OUTSIDE, "SIGKILL"),
        (1, Blame.OTHER, "code 1: ModuleNotFoundError"),
    ],
)
def test_a_death_is_described(code, blame, text):
    fault = describe_exit(code, "ModuleNotFoundError: No module named 'numpy'")
    assert fault.blame is blame
    assert text in fault.detail


def test_while_a_worker_starts_its_memory_is_no_fault_of_its_delegate() -> None:
    ages = {"since_start_s": 1.0, "since_message_s": 1.0, "busy_s": 0.0, "memory_bytes": 2 << 20}
    policy = Policy(memory_limit_bytes=1 << 20)
    assert overdue(policy, ready=False, **ages) is None
    assert overdue(policy, ready=True, **ages) is not None


def test_a_memory_limit_that_no_worker_can_keep_says_what_is_needed() -> None:
    policy = Policy(memory_limit_bytes=1 << 20)
    assert too_large(policy, 1 << 20) is None and too_large(Policy(), 1 << 40) is None
    fault = too_large(policy, 40 << 20)
    assert fault is not None and "takes 40 MiB once its model is open, and memory_limit is 1 MiB" in fault.detail
    _, decision = after_fault(Standing.start(("cpu",)), policy, fault)
    assert isinstance(decision, GiveUp)
    assert decision.hint == "memory_limit = 60 leaves room to work, or a smaller variant"


def test_what_happens_in_a_sink_is_not_held_against_the_delegate() -> None:
    died = describe_exit(-signal.SIGSEGV, was_telling=True)
    silent = overdue(POLICY, ready=True, since_start_s=60, since_message_s=60, busy_s=0, telling_s=60)
    slow = overdue(POLICY, ready=True, since_start_s=60, since_message_s=0, busy_s=0, telling_s=60)
    assert silent is not None and slow is not None
    assert {died.blame, silent.blame, slow.blame} == {Blame.OUTSIDE}
    assert "SIGSEGV while a sink had its result" in died.detail


@pytest.mark.parametrize(("frames", "inferences", "fails"), [(5, 0, True), (5, 1, False), (0, 0, False)])
def test_frames_that_all_came_to_nothing_are_no_success(frames: int, inferences: int, fails: bool) -> None:
    error = judged(End("count"), {"frames": frames, "inferences": inferences, "errors": 0}, "").error
    assert (error is not None and error.exit_code == 1) == fails
