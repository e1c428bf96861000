from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bench import BenchReport, BenchRequest, bench_model, bench_models
from edgeloop.bench.measuring import _histogram
from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.cli.main import main
from edgeloop.contract import Contract, InputSpec
from edgeloop.errors import DelegateError, DeviceError, RefusedError, UsageError
from edgeloop.probes import board_name
from edgeloop.telemetry.histogram import Histogram
from support.delegate_lib import RESHAPE, build_delegate, external

DESIGN_KEYS = {
    "device", "delegate", "threads", "n", "p50_ms", "p95_ms", "p99_ms", "throughput_per_s", "throttled", "load_ms",
    "rss_bytes", "cpu_percent", "ci95_ms",
}  # fmt: skip


def test_a_number_says_where_how_and_of_how_many_it_is(digits_tflite: Path) -> None:
    report = bench_model(digits_tflite, n=23, threads=2)
    [result] = report.results
    assert (result.n, result.threads, result.delegate, result.model) == (23, 2, "xnnpack", "digits")
    assert result.device
    assert 0 < result.min_ms <= result.p50_ms <= result.p95_ms <= result.p99_ms
    assert result.throughput_per_s > 0
    assert result.load_ms > 0
    assert (result.rss_bytes or 0) > 1 << 20
    profile = result.profile()
    assert (profile.delegate, profile.n, profile.p95_ms) == ("xnnpack", 23, result.p95_ms)


def test_the_histogram_holds_every_run_in_the_buckets_of_telemetry(digits_tflite: Path) -> None:
    report = bench_model(digits_tflite, n=40)
    [result] = report.results
    assert sum(count for _, _, count in result.histogram) == 40
    assert result.histogram[0][0] <= result.min_ms <= result.histogram[0][1] + 1e-4
    telemetry = list(Histogram.of_ns([900, 1_000_000, 1_000_001, 5_123_456]).intervals_ms())
    assert _histogram([900, 1_000_000, 1_000_001, 5_123_456]) == tuple(pytest.approx(bucket) for bucket in telemetry)
    assert BenchReport.from_json(json.dumps(report.to_dict())) == report


def test_the_delegate_in_a_result_is_the_one_that_ran(digits_tflite: Path) -> None:
    """An external delegate that takes nothing must not get the credit for XNNPACK's speed."""
    library = build_delegate()
    report = bench_model(digits_tflite, delegates=[external(library), external(library, claim_op=RESHAPE)], n=3)
    assert [(r.delegate, r.delegated_ops) for r in report.results] == [("xnnpack", 9), ("external", 1)]
    assert report.results[0].delegate_asked.startswith("external:")


def test_models_and_delegates_are_measured_together(digits_tflite: Path) -> None:
    models = {"a": digits_tflite, "b": digits_tflite.read_bytes()}
    heard: list[str] = []
    report = bench_models(models, BenchRequest(("xnnpack", "cpu"), n=5), on_case=heard.append)
    assert [(r.model, r.delegate, r.n) for r in report.results] == [
        ("a", "xnnpack", 5), ("a", "cpu", 5), ("b", "xnnpack", 5), ("b", "cpu", 5),
    ]  # fmt: skip
    assert heard == ["a on xnnpack", "a on cpu", "b on xnnpack", "b on cpu"]


def test_a_delegate_that_is_not_there_is_reported_beside_the_others(digits_tflite: Path) -> None:
    report = bench_model(digits_tflite, delegates=["edgetpu", "cpu"], n=2)
    assert [r.delegate for r in report.results] == ["cpu"]
    assert report.failures[0].delegate == "edgetpu"
    with pytest.raises(DelegateError, match="libedgetpu"):
        bench_model(digits_tflite, delegates=["edgetpu"], n=2)


def test_a_device_that_fails_while_warming_up_is_reported_too(digits_tflite: Path) -> None:
    lost = external(build_delegate(), claim_op=RESHAPE, fail_invoke=1, after=1)
    report = bench_model(digits_tflite, delegates=[lost, "cpu"], n=2)
    assert "device lost" in report.failures[0].reason


def test_a_fallback_order_stops_at_the_first_that_opens(digits_tflite: Path) -> None:
    report = bench_model(digits_tflite, delegates=["edgetpu", "cpu", "xnnpack"], n=2, first_only=True)
    assert [r.delegate for r in report.results] == ["cpu"]


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"threads": 0}, {"delegates": ()}, {"delegates": ("fast",)}, {"delegates": ("external:",)}]
)
def test_a_senseless_request_is_wrong_use(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        BenchRequest(**wrong)  # type: ignore[arg-type]


def test_a_corrupt_model_is_refused() -> None:
    with pytest.raises(RefusedError):
        bench_model(b"TFL3 nothing", n=1)


def test_the_module_alone_measures_and_its_answer_reads_back(digits_tflite: Path) -> None:
    """What the host runs on a device: numpy and an interpreter, nothing heavy."""
    request = BenchRequest(("xnnpack", "cpu"), threads=1, n=4)
    code = (
        "import sys; from edgeloop.bench import main; code = main(sys.argv[1:])\n"
        "heavy = {'tensorflow', 'sklearn', 'rich', 'sqlalchemy', 'cryptography', 'ai_edge_quantizer'}\n"
        "sys.exit(code or sorted(heavy & set(sys.modules)) or 0)"
    )
    argv = [sys.executable, "-c", code, *request.argv([str(digits_tflite)])]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    report = BenchReport.from_json(done.stdout)
    assert [(r.model, r.delegate, r.n) for r in report.results] == [("digits", "xnnpack", 4), ("digits", "cpu", 4)]


def test_an_error_on_the_device_is_the_same_error_here(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    argv = [sys.executable, "-m", "edgeloop.bench", *BenchRequest().argv([str(tmp_path / "bad.tflite")])]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 4
    with pytest.raises(RefusedError, match="not a usable"):
        BenchReport.from_json(done.stdout)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda x: (
                st.lists(x, max_size=3)
                | st.dictionaries(st.sampled_from(["results", "failures", "error", "n", "message", "exit_code"]), x)
            ),
        ).map(json.dumps),
    )
)
def test_any_other_answer_of_a_device_is_one_error(answer: bytes | str) -> None:
    try:
        report = BenchReport.from_json(answer)
    except (DeviceError, UsageError, RefusedError):
        return
    assert report.results == () or report.results[0].n is not None


