"""Boards: what each kind says about its health, one file per board behind one interface (`board.Board`)."""

from edgeloop.boards.board import Board, Gauges
from edgeloop.boards.table import BOARDS, detect_board

__all__ = ["BOARDS", "Board", "Gauges", "detect_board"]
