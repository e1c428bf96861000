"""Writing into an operating system's image without mounting it: no root, no loop device.

`partitions` finds its way in, `fat` and `ext4` put files into the two file systems with mtools and debugfs, `os_image`
is both together.
"""
