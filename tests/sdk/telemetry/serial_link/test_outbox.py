"""What goes out on a line next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeloop.telemetry.serial_link.outbox import Outbox


def _drain(outbox: Outbox, piece: int = 1 << 20) -> bytes:
    out = b""
    while outbox:
        data = outbox.peek(piece)
        outbox.written(len(data))
        out += data
    return out


def test_a_long_transfer_does_not_hold_back_an_acknowledgement() -> None:
    outbox = Outbox()
    for n in range(1000):
        outbox.put_bulk(1, b"chunk %03d;" % n)
    sent = outbox.peek(4)
    outbox.written(4)
    outbox.put(b"ack;")
    rest = _drain(outbox)
    assert (sent + rest).startswith(b"chunk 000;ack;chunk 001;")


def test_bulk_channels_take_turns() -> None:
    outbox = Outbox()
    for n in range(3):
        outbox.put_bulk(1, b"a%d " % n)
    outbox.put_bulk(2, b"b0 ")
    outbox.put_bulk(2, b"b1 ")
    assert outbox.bulk_waiting(1) == 3
    assert _drain(outbox) == b"a0 b0 a1 b1 a2 "
    assert outbox.bulk_waiting(1) == 0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30))),
    st.lists(st.integers(1, 17), min_size=1, max_size=30),
)
def test_every_frame_goes_out_whole_and_each_channel_in_its_order(
    frames: list[tuple[int, int]], pieces: list[int]
) -> None:
    """Channel 0 are the prompt ones; a line that takes any number of bytes at a time."""
    outbox, out, turn = Outbox(), b"", 0
    for number, (channel, size) in enumerate(frames):
        data = b"%d:%d:" % (channel, number) + b"x" * size + b"\n"
        outbox.put(data) if channel == 0 else outbox.put_bulk(channel, data)
        if number % 3 == 2:
            taken = outbox.peek(pieces[turn % len(pieces)])
            outbox.written(len(taken))
            out, turn = out + taken, turn + 1
    out += _drain(outbox, pieces[0])
    lines = out.splitlines()
    assert len(lines) == len(frames)
    for channel in range(4):
        mine = [line.split(b":")[1] for line in lines if line.startswith(b"%d:" % channel)]
        assert mine == [b"%d" % n for n, (c, _) in enumerate(frames) if c == channel]
