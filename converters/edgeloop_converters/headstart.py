"""The processes of a conversion, started before this one has imported its own modules: half a second for nothing.

Light to import: the standard library and little of ours.
"""

from __future__ import annotations

from pathlib import Path

from edgeloop_converters.assistant import Assistant
from edgeloop_converters.child import Child
from edgeloop_converters.frontends.ahead import head_start


class HeadStart:
    """`with HeadStart("resnet.h5") as ahead: ...` ends what is still running.

    assistant: packs and scores. packs: whether ai-edge-quantizer will be wanted.
    """

    def __init__(self, source: str, *, trust_code: bool = False, packs: bool = True) -> None:
        self._native = head_start(Path(source), trust_code=trust_code) if source else None
        self.assistant = Assistant()
        if packs:
            self.assistant.expect("pack")

    def native(self) -> Child | None:
        """The native converter's process, where the source needs one. It is the caller's from then on."""
        child, self._native = self._native, None
        return child

    def close(self) -> None:
        """End what was not taken. Safe to call twice."""
        self.assistant.close()
        if (child := self.native()) is not None:
            child.close()

    def __enter__(self) -> HeadStart:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
