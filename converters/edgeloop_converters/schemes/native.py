"""Schemes that ai-edge-quantizer packs by itself."""

from __future__ import annotations

from edgeloop.graph import Graph
from edgeloop_converters.aeq import Rule, pack
from edgeloop_converters.op_versions import set_int8_versions
from edgeloop_converters.quantization import check_no_loops, quantize_int8
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.table import SCHEMES
from edgeloop_converters.schemes.verify import Made, verified


def int8(job: Job) -> Made:
    assert job.ranges is not None
    return quantize_int8(
        job.model, job.ranges, fully_connected_per_tensor=job.per_tensor_dense, assistant=job.assistant,
        progress=job.progress,
    )  # fmt: skip


def int8_per_tensor(job: Job) -> Made:
    return _made("int8-per-tensor", job, Rule(per_tensor=True))


def a16w8(job: Job) -> Made:
    return _made("a16w8", job, Rule(activation_bits=16))


def dynamic(job: Job) -> Made:
    return _made("dynamic", job, Rule("dynamic"))


def weight_only(job: Job) -> Made:
    return _made("weight-only", job, Rule("weight-only"))


def fp16(job: Job) -> Made:
    return _made("fp16", job, Rule("fp16"))


def _made(name: str, job: Job, rule: Rule) -> Made:
    scheme = SCHEMES[name]
    if scheme.calibrated:
        check_no_loops(Graph.read(job.model))
    with job.progress.step(f"quantizing, {name}"):
        packed = pack(job.model, job.ranges if scheme.calibrated else None, [rule], job.assistant)
        graph = Graph.read(packed)
        set_int8_versions(graph)
        return verified(graph.write(), scheme)
