"""Reports, batches and commands as bytes: CBOR, frames on a serial line, histograms in few bytes."""
