"""Releases: what a device does about a repository that somebody publishes. `pull` is one poll of it, in a process of
its own; `polling` starts that process in the running agent. What comes in goes through the door, `delivery`.
"""
