"""`edgeloop-agent enroll`: this device gets its credential from a collector, once."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.errors import DeviceError, EdgeloopError, UsageError
from edgeloop.mains import json_text

EPILOG = """example:
  edgeloop-agent enroll https://collector.local:8443 --token elt-... --ca ca.pem
  edgeloop-agent run ... --telemetry https://collector.local:8443

The device makes its key itself; it never leaves the state folder. The agent renews the certificate before it ends.
Give `run` the same --device and --state. Exit codes: 0 done, 3 the collector cannot be reached, 4 it refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="https://HOST:PORT of the collector")
    parser.add_argument("--token", metavar="T", help="from `edgeloop collect token create`")
    parser.add_argument("--token-file", metavar="FILE", type=Path, help="the same, not seen in the list of processes")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="the collector's ca.pem (default: the system's CAs)")
    parser.add_argument("--device", metavar="ID", help="this device's name (default: the host name)")
    parser.add_argument("--state", metavar="DIR", type=Path, help="state folder (default: the agent's own)")
    parser.add_argument("--bearer", action="store_true", help="a token of its own instead of a client certificate")


def run(args: argparse.Namespace) -> int:
    from edgeloop import paths
    from edgeloop.telemetry.identity.kept import IdentityFolder, base_of
    from edgeloop_agent.device_name import default_device_id

    state = args.state or paths.state_dir() / "agent"
    folder, device, base = IdentityFolder(state), args.device or default_device_id(), base_of(args.url)
    folder.plant(_token(args), device, bearer=args.bearer)
    if args.ca is not None:
        folder.keep_ca(_read(args.ca))
    _enroll(args.url, state)
    identity = folder.identity()
    if identity is None:
        raise DeviceError(f"{base} did not enroll this device")
    data = {
        "url": identity.url, "device": identity.device, "kind": identity.kind, "expires_s": identity.expires_s,
        "folder": str(folder.path),
    }  # fmt: skip
    text = f"enrolled as {device} at {base}, with a {identity.kind}\nkept in {folder.path}"
    print(json_text(data) if args.json else text, flush=True)
    return 0


def _enroll(url: str, state: Path) -> None:
    import http.client

    from edgeloop.telemetry.transports import parse_address
    from edgeloop.telemetry.transports.http import HttpTransport, open_url
    from edgeloop.telemetry.transports.http_troubles import failed

    address = parse_address(url, state=state)
    transport: HttpTransport = open_url(address)
    try:
        transport.prepare()
    except EdgeloopError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise failed(url.partition("?")[0], error, tls=True, ca_flag="--ca FILE") from error
    finally:
        transport.close()


def _token(args: argparse.Namespace) -> str:
    if (args.token is None) == (args.token_file is None):
        raise UsageError("give --token or --token-file", hint="edgeloop collect token create makes one")
    return str(args.token or _read(args.token_file)).strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")[: 64 << 10]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
