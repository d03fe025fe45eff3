"""Why a server's TLS certificate is not trusted, and the setting to check."""

import ssl
from collections.abc import Iterable

from dagster_offload.slot.config import SlotConfig

UNTRUSTED = "TLS certificate not trusted"  # OpenSSL's own words follow

# OpenSSL's X509_V_ERR_: not yet valid, expired; another name, another IP address.
_WRONG_DATES, _OF_ANOTHER_HOST = frozenset({9, 10}), frozenset({62, 64})


def refused_certificate(causes: Iterable[BaseException]) -> ssl.SSLCertVerificationError | None:
    """OpenSSL's error about a certificate among the causes of an error, or None. aiohttp's own has no details."""
    errors = (cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError))
    return next((error for error in errors if hasattr(error, "verify_code")), None)


def setting_behind_certificate(slot: SlotConfig, error: ssl.SSLCertVerificationError) -> str | None:
    """The setting that makes a certificate trusted; None if its dates are wrong, or the clock of this machine."""
    if error.verify_code in _WRONG_DATES:
        return None
    return slot.setting("url" if error.verify_code in _OF_ANOTHER_HOST else "ca_file")
