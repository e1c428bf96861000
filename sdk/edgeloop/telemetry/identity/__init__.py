"""A device's own credential for a collector: made here, kept in its state folder, renewed by itself.

Light: the standard library, and the libcrypto that Python's `ssl` brings; small boards have no `cryptography`.
"""
