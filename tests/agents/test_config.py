"""Settings of the agent: file and flags, what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import ConfigError, RefusedError, UsageError
from edgeloop_agent.cli import build_parser
from edgeloop_agent.config_reading import load_config

FLAGS = {"bundle": Path("a.bundle"), "source": "synthetic:"}


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    return file


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path, 'bundle = "b.bundle"\nsource = "npz:x.npz"\nrate = 5\ndelegate = ["edgetpu", "cpu"]\nthreads = 2'
    )
    config = load_config({"rate": 30.0, "source": None, "sinks": None}, file)
    assert (config.bundle, config.source, config.rate, config.threads) == (Path("b.bundle"), "npz:x.npz", 30.0, 2)
    assert config.delegates == ("edgetpu", "cpu")


def test_one_of_what_may_be_several_needs_no_list() -> None:
    config = load_config({**FLAGS, "telemetry": "http://host:8080", "trust": Path("a.pub"), "delegates": "cpu"})
    assert (config.telemetry, config.trust, config.delegates) == (("http://host:8080",), (Path("a.pub"),), ("cpu",))


def test_every_flag_but_allow_unsigned_is_a_key_of_the_file(tmp_path: Path) -> None:
    run = build_parser()._subparsers._group_actions[0].choices["run"]  # type: ignore[union-attr,index]
    flags = {a.option_strings[0][2:].replace("-", "_"): a for a in run._actions if a.option_strings[0].startswith("--")}
    values = {"loop": "true", "sink": '["jsonl:-"]', "trust": '["k.pub"]', "delegate": '["cpu"]', "gate": "true"}
    values |= {"autotune": "'memory'", "prefer": "'rate'", "cascade": "'0.8'", "temperature_limit": "70"}
    values |= dict.fromkeys(("max_difference", "accuracy_floor", "quiet", "midpoint"), "0.5") | {"record_load": "true"}
    text = "".join(
        f"{name} = {values.get(name, 5 if flags[name].type in (int, float) else repr('x'))}\n"
        for name in flags
        if name not in ("config", "json", "allow_unsigned", "help", "launch", "exit_head")  # which excludes cascade
    )
    assert load_config({}, write(tmp_path, text)).heartbeat_timeout == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bundel = 'x'", "unknown key 'bundel'"),
        ("threads = 'two'", "'threads' must be a whole number"),
        ("threads = 1.5", "'threads' must be a whole number"),
        ("threads = true", "'threads' must be a whole number"),
        ("loop = 1", "'loop' must be true or false"),
        ("sink = [1]", "'sink' must be a string or a list of strings"),
        ("telemetry = 5", "'telemetry' must be a string"),
        ("allow_unsigned = true", "cannot be set in a file"),
        ("x =", "agent config"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(FLAGS, write(tmp_path, line))


@pytest.mark.parametrize(
    ("key", "meant"), [("bundel", "bundle"), ("report-intervall", "report_interval"), ("Delegates", "delegate")]
)
def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path, key: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(FLAGS, write(tmp_path, f"{key} = 'x'"))
    assert refused.value.hint == f"did you mean '{meant}'?"
    with pytest.raises(ConfigError) as refused:
        load_config(FLAGS, write(tmp_path, "zzzzzz = 1"))
    assert "heartbeat_timeout" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 0}, {"count": 0}, {"rate": -1.0}, {"rate": float("nan")}, {"report_interval": 0.01},
        {"heartbeat_timeout": 1.0}, {"stop_timeout": 1e9},
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_wrong_use(wrong: dict) -> None:
    with pytest.raises(UsageError):
        load_config({**FLAGS, **wrong})


def test_bundle_and_source_are_needed() -> None:
    with pytest.raises(UsageError, match="--source is missing"):
        load_config({"bundle": Path("x")})


def test_unsigned_bundles_are_refused_under_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert load_config({**FLAGS, "allow_unsigned": True}).allow_unsigned
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(RefusedError, match="refused under systemd"):
        load_config({**FLAGS, "allow_unsigned": True})


keys = st.sampled_from(["bundle", "source", "threads", "rate", "sink", "loop", "zzz", "allow_unsigned"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=2),
)


@given(st.dictionaries(keys, values, max_size=4))
def test_any_table_gives_a_config_or_a_usage_error(table: dict) -> None:
    from edgeloop_agent.config import AgentConfig
    from edgeloop_agent.config_reading import _from_file

    with contextlib.suppress(UsageError):
        AgentConfig(**{**FLAGS, **_from_file(table, Path("agent.toml"))})


@pytest.mark.parametrize("field", ["bundle", "source", "sinks", "trust"])
def test_a_name_that_is_not_utf8_is_wrong_use(field: str) -> None:
    odd = {
        "bundle": Path("\udcff.bundle"),
        "source": "npz:\udcff",
        "sinks": ("jsonl:\udcff",),
        "trust": (Path("\udcff"),),
    }
    with pytest.raises(UsageError, match="is not UTF-8"):
        load_config({"bundle": Path("b"), "source": "synthetic:", field: odd[field]})


def test_the_spool_is_bounded_as_the_config_says_and_as_the_spool_does_by_itself(tmp_path: Path) -> None:
    from edgeloop.telemetry.spool.policy import DAY_S, DEFAULT_MAX_AGE_S, DEFAULT_MAX_BYTES

    place = load_config(FLAGS).spool
    assert (place.max_bytes, place.max_age_s) == (DEFAULT_MAX_BYTES, DEFAULT_MAX_AGE_S)
    file = tmp_path / "agent.toml"
    file.write_text("spool_size = 64\nspool_max_age = 30\n")
    place = load_config(FLAGS, file).spool
    assert (place.max_bytes, place.max_age_s) == (64 * 2**20, 30 * DAY_S)
    for wrong in ({"spool_size": 0.5}, {"spool_max_age": 0.0}):
        with pytest.raises(UsageError, match="spool_"):
            load_config({**FLAGS, **wrong})
