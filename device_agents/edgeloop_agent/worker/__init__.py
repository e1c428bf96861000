"""The worker process: source, gate, preprocessing, model, decoding, sinks."""
