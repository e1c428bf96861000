"""Where reports wait on a device until they are acknowledged."""
