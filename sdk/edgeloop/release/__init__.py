"""What host and device both know of a release: the description of a channel, who is in a cohort, how a delta is made
and applied. Stdlib only, pure; the publisher is `edgeloop.deploy.release`, the device's part `edgeloop_agent.release`.
"""
