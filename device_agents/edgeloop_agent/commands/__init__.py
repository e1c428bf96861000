"""What an operator may ask of a running agent, carried out in the supervisor: no numpy here.

`inbox` takes commands from the lines' threads, `executor` judges and obeys them, `jobs` are those that take long.
"""
