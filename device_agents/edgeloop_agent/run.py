"""`edgeloop-agent run` as a function: verify and stage the bundle, supervise a worker, deliver the reports, sum up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, StagedBundle, TrustStore
from edgeloop.bundle.verified_mark import stage_verified
from edgeloop.errors import EdgeloopError
from edgeloop.runtime.delegates import parse_delegate
from edgeloop.telemetry.report import Event
from edgeloop_agent.autotune.tuned import settled
from edgeloop_agent.commands.log_level import LogLevel, NarratedOutlet
from edgeloop_agent.commands.opening import open_executor
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.launched import Launched
from edgeloop_agent.delivery.opening import open_updates, saying
from edgeloop_agent.delivery.watch import ROLLBACK, give_up, settle_versions, versions_of
from edgeloop_agent.hard_samples.opening import open_sender
from edgeloop_agent.model_tables import frames_of
from edgeloop_agent.release.polling import Polls
from edgeloop_agent.reports.board_health import made_for_another
from edgeloop_agent.reports.profiles import profile_gauges
from edgeloop_agent.reports.publisher import open_publisher
from edgeloop_agent.reports.reporting import NoOutlet
from edgeloop_agent.reports.sums import agent_summary, model_summary
from edgeloop_agent.reports.tally import Identity, Tally
from edgeloop_agent.service.desk import Desk
from edgeloop_agent.service.enrolled import prepare_identity
from edgeloop_agent.service.reload import Reload, may_reload, same_state
from edgeloop_agent.service.said_once import first_time
from edgeloop_agent.service.statedir import BUNDLES, locked_state
from edgeloop_agent.sinks import parse_sink
from edgeloop_agent.sources import parse_source
from edgeloop_agent.supervisor.supervised import Assignment
from edgeloop_agent.supervisor.supervisor import supervise
from edgeloop_agent.worker.frame_ring import FrameRing
from edgeloop_agent.worker.pipeline import FALLBACK_ORDER


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and its sums. `error` is None after a clean end (source over, count reached, stopped).
    is_relaunched: another version of the agent or its config is to run in its place; went_back: lines about why."""

    summary: dict[str, Any]
    error: EdgeloopError | None = None
    is_relaunched: bool = False
    went_back: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What is to run, as far as it can be checked before a worker starts."""

    config: AgentConfig
    staged: StagedBundle
    unsigned: bool
    delegates: tuple[str, ...]
    notes: tuple[tuple[str, str], ...] = ()
    """(kind, detail) of events that stand at the start of the run."""


def run_agent(
    configs: Sequence[AgentConfig],
    tell: Callable[[str], None],
    reread: Callable[[], Sequence[AgentConfig]] | None = None,
    config_file: Path | None = None,
) -> Outcome:
    """Run until the sources end, the counts are reached or SIGTERM or SIGINT comes. `tell` gets lines for people.

    configs: one for each model, with one state folder, device and telemetry. reread: the configs as they are in their
    file now, for a reload; the outcome is then the last run's. config_file: that file, for what else reads it. Raises
    EdgeloopError for what is wrong before the first
    worker starts.
    """
    meant, log = configs[0].state, LogLevel(tell)
    tell = log.tell
    with locked_state(meant, tell) as state, contextlib.ExitStack() as cleanup:
        prepare_identity(configs[0], state)
        again: Callable[[], Sequence[AgentConfig]] = reread or (lambda: configs)
        launched = Launched.from_environment()

        def plan_again() -> list[_Plan]:
            plans = _planned([replace(c, state=state) for c in same_state(again(), meant)], tell)
            if launched is not None and launched.is_base_changed(state):
                desk.relaunch()
            return plans

        reload = Reload(plan_again)
        if reread is not None and may_reload():  # before the plan: what asks while it is made gets its reload after it
            cleanup.enter_context(reload.on_hangup())
        plans = _planned([replace(config, state=state) for config in configs], tell, at_start=True)
        desk = Desk(state, tell, device=configs[0].device, reload=reload)
        cleanup.callback(desk.close)
        desk.releases = Polls(config_file)
        cleanup.callback(desk.releases.close)
        went_back: list[str] = []
        while True:
            outcome = _run(plans, desk, reload, log, went_back, launched)
            launched = None if launched is None else replace(launched, notes=())
            if not desk.was_stopped and (lines := _relaunched(outcome, desk, launched, tell)) is not None:
                return replace(outcome, is_relaunched=True, went_back=lines)
            went_back = [] if outcome.error is None or desk.was_stopped else desk.rolled_back(outcome.error.message)
            if went_back:
                reload.prepare()
            after = reload.take_next()
            if after is None or desk.was_stopped:
                return outcome
            plans = after


def _relaunched(
    outcome: Outcome, desk: Desk, launched: Launched | None, tell: Callable[[str], None]
) -> tuple[str, ...] | None:
    """Lines about what was rolled back for this outcome; None where this agent goes on with this config."""
    lines = []
    if outcome.error is not None and launched is not None:
        lines = launched.give_up(outcome.error.message)
    for line in lines:
        tell(f"{ROLLBACK}: {line}")
    return tuple(lines) if lines or desk.is_relaunched else None


def check_runnable(config: AgentConfig) -> None:
    """Raises EdgeloopError for a config that no agent could start with here."""
    if not frames_of(config):
        parse_source(config.source)
    for sink in config.sinks:
        parse_sink(sink)
    for text in config.delegates:
        parse_delegate(text)
    trust = TrustStore.from_paths(config.trust) if config.trust else TrustStore.default()
    Bundle.open(config.bundle, trust=trust).manifest.variant(config.variant)


def _planned(configs: Sequence[AgentConfig], tell: Callable[[str], None], *, at_start: bool = False) -> list[_Plan]:
    return [_planned_one(config, tell, at_start) for config in configs]


def _planned_one(config: AgentConfig, tell: Callable[[str], None], at_start: bool) -> _Plan:
    versions = versions_of(config.bundle)
    version = None if versions is None else settle_versions(versions, is_start=at_start)
    try:
        return _plan_of(config, tell, at_start, version)
    except EdgeloopError as error:
        went_back = None if versions is None else give_up(versions, error.message)
        if went_back is None:
            raise
        return _plan_of(config, tell, at_start, went_back)


def _plan_of(
    config: AgentConfig, tell: Callable[[str], None], at_start: bool, version: tuple[str, str] | None
) -> _Plan:
    if not frames_of(config):
        parse_source(config.source)
    for sink in config.sinks:
        parse_sink(sink)
    asked = tuple(str(parse_delegate(text)) for text in config.delegates)
    staged, unsigned = _stage(config, tell)
    order = asked or staged.manifest.fallback_order(config.variant) or FALLBACK_ORDER
    if config.autotune and at_start:  # beside models that run it would measure them, too
        from edgeloop_agent.autotune.tune import tune_if_new

        tune_if_new(config, staged, tell)
    config, delegates, tuned = settled(config, staged, order)
    other_board = first_time(config.state, staged.path.name, made_for_another(staged.manifest.target))
    said = {"tuned": tuned, "other_board": other_board, **(dict([version]) if version is not None else {})}
    notes = tuple((kind, text) for kind, text in said.items() if text)
    for kind, text in notes:
        tell(f"{kind}: {text}")
    return _Plan(config, staged, unsigned, delegates, notes)


def _run(
    plans: Sequence[_Plan], desk: Desk, reload: Reload[list[_Plan]], log: LogLevel, went_back: Sequence[str],
    launched: Launched | None,
) -> Outcome:  # fmt: skip
    """went_back: what was rolled back since the last run, which had no report left to say it in."""
    shared, tell = plans[0].config, log.tell
    boot, numbers = os.urandom(8).hex(), count(1)
    rings = {name: FrameRing() for name in map(frames_of, (plan.config for plan in plans)) if name}
    assignments = [_assignment(plan, boot, numbers, desk, rings) for plan in plans]
    for line in went_back:
        assignments[0].tally.happened(Event(ROLLBACK, time.time(), line))
    desk.updates = open_updates(
        [(plan.config, a.tally) for plan, a in zip(plans, assignments, strict=True)], reload.ask, tell,
        launched, desk.relaunch,
    )  # fmt: skip
    if desk.releases is not None:
        desk.releases.attend([plan.config for plan in plans], saying(assignments[0].tally, tell))
    desk.commands = open_executor(shared, boot, [plan.staged for plan in plans], log)
    publisher = None
    if shared.telemetry:
        publisher = open_publisher(shared.telemetry, shared.device, shared.spool, tell, desk.commands, desk.events.add)
    desk.telemetry = None if publisher is None else publisher.state
    samples = open_sender(assignments, publisher, tell)
    desk.hard_samples = None if samples is None else samples.state
    began = time.monotonic()
    try:
        ends = supervise(assignments, NarratedOutlet(publisher or NoOutlet(), log), tell, desk)
    finally:
        for ring in rings.values():
            ring.close()
        if samples is not None:
            samples.close()
        if publisher is not None:
            # A second Ctrl-C does not wait for the collector: what is not delivered stays in the spool.
            with contextlib.suppress(KeyboardInterrupt):
                publisher.close(desk.time_to_close_s(shared.stop_timeout))
    seconds = time.monotonic() - began
    models = {
        a.config.model: model_summary(a.config, a.tally, end, seconds) for a, end in zip(assignments, ends, strict=True)
    }
    delivered = {"delivered": 0, "waiting": 0} if publisher is None else publisher.totals()
    if publisher is not None:
        publisher.let_go()
    made = sum(a.tally.made for a in assignments)
    errors = (_of_model(a.config.model, end.error) for a, end in zip(assignments, ends, strict=True) if end.error)
    return Outcome(agent_summary(models, {"made": made, **delivered}), next(errors, None))


def _of_model(model: str, error: EdgeloopError) -> EdgeloopError:
    return type(error)(f"{model}: {error.message}", hint=error.hint) if model else error


def _assignment(
    plan: _Plan, boot: str, numbers: Iterator[int], desk: Desk, rings: Mapping[str, FrameRing]
) -> Assignment:
    config, manifest = plan.config, plan.staged.manifest
    who = Identity(
        device=config.device,
        boot=boot,
        bundle=manifest.name,
        version=manifest.version,
        variant=manifest.variant(config.variant).name,
        unsigned=plan.unsigned,
    )
    profiles = profile_gauges(manifest.variants)
    tally = Tally(
        who, on_event=_named(config.model, desk.events.add), next_seq=lambda: next(numbers), profiles=profiles
    )
    tally.count("cache_hits_l3" if plan.staged.was_there else "cache_misses_l3")
    for kind, text in plan.notes:
        tally.happened(Event(kind, time.time(), text))
    gives, takes = rings.get(config.model), rings.get(frames_of(config))
    return Assignment(config, str(plan.staged.path), plan.delegates, tally, gives, takes)


def _named(model: str, add: Callable[[Event], None]) -> Callable[[Event], None]:
    """Of several models each event says whose it is, where they stand in one log."""
    return (lambda event: add(replace(event, detail=f"{model}: {event.detail}"))) if model else add


def _stage(config: AgentConfig, tell: Callable[[str], None]) -> tuple[StagedBundle, bool]:
    """The verified bundle, unpacked in the state folder, and whether it was let in unsigned."""
    trust = TrustStore.from_paths(config.trust) if config.trust else TrustStore.default()
    staged, signed_by = stage_verified(
        config.bundle, config.folder / BUNDLES, trust=trust, allow_unsigned=config.allow_unsigned
    )
    if signed_by is None:
        tell(f"warning: {config.bundle.name} is not signed by a trusted key; every report says so (--allow-unsigned)")
    return staged, signed_by is None
