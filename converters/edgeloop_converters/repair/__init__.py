"""What happens when an exported file misses its goals: find the guilty ops, repair, or refuse naming them.

`plan` decides (pure), `restore` moves ops to float, `trials` tries them one at a time, `constants` changes ranges,
biases and weights, `ladder` goes through the rungs, `apply` puts it into a conversion.
"""
