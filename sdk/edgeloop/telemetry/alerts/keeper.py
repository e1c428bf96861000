"""Watches the fleet: judges the rules every few seconds, records what changed, tells the webhooks until they know."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeloop.errors import DeviceError
from edgeloop.telemetry.alerts.book import Alert, AlertBook
from edgeloop.telemetry.alerts.evaluate import Change, Standing, Subject, evaluate
from edgeloop.telemetry.alerts.rules import OF_LATENCY, AlertSettings, Webhook
from edgeloop.telemetry.alerts.webhook import post
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.shown import only_host

JUDGE_EVERY_S = 5.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
GIVE_UP_S = 86_400.0
"""A webhook that was away for so long is not told any more of what began or ended before."""

Say = Callable[[str], None]


def watch(fleet: LiveFleet, settings: AlertSettings, database: Database, say: Say) -> None:
    """Judge the rules as long as the fleet runs, and say what goes wrong there; call it before the fleet starts."""
    fleet.say = say
    if settings.rules:
        keeper = AlertKeeper(settings, fleet, AlertBook(database), say)
        keeper.start()
        fleet.when_stopped(keeper.stop)


@dataclass
class AlertKeeper:
    """`start` begins; the fleet's thread judges, a thread of its own calls the webhooks."""

    settings: AlertSettings
    fleet: LiveFleet
    book: AlertBook
    say: Say
    clock: Callable[[], float] = time.time
    judge_every_s: float = JUDGE_EVERY_S
    _standing: dict[Subject, Standing] | None = field(default=None, repr=False)
    _next_s: float = field(default=0.0, repr=False)
    _wake: threading.Event = field(default_factory=threading.Event, repr=False)
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _done: set[tuple[int, bool, str]] = field(default_factory=set, repr=False)

    def start(self) -> None:
        """Call before the fleet starts."""
        self._since_s = self.clock()
        self.fleet.rules = tuple(rule.name for rule in self.settings.rules)
        self.fleet.every_second(self.tick)
        if self.settings.webhooks:
            self._thread = threading.Thread(target=self._tell, name="collector webhooks", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """May be called twice. What was not told yet is told after the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def tick(self, now_s: float) -> None:
        """Judge, if it is time to. The store may be away: then nothing has changed, and it is judged again."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self.judge_every_s
        try:
            self.judge(now_s)
        except StoreUnavailableError:
            return

    def judge(self, now_s: float) -> list[Change]:
        """What began and ended now; each was said. StoreUnavailableError."""
        if self._standing is None:  # what fired before a restart still does
            self._standing = {alert.subject: Standing(True, None) for alert in self.book.open()}
        rows = self.fleet.rows(latency=any(rule.when in OF_LATENCY for rule in self.settings.rules))
        standing, changes = evaluate(self.settings.rules, rows, self._standing, now_s, watching_since_s=self._since_s)
        news = self.book.record(changes, now_s) if changes else []
        self._standing = standing
        for change in news:
            subject, what = change.subject, "alert" if change.fires else "alert over"
            self.say(f"{what}: {subject.rule}: {subject.device}: {change.text}")
        if news:
            self._wake.set()
        firing: dict[str, list[str]] = {}
        for subject, each in standing.items():
            if each.firing:
                firing.setdefault(subject.device, []).append(subject.rule)
        self.fleet.set_firing(firing)
        return news

    # -- telling

    def _tell(self) -> None:
        retry_s, in_trouble = FIRST_RETRY_S, False
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                failed = self._tell_once()
            except StoreUnavailableError as error:
                failed = error.message
            if failed is None:
                if in_trouble:
                    self.say("the webhooks are reached again")
                retry_s, in_trouble = FIRST_RETRY_S, False
                self._wake.wait(60.0)
                continue
            if not in_trouble:
                self.say(f"{failed}; tried again until it is")
                in_trouble = True
            self._stopping.wait(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _tell_once(self) -> str | None:
        """What went wrong, None when everybody knows everything. An end is told after its beginning."""
        failed: str | None = None
        for alert in self.book.untold(self.clock() - GIVE_UP_S):
            for fired in (True, False):
                if (alert.told_fired if fired else alert.told_resolved) or (not fired and alert.resolved_s is None):
                    continue
                missed = [hook for hook in self.settings.webhooks if not self._told(hook, alert, fired)]
                if missed:
                    failed = f"the webhook {only_host(missed[0].url)} does not take alerts"
                    break
                self.book.told(alert, fired=fired)
                self._done = {each for each in self._done if each[:2] != (alert.id, fired)}
            if self._stopping.is_set():
                break
        return failed

    def _told(self, hook: Webhook, alert: Alert, fired: bool) -> bool:
        """Whether it knows by now: another webhook that is away makes no repeats here."""
        key = alert.id, fired, hook.url
        if key in self._done:
            return True
        if self._stopping.is_set():
            return False
        try:
            post(hook, alert, fired=fired, now_s=self.clock())
        except DeviceError:
            return False
        self._done.add(key)
        return True
