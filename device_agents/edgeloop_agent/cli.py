"""`edgeloop-agent`: the only place on a device that prints errors and exits."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeloop.errors import EXIT_DONE, EXIT_USAGE, UsageError
from edgeloop.mains import (
    ArgumentParser,
    as_edgeloop_error,
    error_body,
    json_text,
    lenient_output,
    report_error,
    silence_stdout,
)
from edgeloop.starting import EXIT_INTERRUPTED
from edgeloop.version import VERSION
from edgeloop_agent.activation.flags import add_activation_flags
from edgeloop_agent.autotune.objectives import OBJECTIVES
from edgeloop_agent.verbs import VERBS, add_verb

_PROGRAM = "edgeloop-agent"

_RUN_EPILOG = """examples:
  edgeloop-agent run --bundle ic.bundle --source folder:frames/ --count 500 --sink jsonl:out.jsonl
  edgeloop-agent run --bundle kws.bundle --source npz:kws.npz --telemetry http://192.168.1.5:8080
  edgeloop-agent run --bundle ic.bundle --source synthetic: --rate 10 \\
      --delegate edgetpu --delegate external:./libx.so?key=value --delegate xnnpack --telemetry serial:///dev/ttyUSB0
  edgeloop-agent run --config /etc/edgeloop/agent.toml

