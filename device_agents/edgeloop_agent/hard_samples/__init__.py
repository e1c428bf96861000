"""Opt-in: inputs that the model was unsure of are kept on the device, and sent to the collector within a quota."""
