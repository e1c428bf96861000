"""A real delegate, built by gcc: what it takes, refuses and breaks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DelegateError
from edgeloop.runtime import open_first, open_session, probe_delegate
from support.delegate_lib import ADD, RESHAPE, build_delegate, external

FRAME = np.random.default_rng(1).random((1, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_delegate()


def test_a_delegate_that_takes_nothing_is_not_what_ran(library: Path, digits_tflite: Path) -> None:
    with open_session(digits_tflite, delegate=external(library)) as session:
        ran = session.ran_on
    assert (ran.ran, ran.delegated_ops, ran.total_ops) == ("xnnpack", 9, 9)
    assert "external took none of the 9 ops" in ran.note


def test_the_ops_that_it_takes_are_counted_and_computed(library: Path, digits_tflite: Path) -> None:
    with open_session(digits_tflite) as session:
        expected = session.run(FRAME)[0]
    with open_session(digits_tflite, delegate=external(library, claim_op=RESHAPE)) as session:
        ran = session.ran_on
        np.testing.assert_allclose(session.run(FRAME)[0], expected, atol=1e-6)
    assert (ran.ran, ran.delegated_ops, ran.total_ops) == ("external", 1, 9)
    assert ran.note == "external took 1 of 9 ops; xnnpack took 8 more"


def test_int8_additions_go_to_it_and_come_out_the_same(library: Path, shared_data: Path) -> None:
    model = shared_data / "models/mlperf_tiny/pretrainedResnet_quant.tflite"
    frame = np.random.default_rng(0).integers(-128, 127, (1, 32, 32, 3), dtype=np.int8)
    with open_session(model) as plain, open_session(model, delegate=external(library, claim_op=ADD)) as session:
        assert (session.ran_on.ran, session.ran_on.delegated_ops, session.ran_on.total_ops) == ("external", 3, 16)
        difference = np.abs(session.run(frame)[0].astype(int) - plain.run(frame)[0].astype(int))
    assert difference.max() <= 2


def test_a_compiled_coral_model_runs_on_a_delegate_that_brings_its_op(library: Path, shared_data: Path) -> None:
    model = shared_data / "models/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    with open_session(model, delegate=external(library, claim_custom="edgetpu-custom-op")) as session:
        assert (session.ran_on.ran, session.ran_on.delegated_ops, session.ran_on.total_ops) == ("external", 1, 1)
        [info] = session.inputs
        assert session.run(np.zeros(info.shape, info.dtype))[0].flatten()[0] == 7
    with pytest.raises(DelegateError, match="edgetpu-custom-op"):
        open_session(model, delegate=external(library))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "none"}, "xdelegate: no device none"),
        ({"bogus": 1}, "xdelegate: unknown option bogus=1"),
        ({"fail_prepare": 1}, "xdelegate: graph refused by option"),
        ({"claim_op": RESHAPE, "fail_kernel": 1}, "xdelegate: kernel refused by option"),
    ],
)
def test_a_refusal_carries_the_drivers_own_words(
    library: Path, digits_tflite: Path, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(DelegateError) as caught:
        open_session(digits_tflite, delegate=external(library, **options))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    session, [failure] = open_first(digits_tflite, [external(library, **options), "cpu"])
    session.close()
    assert reason in failure.reason


def test_a_device_that_is_lost_while_running_is_a_delegate_error(library: Path, digits_tflite: Path) -> None:
    with open_session(digits_tflite, delegate=external(library, claim_op=RESHAPE, fail_invoke=1, after=2)) as session:
        session.run(FRAME)
        session.run(FRAME)
        with pytest.raises(DelegateError, match="inference on external failed: xdelegate: device lost"):
            session.run(FRAME)


def test_a_delegate_that_computes_wrongly_gives_other_results(library: Path, digits_tflite: Path) -> None:
    with open_session(digits_tflite) as plain:
        expected = plain.run(FRAME)[0]
    with open_session(digits_tflite, delegate=external(library, claim_op=RESHAPE, wrong=1)) as session:
        assert np.abs(session.run(FRAME)[0] - expected).max() > 0.01


def test_a_library_beside_the_user_is_found_by_its_bare_name(
    library: Path, digits_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(library, tmp_path / "libmine.so")
    monkeypatch.chdir(tmp_path)
    for name in ("external:libmine.so", "external:./libmine.so"):
        open_session(digits_tflite, delegate=name).close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("edgetpu", "libedgetpu.so.1 is not installed"),
        ("gpu", "is not installed"),
        ("external:/nowhere/libx.so", "there is no file /nowhere/libx.so"),
        ("external:libnowhere.so", "libnowhere.so is not installed"),
        ("external:libm.so.6", "not a TFLite delegate"),
        ("external:{text}", "is not a shared library"),
        ("external:{arm}", "is built for another architecture"),
    ],
)
def test_a_probe_says_why_and_what_to_do(name: str, why: str, tmp_path: Path, library: Path) -> None:
    text, arm = tmp_path / "text.so", tmp_path / "arm.so"
    text.write_text("no library at all\n" * 100)
    other = bytearray(library.read_bytes())
    other[18:20] = (0xF3 if other[18] != 0xF3 else 0xB7).to_bytes(2, "little")  # ELF e_machine: RISC-V
    arm.write_bytes(other)
    probe = probe_delegate(name.format(text=text, arm=arm))
    assert not probe.ok
    assert why in probe.why
    assert probe.fix


def test_a_driver_that_crashes_or_hangs_does_not_take_us_along(library: Path) -> None:
    crashed = probe_delegate(external(library, crash_create=1))
    assert not crashed.ok
    assert "crashed while loading (signal 11)" in crashed.why
    hung = probe_delegate(external(library, hang_create=1), timeout_s=1.5)
    assert not hung.ok
    assert "did not answer" in hung.why


@pytest.mark.parametrize("name", ["cpu", "xnnpack", "external"])
def test_what_is_there_is_found(name: str, library: Path) -> None:
    assert probe_delegate(external(library) if name == "external" else name).ok


def test_a_process_with_a_delegate_ends_quietly(library: Path, digits_tflite: Path) -> None:
    """Interpreter before delegate, whatever the order in which Python lets go of them."""
    code = (
        "import sys; from pathlib import Path; from edgeloop.runtime import open_session\n"
        "keep = [open_session(Path(sys.argv[1]), delegate=sys.argv[2]) for _ in range(3)]\n"
        "keep[0].close(); other = keep.pop(); del keep\n"
    )
    argv = [sys.executable, "-c", code, str(digits_tflite), external(library, claim_op=RESHAPE)]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_library_that_its_driver_needs_is_named(tmp_path: Path) -> None:
    """As libedgetpu does where libusb is missing."""
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    (tmp_path / "empty.c").write_text("int needed(void) { return 1; }\n")
    (tmp_path / "user.c").write_text("int needed(void); int user(void) { return needed(); }\n")
    build = [compiler, "-shared", "-fPIC", "-o"]
    subprocess.run([*build, "libneeded.so", "empty.c"], cwd=tmp_path, check=True)
    subprocess.run([*build, "libuser.so", "user.c", "-L.", "-lneeded"], cwd=tmp_path, check=True)
    (tmp_path / "libneeded.so").unlink()
    probe = probe_delegate(f"external:{tmp_path / 'libuser.so'}")
    assert "needs libneeded.so, which is not installed" in probe.why


def test_a_library_that_needs_another_names_it(tmp_path: Path) -> None:
    """As a GPU delegate on a board without OpenCL."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    (tmp_path / "cl.c").write_text("int cl_start(void) { return 1; }")
    (tmp_path / "gpu.c").write_text("int cl_start(void); int gpu(void) { return cl_start(); }")
    build = [compiler, "-shared", "-fPIC", "-o"]
    opencl, gpu = tmp_path / "libOpenCL-of-no-board.so.1", tmp_path / "libgpu.so"
    subprocess.run([*build, opencl, tmp_path / "cl.c", "-Wl,-soname,libOpenCL-of-no-board.so.1"], check=True)
    subprocess.run([*build, gpu, tmp_path / "gpu.c", opencl], check=True)
    opencl.unlink()
    probe = probe_delegate(f"external:{gpu}")
    assert not probe.ok
    assert "libgpu.so needs libOpenCL-of-no-board.so.1, which is not installed" in probe.why
