"""Commands to a device: what may be asked of it, in which bytes, by whom. No I/O here; standard library and cbor2.

`values` are commands and answers, `codec` their bytes, `signing` who vouches for a command, `judging` whether a device
obeys it. How they travel is the matter of the transports; `edgeloop_agent.commands` carries them out.
"""
