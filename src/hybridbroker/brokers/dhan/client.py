"""How one call to Dhan is made: the token of the moment, the account's limits, what counts as an answer.

Reads are repeated: by the transport where the network failed, here after a longer and longer
pause where Dhan asked for fewer requests (its 805 warns of a block), and once with a fresh
token where Dhan calls this one dead. A write is sent once, whatever happens, a dead token
included. It is *accepted* only by a readable 2xx, *refused* only by a 4xx that says why in
one of Dhan's error shapes; everything else (a lost reply, 5xx, a page of HTML, a 2xx with an
error in it) leaves its outcome unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal, Self

import attrs
import msgspec

from hybridbroker.brokers.dhan.auth import AccessToken, TokenSource
from hybridbroker.brokers.dhan.faults import Fault, fault_in, read_error, token_is_dead, write_error
from hybridbroker.brokers.dhan.limits import LIMITS
from hybridbroker.clock import Clock
from hybridbroker.errors import (
    AuthenticationError,
    HybridBrokerError,
    NetworkError,
    NotSent,
    OrderOutcomeUnknown,
    RateLimited,
    ReplyLost,
    ServiceUnavailable,
    WireFormatError,
)
from hybridbroker.transport.http import HttpClient, KeepWarm, Response, RetryPolicy, Timeouts
from hybridbroker.transport.limits import RateLimiter, Window, shared
from hybridbroker.transport.urls import check_url

__all__ = ["Answer", "DhanClient", "fault_behind", "outcome_unknown", "rows_of"]

logger = logging.getLogger(__name__)

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
_THROTTLED_PAUSES: Final = (2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE: Final = 60.0


@attrs.frozen
class Answer:
    """What came back from a read, before anyone judged it."""

    payload: Any
    fault: Fault | None
    status: int
    call: str
    """Method and path, for error messages."""

    def accepted(self) -> Any:
        """Return the payload of a plain success, or raise what the refusal means."""
        if self.fault is None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            return self.payload
        raise read_error(self.fault, status=self.status, call=self.call)


class DhanClient:
    """One account's calls to one of Dhan's servers; entered and left like the `HttpClient` inside.

    ``tokens`` is asked before every call. All clients of a process on one ``account`` (client id)
    and server share their rate limits. With ``keep_warm_seconds`` an idle connection is kept open
    by small reads, the first of them on entry.
    """

    def __init__(
        self,
        *,
        base_url: str,
        tokens: TokenSource,
        clock: Clock,
        account: str,
        limits: Mapping[str, Sequence[Window]] = LIMITS,
        keep_warm_seconds: float = 0.0,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._base_url = check_url(base_url)
        self._tokens = tokens
        self._clock = clock
        self._account = account
        self._limits = limits
        self._keep_warm = KeepWarm(path="/profile", every=keep_warm_seconds) if keep_warm_seconds else None
        self._timeouts = timeouts
        self._token: AccessToken | None = None
        self._headers: Mapping[str, str] = {}
        self._refused: AccessToken | None = None
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        limiter = shared(("dhan", self._base_url, self._account), self._limits, self._clock)
        http = HttpClient(
            base_url=self._base_url,
            headers=lambda: self._headers,
            clock=self._clock,
            limiter=limiter,
            retry=_Retry(),
            timeouts=self._timeouts,
            keep_warm=self._keep_warm,
        )
        if self._keep_warm is not None:
            try:
                await self._authorize()
            except HybridBrokerError as exc:
                logger.info("opening the connection to Dhan without a token, the first call will tell: %s", exc)
        await http.__aenter__()
        self._opened = _Opened(http, limiter)
        return self

    async def __aexit__(self, *exc: object) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.http.__aexit__(*exc)

    async def read(self, path: str, *, params: Mapping[str, Any] | None = None, family: str = "read") -> Any:
        """Read by GET and return the payload of a success; raises what `ask` does, and what a refusal means."""
        return (await self.ask(path, params=params, family=family)).accepted()

    async def query(self, path: str, *, json: Mapping[str, Any], family: str) -> Any:
        """Read by POST, for calls documented to change nothing; all else as `read`."""
        return (await self.ask(path, json=json, family=family)).accepted()

    async def ask(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        family: str = "read",
    ) -> Answer:
        """Read, by POST where there is ``json``, and return what came below 500, for the caller to judge.

        Raises:
            AuthenticationError: The token is dead, and so was the one that replaced it; or there is none.
            NetworkError: As `HttpClient.get`; `RateLimited` after three ever longer pauses.
        """
        question = _Question(path, params, json, family)
        opened = self._open(str(question))
        token = await self._authorize()
        answer = await _patiently(opened, question)
        if not token_is_dead(answer.fault, status=answer.status):
            return answer
        await self._replace(token, answer)
        return await _patiently(opened, question)

    async def write(
        self,
        method: Literal["POST", "PUT", "DELETE"],
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        what: str,
        subject: str,
        params: Mapping[str, Any] | None = None,
        urgent: bool = False,
        family: str = "order",
        in_parts: bool = False,
    ) -> Any:
        """Write once, and return the payload of a success; None where a success has no body.

        ``what`` names the write in messages, ``subject`` is the id to look it up by. A success
        ``in_parts`` may hold refusals of some parts, which are the caller's to find.

        Raises:
            OrderOutcomeUnknown: It may have been carried out.
            OrderRejected: Dhan refused it and said why.
            NotSent: It certainly never left.
            AuthenticationError: The token is dead or may not do that; nothing was done.
            RateLimited: Refused unread, as far as is documented.
        """
        opened = self._open(f"{method} {path}")
        try:
            token = await self._authorize()
        except (NetworkError, WireFormatError) as exc:
            # Passed on as it is, the login server's silence would look like Dhan's to the write itself.
            raise NotSent(f"{what} was not sent, for want of a token: {exc}") from exc
        http = opened.http
        send = {"POST": http.post, "PUT": http.put, "DELETE": http.delete}[method]
        content = None if body is None else _encode(body)
        try:
            response = await send(path, json=content, params=params, family=family, urgent=urgent)
        except (ReplyLost, ServiceUnavailable) as exc:
            if isinstance(exc, ServiceUnavailable) and _is_dead(fault_behind(exc)):
                self._refused = token
            raise outcome_unknown(what, subject, str(exc)) from exc
        except asyncio.CancelledError:
            logger.warning("abandoning %s: the task was cancelled while sending, so it may be live; look it up", what)
            raise
        try:
            return _settle(response, what=what, subject=subject, in_parts=in_parts)
        except RateLimited:
            opened.limiter.pause(family, _THROTTLED_PAUSES[0])
            raise
        except HybridBrokerError:
            if token_is_dead(_fault_of(response), status=response.status):
                self._refused = token
            raise

    async def _authorize(self) -> AccessToken:
        token = await self._tokens.token()
        if token is self._refused:
            token = await self._renewed(token)
        self._refused = None
        self._use(token)
        return token

    async def _renewed(self, refused: AccessToken) -> AccessToken:
        """Return the successor of a token that a write found dead, or that very token where there is none."""
        try:
            return await self._tokens.renewed(refused)
        except AuthenticationError as exc:
            logger.warning("going on with a token that Dhan has refused: %s", exc)
            return refused

    async def _replace(self, refused: AccessToken, answer: Answer) -> None:
        logger.info("asking for a fresh token, Dhan refused this one: %s", answer.fault)
        try:
            self._use(await self._tokens.renewed(refused))
        except AuthenticationError as exc:
            told = read_error(answer.fault, status=answer.status, call=answer.call)
            raise type(told)(f"{told} ({exc})") from exc

    def _open(self, asked: str) -> _Opened:
        if self._opened is None:
            raise NotSent(f"{asked}: the client is not open; use it inside `async with`")
        return self._opened

    def _use(self, token: AccessToken) -> None:
        if token is not self._token:
            self._token, self._headers = token, token.headers()


@attrs.frozen
class _Question:
    path: str
    params: Mapping[str, Any] | None
    json: Mapping[str, Any] | None
    family: str

    def __str__(self) -> str:
        return f"{'GET' if self.json is None else 'POST'} {self.path}"


@attrs.frozen
class _Opened:
    http: HttpClient
    limiter: RateLimiter


async def _patiently(opened: _Opened, question: _Question) -> Answer:
    """Ask until Dhan does not ask for fewer requests any more; everybody of the family waits meanwhile."""
    pauses = iter(_THROTTLED_PAUSES)
    while True:
        try:
            return await _ask(opened.http, question)
        except RateLimited as exc:
            pause = next(pauses)
            wait = max(pause, exc.retry_after or 0.0)
            opened.limiter.pause(question.family, min(wait, _LONGEST_PAUSE))
            if pause == _THROTTLED_PAUSES[-1] or wait > _LONGEST_PAUSE:
                raise
            logger.info("waiting %.0f s before %s is asked again: %s", wait, question, exc)


async def _ask(http: HttpClient, question: _Question) -> Answer:
    try:
        if question.json is None:
            response = await http.get(question.path, params=question.params, family=question.family)
        else:
            response = await http.query(question.path, json=_encode(question.json), family=question.family)
    except ServiceUnavailable as exc:
        fault = fault_behind(exc)
        if not _is_an_answer(fault):
            raise
        return Answer(None, fault, exc.response.status, str(question))
    try:
        payload = response.json()
    except WireFormatError:
        if response.status < HTTPStatus.BAD_REQUEST:
            raise
        return Answer(None, None, response.status, str(question))
    fault = fault_in(payload)
    if fault is not None and fault.throttled:
        raise RateLimited(f"{question}: Dhan: {fault}")
    return Answer(payload, fault, response.status, str(question))


def _is_an_answer(fault: Fault | None) -> bool:
    """Say whether Dhan says something with a 5xx that asking again would not change."""
    return fault is not None and (fault.empty_portfolio or _is_dead(fault))


def _is_dead(fault: Fault | None) -> bool:
    return fault is not None and token_is_dead(fault, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def fault_behind(failure: ServiceUnavailable) -> Fault | None:
    """Return the error body of a 5xx, or None where there was none that could be read."""
    return None if failure.response is None else _fault_of(failure.response)


def outcome_unknown(what: str, subject: str, why: str) -> OrderOutcomeUnknown:
    """Return what is raised where ``what`` may have been carried out; ``subject`` is the id to look it up by."""
    return OrderOutcomeUnknown(
        f"{what} may or may not be live; look it up, do not send it again: {why}", client_order_id=subject
    )


def rows_of(payload: Any, *, what: str) -> list[Mapping[str, Any]]:
    """Return objects, however they came: one alone, an array, or an empty array."""
    rows = payload if isinstance(payload, list) else [payload]
    if not all(isinstance(row, Mapping) for row in rows):
        raise WireFormatError(f"{what} holds something that is no object")
    return rows


@attrs.frozen(kw_only=True)
class _Retry(RetryPolicy):
    """Repeat reads; but not one whose 500 is an answer, and not where Dhan throttles, for which we wait longer."""

    def delay(self, failure: Exception, *, attempt: int, jitter: Callable[[], float]) -> float | None:
        if isinstance(failure, RateLimited):
            return None
        if isinstance(failure, ServiceUnavailable) and _is_an_answer(fault_behind(failure)):
            return None
        return super().delay(failure, attempt=attempt, jitter=jitter)


def _settle(response: Response, *, what: str, subject: str, in_parts: bool) -> Any:
    """Return the payload of an accepted write, or raise what the answer means."""
    status = response.status
    success = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    if success and not response.body.strip():
        return None
    try:
        payload = response.json()
    except WireFormatError as exc:
        raise outcome_unknown(what, subject, str(exc)) from exc
    fault = fault_in(payload)
    if success and (fault is None or (in_parts and isinstance(payload, list))):
        return payload
    if fault is None or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise outcome_unknown(what, subject, f"{response.request}: HTTP {status} {fault or response.excerpt}")
    error = write_error(fault, status=status)
    if isinstance(error, ServiceUnavailable):
        raise outcome_unknown(what, subject, str(error)) from error
    raise error


def _fault_of(response: Response) -> Fault | None:
    try:
        return fault_in(response.json())
    except WireFormatError:
        return None
