"""A server in this process, until it is told to stop."""

import ipaddress
from pathlib import Path

from wsss.prediction import Model
from wsss.server.limits import Limits

__all__ = ["check_host", "read_token", "serve"]

SHORTEST = 16
"""Characters of a token."""

_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe())' > token"


def serve(
    model: Model,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str = "",
    limits: Limits | None = None,
) -> None:
    """Answer requests until a signal ends it; those at work are answered first.

    Args:
        model: that predicts.
        host: the address that is listened at.
        port: 0 takes a free one, which the log names.
        token: that requests have to name; empty for none.
        limits: of requests.

    Raises:
        ImportError: the extra is not installed.
        ValueError: other machines could ask, and there is no token.
    """
    check_host(host, token)
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise ImportError(
            f"wsss serve needs {error.name}, which is not installed: pip install 'wsss[serve]'"
        ) from None
    from wsss.server.application import make_application

    application = make_application(model, limits or Limits(), token)
    uvicorn.run(
        application,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=30,
    )


def check_host(host: str, token: str) -> None:
    """Raise ValueError where other machines could ask without a token.

    Example:
        >>> check_host("127.0.0.1", ""), check_host("0.0.0.0", "a" * 20)
        (None, None)
        >>> check_host("0.0.0.0", "")
        Traceback (most recent call last):
        ...
        ValueError: at 0.0.0.0 other machines can ask, and there is no token; make one, \
python -c 'import secrets; print(secrets.token_urlsafe())' > token, and name it with \
--token-file token, or listen at 127.0.0.1
    """
    if token or _is_loopback(host):
        return
    raise ValueError(
        f"at {host} other machines can ask, and there is no token; make one, {_MAKE}, and name it "
        "with --token-file token, or listen at 127.0.0.1"
    )


def read_token(file: Path) -> str:
    """The token that a file holds.

    Raises:
        ValueError: there is no such file, or what it holds is short, or no token of a header.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; make one: {_MAKE}")
    token = file.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{file} holds {len(token)} characters; a token is one word of {SHORTEST} or more "
            f"letters, digits and signs. Make one: {_MAKE}"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
