"""Obeys commands inside the supervisor's loop: at once what is quick, as a job what takes long."""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from edgeloop.bundle import StagedBundle, TrustStore
from edgeloop.errors import DataError, DeviceError, EdgeloopError
from edgeloop.telemetry.commands.codec import decode_envelope, encode_answer
from edgeloop.telemetry.commands.correspondence import Mailbox, Reply
from edgeloop.telemetry.commands.judging import Accepted, Refused, Standing, judge
from edgeloop.telemetry.commands.values import KINDS, Answer, Command
from edgeloop.version import VERSION
from edgeloop_agent.commands.about import about_device
from edgeloop_agent.commands.inbox import Inbox
from edgeloop_agent.commands.jobs import Ended, Job
from edgeloop_agent.commands.log_level import LogLevel
from edgeloop_agent.commands.measuring import Measurement, plan, result, told
from edgeloop_agent.delivery.incoming import LineDelivery

_AFTER_A_FORGERY_S = 1.0
"""No signature is checked for so long after a forged one: each costs the supervisor some milliseconds."""
_PAUSING_S = 10.0
"""A worker that takes longer to end is measured beside."""
_MEASURING = frozenset({"bench", "profile"})
_SHOWN_OF_A_MODEL = (
    "model", "bundle", "version", "variant", "phase", "delegate_asked", "delegate_ran", "delegated_ops", "total_ops",
    "runtime", "threads",
)  # fmt: skip


class CommandedModel(Protocol):
    """A supervised model, as far as commands reach."""

    def state(self) -> dict[str, Any]: ...

    def noted(self, kind: str, detail: str) -> None:
        """An event, for its next report."""

    def counted(self, name: str) -> None:
        """One more, in its next report."""

    def report_now(self) -> None: ...

    @property
    def is_paused(self) -> bool: ...

    def pause(self) -> None:
        """End its worker with the frame in hand; none is started until `resume`."""

    def resume(self) -> None: ...


