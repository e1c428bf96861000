"""The release repository: a folder that any web server can serve and that devices believe because of its signatures
(The Update Framework, https://theupdateframework.io), not because of the server.

    roles.py       who signs what, and for how long
    keyring.py     the private keys that are at hand
    repository.py  a repository as it stands, read and verified
    change.py      one change of it, signed and written so that a reader sees all of it or nothing
    setup.py       a new repository; its keys changed, offline signatures
    publish.py     a bundle taken in
    steering.py    pause, resume, promote, halt
    rollout.py     what devices say about the versions offered
    halting.py     when an offer is stopped without being asked
"""
