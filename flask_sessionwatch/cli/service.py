"""Ask a running service, by the address of its pages."""

from __future__ import annotations

import http.client
import json
import typing as t
import urllib.error
import urllib.parse
import urllib.request

import click

from ..store.base import STRANGE
from ..store.base import Data
from .trouble import Trouble

#: Seconds to wait for the service.
_PATIENCE = 10
#: Bytes of an answer that are read; one that is cut off there is none.
_MOST_BYTES = 256 * 1024 * 1024
_WHY = {
    401: "is SESSIONWATCH_TOKEN right?",
    404: "is SESSIONWATCH_TOKEN right?",  # what a service without a token answers to everybody else
    429: "it has seen too many wrong tokens, and wants to be left alone for a while.",
}


class ServiceSource:
    """Asks the API of a running service.

    :param url: the address of its pages, with the prefix.
    :param token: its token.
    """

    def __init__(self, url: str, token: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise click.UsageError("--url takes an address such as http://127.0.0.1:5000/_sessionwatch.")
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.strange: str = f"{url} answered something else; is this the address of the pages?"
        self.warning: str | None = None

    def live(self) -> Data:
        return self._get("live?stacks=false")

    def findings(self) -> list[Data]:
        return list(self._get("findings")["findings"])

    def finding(self, fingerprint: str) -> Data | None:
        return self._get(f"findings/{urllib.parse.quote(fingerprint, safe='')}")

    def scopes(self) -> Data:
        return self._get("scopes")

    def _get(self, path: str) -> Data:
        try:
            request = urllib.request.Request(f"{self._url}/api/v1/{path}", headers=self._headers)
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                data = json.loads(answer.read(_MOST_BYTES))
            problem = data["store"]["problem"]
            self.warning = problem and f"Only the worker that answered is shown: {problem}."
        except urllib.error.HTTPError as error:
            error.close()
            why = _WHY.get(error.code, "is this the address of the pages?")
            raise Trouble(f"{self._url} answered {error.code}; {why}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(f"{self._url} cannot be reached ({getattr(error, 'reason', error)}).") from None
        except STRANGE:
            raise Trouble(self.strange) from None
        return t.cast(Data, data)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent elsewhere: the token is meant for this address only."""

    def redirect_request(self, *args: t.Any, **kwargs: t.Any) -> None:
        return None
