"""`edgeloop-agent update` and `rollback`: what comes in, what stays out, and that what runs is not touched by it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeloop.bundle import Golden, load_or_create_signing_key
from edgeloop.bundle.packer import allow_older
from edgeloop.contract import InputSpec
from edgeloop_agent.cli import main
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.here import strangers
from edgeloop_agent.device_name import default_device_id
from support.agents import CONTRACT, frames, golden_of, make_bundle
from support.delegate_lib import RESHAPE, build_delegate, external


def update(bundle: Path, state: Path, capsys: Any, *more: str) -> tuple[int, dict[str, Any]]:
    words = ["update", str(bundle), "--state", str(state), "--rehearsal", "0.1", "--json", *more]
    code = main(words)
    return code, json.loads(capsys.readouterr().out)


def running(state: Path) -> int | None:
    version = model_folder(state, "digits").standing().running
    return None if version is None else version.number


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A state folder in which version 7 is committed."""
    state = tmp_path / "state"
    code, done = update(make_bundle(tmp_path / "7.bundle"), state, capsys)
    assert (code, done["state"]) == (0, "trial")
    model_folder(state, "digits").commit()
    return state


def test_a_newer_bundle_is_on_trial_after_its_rehearsal(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8, golden=golden_of(frames(2)))
    code, done = update(bundle, state, capsys)
    assert (code, done["state"], done["version"]) == (0, "trial", 8)
    assert done["rehearsal"]["n"] > 0 and done["rehearsal"]["memory_bytes"] > 1 << 20
    assert Path(done["link"]).read_bytes() == bundle.read_bytes()
    assert update(bundle, state, capsys)[1]["state"] == "there"


def test_what_stays_out_leaves_everything_as_it_is(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        (make_bundle(tmp_path / "6.bundle", version=6), (), "version 6 is older than 7"),
        (make_bundle(tmp_path / "other7.bundle", golden=golden_of(frames(2))), (), "another version 7 runs here"),
        (make_bundle(tmp_path / "slow.bundle", version=8), ("--max-p95", "1e-6"), "too slow here: p95"),
        (make_bundle(tmp_path / "big.bundle", version=9), ("--max-memory", "1"), "too large here:"),
        (make_bundle(tmp_path / "new.bundle", version=10, runtime={"litert": "99.0"}), (), "needs ai-edge-litert 99.0"),
        (make_bundle(tmp_path / "hw.bundle", version=11, delegates=("edgetpu",)), (), "edgetpu: "),
    ]
    for bundle, more, why in cases:
        code, done = update(bundle, state, capsys, *more)
        assert (code, done["state"]) == (1, "refused"), bundle
        assert why in done["reason"], done["reason"]
        assert running(state) == 7
    assert [v.number for v in model_folder(state, "digits").standing().kept] == [7]


def test_wrong_golden_outputs_are_refused(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = golden_of(frames(16))
    turned = {family: [outputs[0][::-1].copy()] for family, outputs in golden.outputs["int8"].items()}
    wrong = Golden(golden.inputs, {"int8": turned}, golden.tolerance_steps)
    code, done = update(make_bundle(tmp_path / "8.bundle", version=8, golden=wrong), state, capsys)
    assert (code, done["state"]) == (1, "refused") and "golden self-test" in done["reason"], done


def test_a_contract_that_is_not_the_models_is_refused(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(CONTRACT, inputs=(InputSpec(kind="image", size=(9, 9), color="gray"),))
    code, done = update(make_bundle(tmp_path / "8.bundle", version=8, contract=wrong), state, capsys)
    assert (code, done["state"]) == (1, "refused") and "9" in done["reason"], done


def test_pictures_are_refused_where_there_is_no_opencv(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding/cv2.py").write_text("raise ModuleNotFoundError('No module named cv2', name='cv2')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "hiding"), *sys.path])
    code, done = update(make_bundle(tmp_path / "8.bundle", version=8), state, capsys)
    assert (code, done["state"]) == (1, "refused") and "cv2 is not installed" in done["reason"], done
    assert "without --slim" in done["hint"], done


