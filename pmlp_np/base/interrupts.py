"""Ctrl-C: where it may interrupt, and how.

Python's handler of SIGINT raises KeyboardInterrupt between any two bytecodes. Three kinds of code cannot tolerate that:
a fit, whose pool would be left half changed; the import of Numba, which would leave half a module in `sys.modules`; and
compilation, where Numba calls Python back and nothing can be raised. Such code runs in a `held` block: Ctrl-C is
recorded there, and KeyboardInterrupt is raised at the next `raise_if_pressed`, at the latest at the end of the block.

A fit runs in a `fitting` block. Its first Ctrl-C raises nothing: the fit ends between minibatches, and the pool keeps
what it learned. A second Ctrl-C in the same fit, or within two seconds in another fit, raises. So a loop of fits can be
interrupted, too.

All of this applies to the main thread alone, where Python handles signals, and only if SIGINT has Python's default
handler: another handler (of an event loop, a shell) stays installed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pmlp_np.base.console import say

# A press this soon after the last one interrupts the program, not the fit.
AGAIN_SECONDS = 2.0
CHOICES = ("keep", "raise")


class Abandoned(BaseException):
    """Optional work of a fit was given up at its first Ctrl-C; see `abandoning`. Never leaves the fit."""


@dataclass
class _Fit:
    pressed: bool = False


class _State:
    """The state of the main thread."""

    # Fits under way, outermost first: a callback of one may call another.
    fits: list[_Fit]
    # Whether a press is deferred at present, whether a deferred press is pending, and whether the first press of a fit
    # abandons the current work.
    held, waiting, abandons = False, False, False
    announced = True
    last_press = float("-inf")

    def __init__(self) -> None:
        self.fits = []


_state = _State()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(number: int, frame: object) -> None:
    """Handle SIGINT while a block is held, in place of Python's default handler."""
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
    """Return whether Ctrl-C was pressed during the current fit of this thread."""
    return bool(_state.fits) and _state.fits[-1].pressed and _in_main_thread()


def raise_if_pressed() -> None:
    """Raise KeyboardInterrupt if a press is pending. To be called between two steps of a held block."""
    state = _state
    if state.waiting and _in_main_thread():
        state.waiting = False
        raise KeyboardInterrupt
    if state.abandons and pressed():
        raise Abandoned


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Run a block that Ctrl-C does not interrupt.

    `raise_if_pressed` raises a deferred KeyboardInterrupt, or else the end of the block does.
    """
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
        # A handler that was installed meanwhile stays.
        if installed and signal.getsignal(signal.SIGINT) is _handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        state.held = before
        if not before:
            waiting, state.waiting = state.waiting, False
    if not before and waiting:
        raise KeyboardInterrupt


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Run user code within a held block: there KeyboardInterrupt is raised at any point."""
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
    """Run optional work of a fit: `raise_if_pressed` raises Abandoned at the fit's first Ctrl-C."""
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
    """Run fits that print no message when Ctrl-C ends them: the caller prints one."""
    before = _state.announced
    _state.announced = False
    try:
        yield
    finally:
        _state.announced = before


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Run the training of a fit that SIGTERM ends as Ctrl-C does; the signal ends the process after the block.

    In the main thread alone, and only if SIGTERM has no handler.
    """
    if not _in_main_thread() or not _state.fits or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    received = False

    def handle(number: int, frame: object) -> None:
        nonlocal received
        received = True
        for fit in _state.fits:
            fit.pressed = True

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if received:
            signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def fitting(on_interrupt: str) -> Iterator[None]:
    """Run a fit: its first Ctrl-C makes `pressed` true, and a second one raises KeyboardInterrupt.

    on_interrupt: effect of the first press once the fit has ended: "keep" prints a message on stderr, "raise" raises
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
                # The two seconds begin now, when the user can read the message.
                state.last_press = time.monotonic()
                say(
                    "Ctrl-C ended this fit; the pool keeps what it learned. To stop the program, press Ctrl-C again "
                    'within two seconds; fits with on_interrupt="raise" stop it at once.'
                )
