"""Which network addresses may be fetched from: public ones alone, so that no list of URLs reaches into this network."""

import ipaddress
import socket
from collections.abc import Sequence

from diptych.errors import DataError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# IPv6 addresses that lead to an IPv4 address: NAT64, 6to4.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, multicast or reserved.

    169.254.169.254, where clouds serve a machine's credentials, is link-local.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address in _6TO4:
            inner = ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def checked_addresses(host: str, port: int, *, allow_private: bool) -> Sequence[tuple[int, str]]:
    """Resolve a name once: (family, address) to connect to, in the resolver's order.

    The caller connects to these addresses and not to the name, which could resolve to another one the next time.

    Raises:
        DataError: the name does not resolve, or an address is not public and `allow_private` is not set.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{host} cannot be found: {getattr(error, 'strerror', None) or error}") from None
    found = dict.fromkeys((family, str(sockaddr[0])) for family, _, _, _, sockaddr in answers)
    for _, text in found:
        address = ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local address
        if not allow_private and not is_public(address):
            raise DataError(
                f"{host} has the address {address}, which is not public: nothing is fetched from this machine or its "
                "network; --allow-private permits it"
            )
    return list(found)
