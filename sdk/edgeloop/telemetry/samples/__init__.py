"""Hard samples: inputs that a model was unsure of, from a device whose owner turned that on to the collector."""
