"""Hints of messages, followed: the options that a message offers are taken out of its text and put into the command
that was refused, as somebody would who believes it."""

import re
import shlex

# What takes no value.
FLAGS = {"--overwrite", "--skip-missing-target", "--quick", "--json", "--debug", "--csv", "--day-first"}
# What may be given more than once: a hint adds to it.
REPEATABLE = {"--missing", "--not-missing", "--categorical", "--numeric", "--drop", "--keep"}
_OPTION = re.compile(r"""(--[a-z][a-z-]*)(?:[ =]((?:'[^']*'|"[^"]*"|[^\s'",;)])+))?""")


def hints(message):
    """The options of a message's hint, which comes after what was got: [("--drop", "a b"), ("--overwrite", None)]."""
    hint = message[message.index(", got ") + len(", got ") :] if ", got " in message else message
    found = []
    for option, value in _OPTION.findall(hint):
        if option in FLAGS:
            found.append((option, None))
            continue
        # A value ends before the end of its sentence.
        words = shlex.split(re.sub(r"[.?:]+$", "", value)) if value else []
        found.append((option, words[0] if words else None))
    return found


def followed(arguments, message, option=None):
    """The arguments with what the message's hint says of `option` (default: the first that it names)."""
    offered = hints(message)
    name, value = next(each for each in offered if option in (None, each[0]))
    if re.search(r"[Ll]eave out[^.]*" + re.escape(name), message):
        return without(arguments, name, value)
    if name in FLAGS:
        return [*arguments, name]
    assert value is not None, f"{message!r} names no value of {name}"
    kept = arguments if name in REPEATABLE else without(arguments, name)
    return [*kept, name, value]


def without(arguments, option, value=None):
    """The arguments without an option and its value; with this value alone, where one is given."""
    arguments, kept, place = [str(each) for each in arguments], [], 0
    while place < len(arguments):
        takes = arguments[place] == option and option not in FLAGS
        if arguments[place] == option and (not takes or value in (None, arguments[place + 1])):
            place += 1 + takes
            continue
        kept.append(arguments[place])
        place += 1
    return kept


def corrected(arguments, message):
    """The arguments with the word that the message takes for misspelled, after "got", as it guesses it was meant."""
    wrong = re.search(r", got '([^']*)'", message)[1]
    meant = re.search(r"Did you mean '?([^'?]*)'?\?", message)[1]
    return [meant if str(each) == wrong else each for each in arguments]
