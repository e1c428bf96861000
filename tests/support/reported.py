"""A report with everything in it, and what a page of it must never do."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

HOSTILE = '<script>alert("x")</script>\'"&\x00\ud800'


def report(**changes: Any) -> dict[str, Any]:
    """One of every part, as `convert` and the repair ladder write it; `changes` go over it."""
    values: dict[str, Any] = {
        "name": "ic", "version": 3, "target": "rpi4", "gate": {"passed": True, "reasons": [], "unverified": []},
        "goals": {"max_drop": 0.005}, "agreement_kind": "top-1", "float": {"bytes": 318292, "profile": {
            "device": "this host (x86-64), not the target", "p50_ms": 0.3, "p95_ms": 0.31, "p99_ms": 0.4,
            "delegate": "xnnpack", "threads": 1, "n": 500}},
        "variants": [{
            "name": "int8", "bytes": 95568, "scheme": "int8",
            "metrics": {"metric": "accuracy", "float": 0.755, "this": 0.7512, "agreement": 0.965, "n": 1000},
            "profile": {"device": "this host (x86-64), not the target", "p50_ms": 0.135, "p95_ms": 0.16, "p99_ms": 0.16,
                        "delegate": "xnnpack", "threads": 1, "n": 500},
        }],
        "scores": {"int8": {"accuracy": 0.7512, "precision": 0.76, "recall": 0.75, "f1": 0.749}},
        "confusion": {"labels": ["cat", "dog"], "matrix": [[8, 2], [0, 10]]},
        "per_op": [{"index": 0, "name": "CONV_2D", "output": "relu", "mse": 1e-4, "max_abs": 0.1, "snr_db": 31.2}],
        "latency": {"float": [[0.3, 0.31, 499], [2.0, 2.1, 1]], "int8": [[0.13, 0.14, 480], [0.15, 0.16, 20]]},
        "ranges": [
            {"index": None, "name": "INPUT", "tensor": "image", "float_min": 0.0, "float_max": 255.0,
             "quantized_min": 0.0, "quantized_max": 255.0, "clipped": 0.0},
            {"index": 0, "name": "CONV_2D", "tensor": "relu;fused", "float_min": 0.0, "float_max": 9.5,
             "quantized_min": 0.0, "quantized_max": 6.0, "clipped": 0.042},
        ],
        "analysis": {
            "macs": 5_000_000,
            "ops": [
                {"index": 0, "name": "CONV_2D", "placement": "xnnpack", "reason": "", "macs": 4_000_000,
                 "output": [1, 8, 8, 16], "dtype": "int8"},
                {"index": 1, "name": "SOFTMAX", "placement": "cpu", "reason": "not xnnpack: only float32, this is int8",
                 "macs": 1_000_000, "output": [1, 10], "dtype": "int8"},
            ],
            "delegates": {"xnnpack": {"mapped_ops": 1, "total_ops": 2, "status": "predicted"}},
        },
        "repairs": [
            {"name": "bias correction", "before": 0.741, "after": 0.744, "seconds": 0.8, "kept": True},
            {"name": "ops in float", "before": {"accuracy": 0.744}, "after": {"accuracy": 0.7512},
             "bytes": [90000, 95568], "ops": [{"index": 1, "name": "SOFTMAX"}], "seconds": 3.1, "kept": True},
        ],
        "refinement": [
            {"name": "range search", "detail": "1 of 2 ranges changed", "seconds": 1.0,
             "before": {"held_out_error": 0.004}, "after": {"held_out_error": 0.003}, "accepted": True},
        ],
        "findings": [{"check": "leak", "severity": "warning", "what": "1 of 9 is in both", "fix": "give --eval"}],
        "data": {"calibration": {"source": "calib dir/", "samples": 100, "labelled": True},
                 "evaluation": {"source": "test/", "samples": 1000, "labelled": True}},
        "contract": {"inputs": [{"kind": "image", "size": [8, 8], "color": "rgb", "resize": "stretch", "mean": [0.0],
                                 "std": [255.0]}], "output": {"kind": "classification", "labels": ["cat", "dog"]}},
        "bundle": "my model-3.bundle", "notes": ["read as RGB"], "command": "edgeloop convert m.h5",
        "provenance": {"edgeloop": "0.1", "versions": {"numpy": "2"}},
    }  # fmt: skip
    return {**values, **changes}


class Checker(HTMLParser):
    """Collects tags and text; notes what would reach out or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.text = ""

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        if name in ("script", "link", "img", "iframe", "object", "use", "image"):
            self.problems.append(name)
        for key, value in attrs:
            leads_out = key in ("src", "href", "xlink:href") and not (value or "").startswith("#")
            if leads_out or key.startswith("on") or "url(" in (value or ""):
                self.problems.append(f"{name} {key}={value}")
        if name != "meta":
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        if not self.open or self.open.pop() != name:
            self.problems.append(f"</{name}>")

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(page: str) -> str:
    page.encode("utf-8")
    parser = Checker()
    parser.feed(page)
    assert parser.problems == []
    assert parser.open == []
    return parser.text
