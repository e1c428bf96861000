"""Passes that make a quantized model better by changing constants only: ranges, scales, codes, biases."""
