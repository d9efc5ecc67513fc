"""Ctrl-C: where it may break in, and what becomes of it.

Python's handler of SIGINT raises KeyboardInterrupt between any two bytecodes. Three kinds of code can't bear that: a
fit, whose pool would be left half changed; the import of Numba, which would leave half a module in `sys.modules`; and
compilation, where Numba calls Python back from where nothing can be raised. Such code runs `held`: a press is noted
there, and raises where the code says so (`raise_if_pressed`), at the latest at its end.

A fit runs in `fitting`. Its first press raises nothing: the fit ends between minibatches, and keeps what was learned. A
second press in the same fit, or within two seconds in another, raises. So a loop of fits can be ended, too.

All of this concerns the main thread alone, where Python handles signals, and only where SIGINT has Python's own
handler: who has another (an event loop, a shell) keeps it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pmlp_np.base.console import say

# A press this soon after the last one means the program, not the fit.
AGAIN_SECONDS = 2.0
CHOICES = ("keep", "raise")


class Abandoned(BaseException):
    """Work that a fit can do without was given up at its first Ctrl-C; see `abandoning`. Never leaves the fit."""


@dataclass
class _Fit:
    pressed: bool = False


class _State:
    """Of the main thread."""

    # Fits under way, outermost first: a callback of one may call another.
    fits: list[_Fit]
    # Whether a press must wait, whether one does, and whether the first press of a fit, too, ends what is going on.
    held, waiting, abandons = False, False, False
    announced = True
    last_press = float("-inf")

    def __init__(self) -> None:
        self.fits = []


_state = _State()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(number: int, frame: object) -> None:
    """In place of Python's own handler while something is held."""
    state, now = _state, time.monotonic()
    first = now - state.last_press >= AGAIN_SECONDS
    state.last_press = now
    if state.fits and not state.fits[-1].pressed and first:
        for fit in state.fits:
            fit.pressed = True
    elif state.held:
        state.waiting = True
    else:
        raise KeyboardInterrupt


def pressed() -> bool:
    """Whether Ctrl-C was pressed in the fit that this thread is in."""
    return bool(_state.fits) and _state.fits[-1].pressed and _in_main_thread()


def raise_if_pressed() -> None:
    """Raise KeyboardInterrupt if one is waiting. Between two steps of what is held."""
    state = _state
    if state.waiting and _in_main_thread():
        state.waiting = False
        raise KeyboardInterrupt
    if state.abandons and pressed():
        raise Abandoned


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Run a block into which Ctrl-C does not break: KeyboardInterrupt comes from `raise_if_pressed`, or at its end."""
    state = _state
    if not _in_main_thread():
        yield
        return
    installed, before = False, state.held
    try:
        state.held = True
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            installed = True
            signal.signal(signal.SIGINT, _handle)
        try:
            yield
        except Exception as error:
            if state.waiting and not before:
                raise KeyboardInterrupt from error
            raise
        if not before:
            raise_if_pressed()
    finally:
        # What somebody else installed meanwhile stays.
        if installed and signal.getsignal(signal.SIGINT) is _handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        state.held = before
        if not before:
            waiting, state.waiting = state.waiting, False
    if not before and waiting:
        raise KeyboardInterrupt


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Run a block of a caller's own within one that is held: KeyboardInterrupt is raised wherever it falls."""
    state = _state
    if not _in_main_thread():
        yield
        return
    before = state.held, state.abandons
    try:
        state.held = state.abandons = False
        raise_if_pressed()
        yield
    finally:
        state.held, state.abandons = before


@contextlib.contextmanager
def abandoning() -> Iterator[None]:
    """Run a block that a fit can do without: `raise_if_pressed` raises Abandoned at the fit's first Ctrl-C."""
    state = _state
    if not _in_main_thread():
        yield
        return
    before = state.abandons
    try:
        state.abandons = True
        yield
    finally:
        state.abandons = before


@contextlib.contextmanager
def unannounced() -> Iterator[None]:
    """Run fits that say nothing when Ctrl-C ends them: the caller does."""
    before = _state.announced
    _state.announced = False
    try:
        yield
    finally:
        _state.announced = before


@contextlib.contextmanager
def fitting(on_interrupt: str) -> Iterator[None]:
    """Run a fit: its first Ctrl-C makes `pressed` true, and a second one raises.

    on_interrupt: what the first press does once the fit has ended: "keep" says so on stderr, "raise" raises
        KeyboardInterrupt.
    """
    state = _state
    if not _in_main_thread() or signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, _handle):
        yield
        return
    with held():
        outer = state.fits[-1] if state.fits else None
        fit = _Fit(outer is not None and outer.pressed)
        state.fits.append(fit)
        try:
            yield
        except Exception as error:
            if fit.pressed and on_interrupt == "raise":
                raise KeyboardInterrupt from error
            raise
        finally:
            state.fits.pop()
        if fit.pressed:
            if on_interrupt == "raise":
                raise KeyboardInterrupt
            if outer is None and state.announced:
                # From now on, since nobody can obey before it is said.
                state.last_press = time.monotonic()
                say(
                    "Ctrl-C ended this fit; the pool keeps what it learned. To stop the program, press Ctrl-C again "
                    'within two seconds; fits with on_interrupt="raise" stop it at once.'
                )
