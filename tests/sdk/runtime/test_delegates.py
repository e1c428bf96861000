from __future__ import annotations

import contextlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop.runtime import DelegateSpec, parse_delegate


@pytest.mark.parametrize(
    ("text", "name", "library", "options"),
    [
        ("cpu", "cpu", "", {}),
        ("xnnpack", "xnnpack", "", {}),
        ("gpu", "gpu", "libtensorflowlite_gpu_delegate.so", {}),
        ("edgetpu", "edgetpu", "libedgetpu.so.1", {}),
        ("edgetpu:usb:0", "edgetpu", "libedgetpu.so.1", {"device": "usb:0"}),
        ("edgetpu:pci:1", "edgetpu", "libedgetpu.so.1", {"device": "pci:1"}),
        ("edgetpu:usb", "edgetpu", "libedgetpu.so.1", {"device": "usb"}),
        ("external:./libx.so", "external", "./libx.so", {}),
        ("external:./libx.so?key=value&k2=v2", "external", "./libx.so", {"key": "value", "k2": "v2"}),
        ("external:/a:b/libx.so?path=%2Fx%26y", "external", "/a:b/libx.so", {"path": "/x&y"}),
    ],
)
def test_a_delegate_is_read_from_text(text: str, name: str, library: str, options: dict[str, str]) -> None:
    spec = parse_delegate(text)
    assert (spec.name, spec.library, dict(spec.options)) == (name, library, options)
    assert parse_delegate(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    ["", "tpu", "XNNPACK", "cpu:0", "xnnpack?threads=2", "external", "external:", "external:x.so?", "external:x.so?k",
     "external:x.so?=v", "external:x.so?a=1&a=2", "edgetpu:com:1", "gpu:0"],
)  # fmt: skip
def test_a_malformed_delegate_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_delegate(text)


@given(
    st.text(st.characters(exclude_characters="?", codec="utf-8"), min_size=1).filter(lambda t: t == t.strip()),
    st.dictionaries(st.text(min_size=1), st.text(), max_size=4),
)
def test_the_text_form_of_any_external_delegate_reads_back(path: str, options: dict[str, str]) -> None:
    spec = DelegateSpec("external", path, options)
    assert parse_delegate(str(spec)) == spec


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_delegate(str(parse_delegate(text))) == parse_delegate(text)


def test_a_delegate_can_be_sent_to_another_process() -> None:
    spec = parse_delegate("external:x.so?a=b")
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