def test_a_newer_device_may_say_more_than_we_know(digits_tflite: Path) -> None:
    data = bench_model(digits_tflite, n=2).to_dict()
    data["results"][0]["phase_of_the_moon"] = 0.5
    assert BenchReport.from_json(json.dumps(data)).results[0].n == 2


def test_bench_json_has_the_keys_of_the_design(digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(digits_tflite), "-n", "5", "--json"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert set(data) >= DESIGN_KEYS
    assert (data["n"], data["delegate"], data["model"]) == (5, "xnnpack", "digits")
    assert err == ""


def test_bench_prints_a_table_for_people(digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(digits_tflite), "-n", "5", "--delegate", "cpu", "--delegate", "edgetpu"]) == 3
    out, err = capsys.readouterr()
    _, head, row, *_ = out.splitlines()
    columns = "model ran on ops p50 ms 95 % CI p95 ms p99 ms n threads per s load ms RSS CPU device"
    assert " ".join(head.split()) == columns
    cells = row.split()
    assert cells[:2] == ["digits", "cpu"]
    assert cells[7:9] == ["5", "1"]
    assert row.endswith(f"%  {board_name()}")
    assert "not measured: delegate edgetpu: libedgetpu.so.1 is not installed" in err


def test_a_delegate_that_crashes_is_one_line(digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crash = external(build_delegate(), claim_op=RESHAPE, crash_invoke=1)
    assert main(["bench", str(digits_tflite), "--delegate", crash]) == 3
    err = capsys.readouterr().err
    assert "crashed (signal 11)" in err
    assert "crash_invoke=1" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.tflite"], 2, "nowhere.tflite"),
        (["{dir}"], 2, "directory"),
        (["{bad}"], 4, "not a usable .tflite"),
        (["{zip}"], 4, "not a bundle"),
        (["{model}", "--delegate", "quick"], 2, "not known"),
        (["{model}", "-n", "0"], 2, "n must be"),
        (["{model}", "--threads", "-1"], 2, "threads"),
        (["{model}", "--variant", "int8"], 2, "only bundles have variants"),
        (["{model}", "--device", "carrier-pigeon:"], 2, "carrier-pigeon"),
    ],
)
def test_wrong_use_and_bad_files_are_one_line(
    arguments: list[str], code: int, says: str, digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"model": str(digits_tflite), "dir": str(tmp_path), "bad": f"{tmp_path}/b.tflite", "zip": f"{tmp_path}/z"}
    Path(names["bad"]).write_bytes(bytes(range(100)))
    Path(names["zip"]).write_bytes(b"PK\3\4 no zip after all")
    assert main(["bench", *(a.format(**names) for a in arguments)]) == code
    err = capsys.readouterr().err
    assert says.format(**names) in err
    assert "Traceback" not in err


@pytest.fixture
def bundle(digits_tflite: Path, tmp_path: Path) -> Path:
    """Two variants of one model; the first wishes for a delegate that is not there, then for cpu. Signed."""
    model = digits_tflite.read_bytes()
    variants = [
        VariantDraft("tpu", model, "float", ("edgetpu", "cpu")),
        VariantDraft("plain", model, "float", ("cpu",)),
    ]
    contract = Contract((InputSpec(shape=(8, 8, 1)),))
    write_bundle(tmp_path / "d.bundle", BundleDraft("d", 1, "rpi4", contract, variants), load_or_create_signing_key())
    return tmp_path / "d.bundle"


def test_a_bundle_is_measured_on_the_first_delegate_of_its_wishes(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(bundle), "-n", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["model"], data["delegate"], data["delegate_asked"]) == ("tpu", "cpu", "cpu")
    assert data["failures"][0]["delegate"] == "edgetpu"


def test_variants_of_a_bundle_are_compared(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "bench",
        str(bundle),
        "--variant",
        "plain",
        "--variant",
        "tpu",
        "--delegate",
        "xnnpack",
        "-n",
        "2",
        "--json",
    ]
    assert main(argv) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(r["model"], r["delegate"]) for r in data["results"]] == [("plain", "xnnpack"), ("tpu", "xnnpack")]
    assert main(["bench", str(bundle), "--variant", "int4"]) == 2
    assert "it has: tpu, plain" in capsys.readouterr().err


def test_a_bundle_of_nobody_is_refused_unless_allowed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELOOP_HOME", str(bundle.parent / "someone-else"))
    assert main(["bench", str(bundle), "-n", "1"]) == 4
    assert main(["bench", str(bundle), "-n", "1", "--delegate", "cpu", "--allow-unsigned"]) == 0
