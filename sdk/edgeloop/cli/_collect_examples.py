"""Below the help of `edgeloop collect init|token|device|user|audit`."""

from __future__ import annotations

EXAMPLES = {
    "init": """example:
  edgeloop collect init --host collector.local --host 192.168.1.20
  edgeloop collect init --renew

Then: edgeloop collect user add NAME, and edgeloop collect --tls --listen 0.0.0.0:8443. The folder's ca.pem is what
devices and browsers need; the rest of it stays here.""",
    "token": """example:
  edgeloop collect token create --uses 20 --expires 7d --group lab
  edgeloop collect token create --api prometheus --expires 52w
  edgeloop collect token list
  edgeloop collect token revoke ID

Run it where the collector's store is, or name it with --store. The token is shown once.""",
    "device": """example:
  edgeloop collect device list --group lab
  edgeloop collect device tag pi-1 pi-2 site=berlin floor-
  edgeloop collect device group pi-1 --group line-2
  edgeloop collect device revoke pi-1

A revoked device is refused at once; its reports stay.""",
    "user": """example:
  edgeloop collect user add ana --role operator
  edgeloop collect user password ana
  edgeloop collect user list

A viewer looks; an operator may send commands, too. The password is asked for.""",
    "audit": """example:
  edgeloop collect audit --limit 20
  edgeloop collect audit --action login.failed""",
}
