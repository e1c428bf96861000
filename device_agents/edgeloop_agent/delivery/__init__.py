"""The one door through which something new comes onto a device, whatever the way in.

`update` decides (pure), `versions` keeps what is there in a folder that a power cut cannot spoil, `apply` does.
"""
