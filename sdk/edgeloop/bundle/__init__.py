"""The bundle: the signed file that takes a model to devices. `docs/bundle.md` is its guide.

Names load on first use: a device's supervisor opens bundles without numpy, without `cryptography` and without the
writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.bundle.golden import Golden as Golden
    from edgeloop.bundle.golden import GoldenCheck as GoldenCheck
    from edgeloop.bundle.golden import check_golden as check_golden
    from edgeloop.bundle.golden_maker import make_golden as make_golden
    from edgeloop.bundle.keys import SigningKey as SigningKey
    from edgeloop.bundle.keys import load_or_create_signing_key as load_or_create_signing_key
    from edgeloop.bundle.manifest import Manifest as Manifest
    from edgeloop.bundle.manifest import Metrics as Metrics
    from edgeloop.bundle.manifest import Profile as Profile
    from edgeloop.bundle.manifest import Variant as Variant
    from edgeloop.bundle.reader import Bundle as Bundle
    from edgeloop.bundle.reader import examine_bundle as examine_bundle
    from edgeloop.bundle.reader import inspect_bundle as inspect_bundle
    from edgeloop.bundle.stage import StagedBundle as StagedBundle
    from edgeloop.bundle.trust import PublicKey as PublicKey
    from edgeloop.bundle.trust import TrustStore as TrustStore
    from edgeloop.bundle.versions import claim_version as claim_version
    from edgeloop.bundle.versions import next_version as next_version
    from edgeloop.bundle.writer import BundleDraft as BundleDraft
    from edgeloop.bundle.writer import VariantDraft as VariantDraft
    from edgeloop.bundle.writer import write_bundle as write_bundle

_HOMES = {
    "Bundle": ".reader",
    "BundleDraft": ".writer",
    "Golden": ".golden",
    "GoldenCheck": ".golden",
    "Manifest": ".manifest",
    "Metrics": ".manifest",
    "Profile": ".manifest",
    "PublicKey": ".trust",
    "SigningKey": ".keys",
    "StagedBundle": ".stage",
    "TrustStore": ".trust",
    "Variant": ".manifest",
    "VariantDraft": ".writer",
    "check_golden": ".golden",
    "claim_version": ".versions",
    "examine_bundle": ".reader",
    "inspect_bundle": ".reader",
    "load_or_create_signing_key": ".keys",
    "make_golden": ".golden_maker",
    "next_version": ".versions",
    "write_bundle": ".writer",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
