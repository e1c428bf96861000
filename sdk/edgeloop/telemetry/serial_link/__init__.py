"""One serial line, both ways, for everything: reports, acknowledgements, commands, answers and bulk transfers.

`address` names a line and opens it, `lines` are the ways to read and write one, `outbox` says what goes out next and
`link` is a line in use. Both ends use the same.
"""