def test_a_crash_in_the_rehearsal_is_one_line(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = external(build_delegate(), claim_op=RESHAPE, crash_invoke=1)
    code, done = update(make_bundle(tmp_path / "8.bundle", version=8), state, capsys, "--delegate", library)
    assert (code, done["state"]) == (1, "refused") and "crashed (signal 11)" in done["reason"]


def test_an_older_version_comes_in_by_a_signed_exception(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, key = make_bundle(tmp_path / "6.bundle", version=6), load_or_create_signing_key()
    allow_older(older, key, ["another-device"])
    code, done = update(older, state, capsys)
    assert code == 1 and "older than 7, which ran here; its exception is for other devices than" in done["reason"]
    allow_older(older, key, [default_device_id()])
    assert update(older, state, capsys)[1]["state"] == "trial"
    model_folder(state, "digits").commit()
    standing = model_folder(state, "digits").standing()
    assert standing.committed is not None and (standing.committed.number, standing.highest) == (6, 7)
    # It is an exception for this one alone.
    assert "older than 7" in update(make_bundle(tmp_path / "5.bundle", version=5), state, capsys)[1]["reason"]


def test_a_version_that_failed_here_is_tried_again_only_when_asked(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    library = external(build_delegate(), claim_op=RESHAPE, crash_invoke=1)
    assert update(bundle, state, capsys, "--delegate", library)[0] == 1
    code, done = update(bundle, state, capsys)
    assert code == 1 and "failed here before: external" in done["reason"] and done["hint"] == "--again tries"
    assert update(bundle, state, capsys, "--again")[1]["state"] == "trial"


def test_a_budget_of_one_call_is_not_held_against_the_version(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    assert update(bundle, state, capsys, "--max-p95", "1e-6")[0] == 1
    assert update(bundle, state, capsys, "--max-p95", "1000")[1]["state"] == "trial"


def test_rollback_leads_to_versions_that_ran_well(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    update(make_bundle(tmp_path / "8.bundle", version=8), state, capsys)
    assert main(["rollback", "--state", str(state)]) == 0
    assert running(state) == 7
    assert main(["rollback", "--state", str(state)]) == 2
    assert "ever ran well" in capsys.readouterr().err and running(state) == 7
    assert model_folder(state, "digits").standing().highest == 7


def test_a_first_version_on_trial_can_be_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "fresh"
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    update(bundle, state, capsys)
    assert main(["rollback", "--state", str(state)]) == 2
    assert "-> edgeloop-agent rollback --trial" in capsys.readouterr().err
    assert main(["rollback", "--trial", "--state", str(state), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "digits", "version": None}
    assert running(state) is None
    assert main(["rollback", "--trial", "--state", str(state)]) == 2
    capsys.readouterr()
    assert update(bundle, state, capsys)[1]["state"] == "trial"


@pytest.mark.parametrize("damage", ["unsigned", "flipped", "cut"])
def test_what_no_trusted_key_signed_exits_4(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8, signed=damage != "unsigned")
    content = bytearray(bundle.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    bundle.write_bytes(bytes(content[: len(content) - (100 if damage == "cut" else 0)]))
    code, done = update(bundle, state, capsys)
    assert code == 4 and "8.bundle" in done["error"]["message"]
    assert running(state) == 7


def test_one_update_at_a_time(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = os.open(state / "installed" / ".door", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        code, done = update(make_bundle(tmp_path / "8.bundle", version=8), state, capsys)
    finally:
        os.close(held)
    assert code == 2 and "another update is going on" in done["error"]["message"]


def test_rollback_by_hand_leads_to_the_version_before(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "--state", str(state)]) == 2
    assert "ever ran well" in capsys.readouterr().err
    update(make_bundle(tmp_path / "8.bundle", version=8), state, capsys)
    model_folder(state, "digits").commit()
    assert main(["rollback", "--state", str(state), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "digits", "version": 7}
    assert running(state) == 7
    code, done = update(make_bundle(tmp_path / "other7.bundle", golden=golden_of(frames(2))), state, capsys)
    assert code == 1 and "older than 8" in done["reason"]


def test_nothing_to_roll_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--state", str(tmp_path)]) == 2
    assert "nothing came in by `update`" in capsys.readouterr().err


def test_bundles_for_another_architecture_are_strangers() -> None:
    for board, machine in (("rpi4", "aarch64"), ("rpi4", "armv7l"), ("generic", "aarch64")):
        assert "generic-x86-64" in strangers(board, machine)
        assert strangers(board, machine).isdisjoint({"rpi4", "rpi5", "coral-usb", "generic-aarch64"})
    assert "rpi4" in strangers("generic", "x86_64")
    assert strangers("generic", "riscv64") == frozenset()


def test_a_bundle_for_another_processor_is_refused(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "rpi4" if platform.machine() == "x86_64" else "generic-x86-64"
    code, done = update(make_bundle(tmp_path / "8.bundle", version=8, target=other), state, capsys)
    assert code == 1 and f"made for {other}, this is " in done["reason"], done


def test_of_several_models_the_one_that_runs_bundles_of_this_name_is_meant(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = model_folder(state, "digits").current
    config = tmp_path / "agent.toml"
    tables = [("other", tmp_path / "other.bundle", "edgetpu"), ("digits", link, "cpu")]
    config.write_text(
        f'state = "{state}"\n'
        + "".join(
            f'[model.{name}]\nbundle = "{bundle}"\nsource = "synthetic:"\ndelegate = "{delegate}"\n'
            for name, bundle, delegate in tables
        )
    )
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    assert main(["update", str(bundle), "--config", str(config), "--rehearsal", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rehearsal"]["delegate"] == "cpu"