A config file has the same keys as the flags: bundle = "ic.bundle", delegate = ["edgetpu", "xnnpack"], ...; flags win.
Exit codes: 0 done, 2 wrong use, 3 a device failed, 4 the bundle was refused."""

_DOCTOR_EPILOG = """example:
  edgeloop-agent doctor
  edgeloop-agent doctor --delegate edgetpu --json"""


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="edgeloop-agent",
        description="Run a signed model bundle on this device and report its latency.",
        epilog="Start with: edgeloop-agent doctor",
    )
    parser.add_argument("--version", action="version", version=f"edgeloop-agent {VERSION}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", help="run a bundle on a source of frames", epilog=_RUN_EPILOG,
        description="Run a bundle on a source of frames, supervised, with telemetry.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_run_arguments(run)
    doctor = verbs.add_parser(
        "doctor", help="check this device", epilog=_DOCTOR_EPILOG,
        description="Check Python, runtime, delegates, serial ports and throttling: each finding with its fix.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    doctor.add_argument(
        "--delegate", dest="delegates", metavar="NAME", action="append", help="also try to load this one"
    )
    for sub in (run, doctor, *(add_verb(verbs, name) for name in VERBS)):
        sub.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else there")
    return parser


def _add_run_arguments(run: argparse.ArgumentParser) -> None:
    """Every destination is a field of AgentConfig; `None` or empty: not given."""
    add = run.add_argument
    add("--config", metavar="FILE", type=Path, help="TOML file with these same keys; flags win over it")
    add(
        "--launch",
        action="store_true",
        help="with --config: first look for an agent or a config that came in by update, as the service does",
    )
    add("--bundle", metavar="FILE", type=Path, help="the bundle to run")
    add("--source", metavar="SOURCE",
        help="camera:0, csi:, rtsp://, http://, video:FILE, folder:DIR[?watch=1], npz:FILE, serial:///dev/ttyX, "
        "wav:FILE, synthetic:[?seed=N]")  # fmt: skip
    add("--count", metavar="N", type=int, help="stop after so many frames")
    add("--loop", action="store_true", help="start over at the end of the source")
    add("--rate", metavar="FPS", type=float, help="at most so many frames per second (default: as fast as it goes)")
    add("--sink", dest="sinks", metavar="SINK", action="append",
        help="where results go: jsonl:FILE (- is stdout), mqtt://HOST/TOPIC, serial:///dev/ttyX, snapshots:DIR, "
        "call:MODULE:FUNCTION; may be repeated")  # fmt: skip
    add("--delegate", dest="delegates", metavar="NAME", action="append",
        help="cpu, xnnpack, edgetpu[:usb:N], gpu, external:LIB?key=value; repeat it for the fallback order "
        "(default: the variant's own list)")  # fmt: skip
    add("--variant", metavar="NAME", help="which model of the bundle (default: its first)")
    add("--gallery", metavar="FILE", type=Path, help="known vectors of an embedding: .npz with vectors and labels")
    add("--threads", metavar="N", type=int, help="threads of the interpreter (default: as autotune found, else 1)")
    add("--autotune", choices=OBJECTIVES,
        help="at the start, measure what is best here if that is not known yet (a minute)")  # fmt: skip
    add("--telemetry", metavar="URL", action="append",
        help="where reports go: http(s)://HOST:PORT, mqtt(s)://HOST:PORT, serial:///dev/ttyX?baud=115200, "
        "file:///media/usb/edgeloop; repeat it for the fallback order")  # fmt: skip
    add("--device", metavar="ID", help="this device's name in the reports (default: the host name)")
    add("--state", metavar="DIR", type=Path, help="folder for the spool and unpacked bundles")
    add("--report-interval", metavar="S", type=float, help="seconds between two reports (default: 10)")
    add("--spool-size", metavar="MIB", type=float, help="room for reports that wait on the disk (default: 16)")
    add("--spool-max-age", metavar="DAYS", type=float,
        help="older reports that were never sent become one a day (default: 7)")  # fmt: skip
    add("--trust", metavar="PATH", type=Path, action="append",
        help="accept bundles signed by a key of this .pub file or folder, and no others; may be repeated")  # fmt: skip
    add("--operators", metavar="PATH", type=Path, action="append",
        help="obey commands signed by these keys (.pub files, folders), no others (default: trusted ones)")  # fmt: skip
    add("--allow-unsigned", action="store_true",
        help="run a bundle that no trusted key signed (for the bench; said in every report)")  # fmt: skip
    add_activation_flags(run.add_argument_group("doing less: gate, governor and cascade"))
    add("--heartbeat-timeout", metavar="S", type=float, help="a silent worker is restarted (default: 10)")
    add("--frame-timeout", metavar="S", type=float, help="a worker stuck in one frame is restarted (default: 30)")
    add("--invoke-timeout", metavar="S", type=float,
        help="so is one whose driver takes that for one inference, and 20 times its slowest (default: 3)")  # fmt: skip
    add("--load-timeout", metavar="S", type=float, help="time to load and self-test the model (default: 120)")
    add("--retry-after", metavar="S", type=float,
        help="a delegate that is out is tried again after so long, then twice as long (default: 600)")  # fmt: skip
    add("--memory-limit", metavar="MIB", type=float,
        help="a worker that takes more memory than that is restarted (default: no limit)")  # fmt: skip
    add("--recheck", metavar="S", type=float,
        help="run one golden sample again so often: does it still compute right? (default: 60; 0: never)")  # fmt: skip
    add("--trial", metavar="S", type=float,
        help="a version that `update` brought is watched so long before it counts (default: 60)")  # fmt: skip
    add("--fallback-alert", metavar="S", type=float,
        help="a fallback that lasts longer is an alert in the reports (default: 600)")  # fmt: skip
    add(
        "--stop-timeout",
        metavar="S",
        type=float,
        help="all that a stop may take: the frame in work, then the last report (default: 2)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    lenient_output()
    try:
        args = build_parser().parse_args(arguments)
        as_json = args.json
        return int(args.run_verb(args)) if args.verb in VERBS else _VERBS[args.verb](args)
    except KeyboardInterrupt:  # before the supervisor takes signals, or a second one after it: what is spooled stays
        _tell(f"{_PROGRAM}: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `edgeloop-agent ... | head`
        silence_stdout()
        return EXIT_USAGE
    except Exception as error:
        return report_error(_PROGRAM, as_edgeloop_error(error), as_json=as_json)


def _run(args: argparse.Namespace) -> int:
    from edgeloop_agent.delivery.launched import Launched

    if args.launch:
        _launch(args)
    try:
        return _run_configs(args)
    except Exception as error:  # what a new agent or config on trial cannot do, the one before can
        launched = Launched.from_environment()
        lines = [] if launched is None else launched.give_up(as_edgeloop_error(error).message)
        if launched is None or not lines:
            raise
        _tell(f"rollback: {lines[0]}")
        launched.relaunch(lines)


def _launch(args: argparse.Namespace) -> None:
    from edgeloop_agent.delivery.launching import launch
    from edgeloop_agent.service.unit import agent_command

    if args.config is None:
        raise UsageError("--launch needs --config FILE")
    more = ["--json"] if args.json else []
    args.config = launch(args.config, more, agent_command().split(), _tell)


def _run_configs(args: argparse.Namespace) -> int:
    from edgeloop_agent.config_reading import load_configs

    flags = {k: v for k, v in vars(args).items() if k not in ("verb", "config", "json", "launch")}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in flags.items()}
    configs = load_configs(given, args.config)
    stdout_is_taken = any("jsonl:-" in config.sinks for config in configs)
    if args.json and stdout_is_taken:
        raise UsageError("--json and --sink jsonl:- both want stdout", hint="send the results to a file: jsonl:FILE")
    from edgeloop_agent.delivery.launched import Launched
    from edgeloop_agent.reports.sums import summary_text
    from edgeloop_agent.run import run_agent

    outcome = run_agent(
        configs, _tell, None if args.config is None else lambda: load_configs(given, args.config), args.config
    )
    if outcome.is_relaunched and (launched := Launched.from_environment()) is not None:
        launched.relaunch(outcome.went_back)
    if args.json:
        body = outcome.summary
        if outcome.error is not None:
            body = {**body, "error": error_body(outcome.error)}
        print(json_text(body), flush=True)
    else:
        # Results own stdout when they go there.
        print(summary_text(outcome.summary), file=sys.stderr if stdout_is_taken else sys.stdout, flush=True)
    return EXIT_DONE if outcome.error is None else report_error(_PROGRAM, outcome.error, as_json=False)


def _doctor(args: argparse.Namespace) -> int:
    from edgeloop.doctor import DEVICE, as_dict, as_text, examine, exit_code

    findings = examine(DEVICE, delegates=args.delegates or ())
    print(json_text(as_dict(findings)) if args.json else as_text(findings), flush=True)
    return exit_code(findings)


_VERBS = {"run": _run, "doctor": _doctor}


def _tell(text: str) -> None:
    """One line for people. Names of files may hold anything; and nobody may be there to read it any more."""
    with contextlib.suppress(OSError):
        print("".join(c if c.isprintable() else "?" for c in text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
