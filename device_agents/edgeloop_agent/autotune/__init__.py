"""Autotune: which variant, delegate and number of threads are best for a bundle on this board, measured on it.

`halving` decides (pure), `bench_child` is the process that is measured, `measure` stands between both, `tuned` is the
file in the state folder.
"""