class Executor:
    """For one start of the agent: what it accepted counts for this boot. `take` may come from any thread."""

    def __init__(
        self,
        *,
        device: str,
        boot: str,
        operators: TrustStore,
        bundles: Sequence[StagedBundle],
        log: LogLevel,
        delivery: LineDelivery | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """delivery: takes what is deployed over the line; None: nothing is."""
        self.mailbox = Mailbox()
        self.take_chunk = None if delivery is None else delivery.take_chunk
        self._delivery = delivery
        self._device, self._boot, self._operators, self._bundles = device, boot, operators, bundles
        self._log, self._clock = log, clock
        self._inbox = Inbox()
        self.take = self._inbox.put
        self._started_s = clock()
        self._last_counter = 0
        self._no_check_until_s = 0.0
        self._told: set[str] = set()
        self._models: Sequence[CommandedModel] = ()
        self._selector: selectors.BaseSelector | None = None
        self._job: Job | None = None
        self._job_command: Command | None = None
        self._begin: Callable[[], None] | None = None
        self._paused_until_s = 0.0
        self._handlers: Mapping[str, Callable[[Command], dict[str, Any]]] = {
            "ping": self._ping,
            "info": self._info,
            "report_now": self._report_now,
            "log_level": self._set_log_level,
            **({} if delivery is None else delivery.handlers),
        }
        if delivery is not None:
            delivery.say = self._note

    @contextlib.contextmanager
    def attending(self, selector: selectors.BaseSelector, models: Sequence[CommandedModel]) -> Iterator[None]:
        """While these models run. A job that is not done then is ended, and answered so."""
        self._selector, self._models = selector, models
        selector.register(self._inbox.fd, selectors.EVENT_READ, self._on_waiting)
        try:
            yield
        finally:
            if self._job is not None:
                self._job.end("the agent stopped")
            if self._delivery is not None:
                self._delivery.close()
            selector.unregister(self._inbox.fd)
            self._selector, self._models = None, ()
            self._inbox.close()

    def look(self) -> None:
        """Once per round of the supervisor's loop, so at least once a second."""
        self._begin_when_quiet()
        if self._job is not None:
            self._job.watch()
        if self._delivery is not None:
            self._delivery.look(is_quiet=self._job_command is None)
        dropped, self._inbox.dropped = self._inbox.dropped, 0
        for _ in range(dropped):
            self._refused(Refused("too many", "too many commands at once"))

    # -- one command

    def _on_waiting(self) -> None:
        waiting = self._inbox.take()  # one a turn: a flood does not keep the loop from its other work
        if waiting is not None:
            self._handle(*waiting)

    def _handle(self, data: bytes, reply: Reply | None) -> None:
        try:
            envelope = decode_envelope(data)
        except DataError as error:
            return self._refused(Refused("unreadable", error.message))
        command = envelope.command
        if self._is_repeated(command, reply):
            return None
        if envelope.key_id and self._clock() < self._no_check_until_s:
            decision: Accepted | Refused = Refused(
                "too soon", "a command by an unknown signer came just now: try again in a second"
            )
        else:
            decision = judge(envelope, self._standing())
        if isinstance(decision, Refused):
            if decision.was_checked:
                self._no_check_until_s = self._clock() + _AFTER_A_FORGERY_S
            self._refused(decision)
            if decision.reason != "other device":  # that one may be on the line, too, and answers for itself
                self._answer(command, Answer(command.id, error=decision.detail), reply, keep=reply is None)
            return None
        return self._obey(command, decision.signed_by, reply)

    def _obey(self, command: Command, signed_by: str, reply: Reply | None) -> None:
        is_open = KINDS[command.kind].is_open
        self._log.debug(f"command {command.kind} {command.id}")
        if not is_open:
            self._last_counter = command.counter
            self._note("command", f"{command.kind}, signed by {signed_by}")
        keep = not is_open or reply is None
        try:
            if command.kind in self._handlers:
                answer = Answer(command.id, self._handlers[command.kind](command))
            elif command.kind in _MEASURING:
                return self._start_job(command, reply)
            else:
                answer = Answer(command.id, error="this agent takes nothing over a line")
        except EdgeloopError as error:
            answer = Answer(command.id, error=told(error))
        return self._answer(command, answer, reply, keep=keep)

    def _is_repeated(self, command: Command, reply: Reply | None) -> bool:
        """Sent again because its answer has not arrived: it is not obeyed twice."""
        if KINDS.get(command.kind) is None or KINDS[command.kind].is_open:
            return False
        if self._job_command is not None and self._job_command.id == command.id:
            return True
        answer = self.mailbox.get(command.id)
        if answer is not None and reply is not None:
            reply(answer)
        return answer is not None

    def _standing(self) -> Standing:
        return Standing(self._device, self._boot, self._uptime_s, self._last_counter, self._operators)

    @property
    def _uptime_s(self) -> float:
        return self._clock() - self._started_s

    def _refused(self, refusal: Refused) -> None:
        """Counted always, said once of each kind."""
        self._log.debug(f"command refused: {refusal.reason}: {refusal.detail}")
        for model in self._models[:1]:
            model.counted("commands_refused")
        if refusal.reason not in self._told:
            self._told.add(refusal.reason)
            self._note("command_refused", f"{refusal.reason}: {refusal.detail}")

    def _note(self, kind: str, detail: str) -> None:
        for model in self._models[:1]:
            model.noted(kind, detail)

    def _answer(self, command: Command, answer: Answer, reply: Reply | None, *, keep: bool) -> None:
        """At once where the line has a way back; with the next batch where a collector has to have it."""
        try:
            data = encode_answer(answer)
        except DataError as error:
            data = encode_answer(Answer(command.id, error=f"the answer cannot be sent: {error.message}"))
        if reply is not None:
            reply(data)
        if keep:
            self.mailbox.put(command.id, data)

    # -- what can be asked

    def _ping(self, _command: Command) -> dict[str, Any]:
        return {"device": self._device, "boot": self._boot}

    def _info(self, _command: Command) -> dict[str, Any]:
        states = [model.state() for model in self._models]
        return {
            "device": self._device,
            "boot": self._boot,
            "uptime_s": round(self._uptime_s, 3),
            "last_counter": self._last_counter,
            "agent": VERSION,
            **about_device(),
            "log_level": self._log.level,
            "busy": self._busy,
            "models": [{name: state[name] for name in _SHOWN_OF_A_MODEL} for state in states],
        }

    def _report_now(self, _command: Command) -> dict[str, Any]:
        for model in self._models:
            model.report_now()
        return {"reports": len(self._models)}

    def _set_log_level(self, command: Command) -> dict[str, Any]:
        was, self._log.level = self._log.level, str(command.arguments["level"])
        return {"level": self._log.level, "was": was}

    # -- jobs

    @property
    def _busy(self) -> str:
        """With what; "" for nothing. One measures at a time, and so does the door."""
        if self._job_command is not None:
            return self._job_command.kind
        return "deploy" if self._delivery is not None and self._delivery.is_at_the_door else ""

    def _start_job(self, command: Command, reply: Reply | None) -> None:
        busy = self._busy
        if busy or self._selector is None:
            raise DeviceError(f"this device is busy with a {busy or 'stop'}")
        measurement = plan(command.kind, command.arguments, self._bundles)

        def done(ended: Ended) -> None:
            self._job = self._job_command = self._begin = None
            for model in self._models if measurement.pause else ():
                model.resume()
            self._answer(command, _measured(command, measurement, ended), reply, keep=True)

        self._job_command = command
        for model in self._models if measurement.pause else ():
            model.pause()
        self._begin = lambda: self._launch(measurement, done)
        self._paused_until_s = self._clock() + (_PAUSING_S if measurement.pause else 0.0)
        self._begin_when_quiet()

    def _begin_when_quiet(self) -> None:
        """An accelerator serves one process: the workers have to be gone, should they pause."""
        if self._begin is None:
            return
        if self._clock() >= self._paused_until_s or all(model.is_paused for model in self._models):
            begin, self._begin = self._begin, None
            begin()

    def _launch(self, measurement: Measurement, done: Callable[[Ended], None]) -> None:
        assert self._selector is not None
        try:
            self._job = Job(measurement.command, self._selector, done, timeout_s=measurement.timeout_s)
        except OSError as error:
            done(Ended(0, b"", b"", f"cannot be started: {error.strerror}"))


def _measured(command: Command, measurement: Measurement, ended: Ended) -> Answer:
    """The answer to a job that ended."""
    if ended.why:
        return Answer(command.id, error=f"{command.kind} {ended.why}")
    try:
        body = result(measurement, ended.exit_code, ended.stdout, ended.stderr)
    except EdgeloopError as error:
        return Answer(command.id, error=told(error))
    body |= {"bundle": measurement.bundle, "version": measurement.version}
    body["worker"] = "paused" if measurement.pause else "running"
    return Answer(command.id, body)
