"""Takes passwords, keys and tokens out of what is written down: logs, reports, run folders, archives.

What counts as a secret: what follows a telling name (``api_key=...``, ``Authorization: Bearer ...``), the user part of
an address (``s3://KEY:SECRET@bucket``), the shapes that well-known services give their keys, private keys in PEM, and
the values of this process's own environment variables with telling names.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
"""Stands where a secret was."""

_SHORTEST = 8  # of an environment's value: shorter ones are found in innocent words
_TELLING = (
    r"(?:(?<![a-z])(?:(?:api|access|secret|private|account|signing|encryption)[-_]?keys?(?:[-_]?id)?|token|passwd|pwd|"
    r"passphrase|credentials?|authori[sz]ation|cookie|signature|session[-_]?id|auth|sig)|"
    r"(?:api|access|secret|private)key|password|secret|authtoken|accesstoken)"
)
# "token" is telling, "tokens", "max_token_count" and "author" are not.
_NAME = re.compile(rf".*{_TELLING}", re.IGNORECASE | re.DOTALL)
_VALUE = r"""(?P<value>(?:(?:bearer|basic|digest)\s+)?(?:"[^"\n]*"|'[^'\n]*'|[^\s"'&,;<>(){}\[\]]+))"""
_NAMED = re.compile(rf"""(?P<head>{_TELLING}["']?\s*[=:]\s*){_VALUE}""", re.IGNORECASE)
_OPTION = re.compile(rf"""(?P<head>(?<![\w-])--[\w-]*?{_TELLING}\s+){_VALUE}""", re.IGNORECASE)
_PLAIN = re.compile(r"(?:none|null|true|false|\d{1,5}(?:\.\d*)?|\*+|\?+|\$\{.*\}?)", re.IGNORECASE)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:bearer|basic)\s+[A-Za-z0-9._~+/-]{8,}=*"
    r"|\bA(?:KIA|SIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}"
    r"|\b(?:sk|pk|rk|hf|gh[pousr]|github_pat|glpat|npm|pypi|msy|maq|xox[abeprs]|dop_v1|whsec)[-_][\w-]{16,}"
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    re.DOTALL | re.IGNORECASE,
)
# The patterns take time in proportion to the text, whatever it is: a service writes down what strangers ask for.
_USER = re.compile(
    r"(?P<scheme>[a-z0-9+.-]://)(?:[^\s/?#'\"@]{1,1024}|[^\s/:'\"@]{0,1024}:(?!\d+/)[^\s'\"@]{1,1024})@", re.IGNORECASE
)


def names_secret(name: str) -> bool:
    """Whether what is called so is a secret: ``HF_TOKEN``, ``api-key``, ``db.password``; not ``tokens``."""
    return _NAME.fullmatch(name.strip(" -\"'")) is not None


def scrubbed(text: str) -> str:
    """The text with ``***`` for every secret in it."""
    for value in _of_environment():
        text = text.replace(value, HIDDEN)
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _SHAPES.sub(HIDDEN, text)
    return _OPTION.sub(_hide_value, _NAMED.sub(_hide_value, text))


def scrubbed_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, each without its secrets."""
    before = ["", *words]
    return [
        HIDDEN if option.startswith("-") and "=" not in option and names_secret(option) else scrubbed(word)
        for option, word in zip(before, words, strict=False)
    ]


class ScrubbingFilter(logging.Filter):
    """For a handler of ``logging``: what it writes has no secrets in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces the message; a traceback is scrubbed with it."""
        record.msg, record.args = scrubbed(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = scrubbed(record.exc_text)
        return True


def scrubbed_tree(value: Any, name: str = "") -> Any:
    """Plain data (mappings, lists, strings) with ``***`` for every secret in it, whether by its key or by its look."""
    if isinstance(value, Mapping):
        return {key: scrubbed_tree(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed_tree(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if names_secret(name) and not _innocent(value) else scrubbed(value)


def holds_secret(value: str, name: str = "") -> bool:
    """Whether a value that is called ``name`` must not be written down."""
    return scrubbed_tree(value, name) != value


def _of_environment() -> list[str]:
    values = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and names_secret(name)}
    # Not PWD, nor the place of a key's file.
    return sorted((value for value in values if not value.startswith(os.sep)), key=len, reverse=True)


def _hide_value(found: re.Match[str]) -> str:
    value = found["value"]
    if _innocent(value.strip("\"'")):
        return found[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['head']}{quote}{HIDDEN}{quote}"


def _innocent(value: str) -> bool:
    return not value or _PLAIN.fullmatch(value) is not None
