"""Show a registry to a scraper.

prometheus_client looks at every label of every sample anew, at every scrape, which takes most of the time of a scrape of many
endpoints. What is before the value of a sample of ours never changes, so it is made once. Whatever else is in the registry is
left to prometheus_client.
"""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

_OURS = "sessionwatch_"
_TYPES = ("counter", "gauge", "histogram")
_OPENMETRICS = "application/openmetrics-text"
_END = b"# EOF\n"
#: Most values are small counts, and the same ones again and again.
_number = functools.lru_cache(maxsize=4_096)(floatToGoString)
#: In the older format this is a metric of its own.
_CREATED = "_created"


class Families:
    """A registry of what was collected already.

    :param families: what it has.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._families


def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return what *registry* has in a format that is accepted, and which one that is.

    :param accept: the request's header of that name.
    """
    encode, content_type = exposition.choose_encoder(accept)
    others: list[Metric] = []
    lines: list[str] = []
    render = _as_openmetrics if content_type.startswith(_OPENMETRICS) else _as_text
    for family in registry.collect():
        if family.name.startswith(_OURS) and family.type in _TYPES:
            lines += render(family)
        else:
            others.append(family)
    ours = "".join(lines).encode()
    theirs = _encoded(encode, others)
    if theirs.endswith(_END):
        return theirs[: -len(_END)] + ours + _END, content_type
    return theirs + ours, content_type


def _encoded(encode: t.Callable[[t.Any], bytes], families: list[Metric]) -> bytes:
    """Let prometheus_client encode what others have, with whatever is no UTF-8 escaped."""
    try:
        return encode(Families(families))
    except UnicodeEncodeError:
        return encode(Families(map(_with_encodable_labels, families)))


def _with_encodable_labels(family: Metric) -> Metric:
    family.samples = [
        sample._replace(labels={name: _encodable(value) for name, value in sample.labels.items()})
        for sample in family.samples
    ]
    return family


def _as_openmetrics(family: Metric) -> list[str]:
    return [*_head(family.name, _escaped(family.documentation), family.type), *map(_line, family.samples)]


def _as_text(family: Metric) -> list[str]:
    created = [each for each in family.samples if each.name.endswith(_CREATED)]
    others = [each for each in family.samples if not each.name.endswith(_CREATED)]
    text = _on_one_line(family.documentation)
    name = f"{family.name}_total" if family.type == "counter" else family.name
    lines = [*_head(name, text, family.type), *map(_line, others)]
    if created:
        lines += [*_head(family.name + _CREATED, text, "gauge"), *map(_line, created)]
    return lines


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"]


def _line(sample: Sample) -> str:
    labels = sample.labels
    return f"{_before_value(sample.name, *labels, *labels.values())} {_number(sample.value)}\n"


# As many as the samples of a few thousand workers: what is asked for in the same order again and again is found only where
# all of it is kept.
@functools.lru_cache(maxsize=100_000)
def _before_value(name: str, *labels: str) -> str:
    """Return name and labels of a sample: first the names of all labels are given, then their values."""
    number = len(labels) // 2
    pairs = sorted(zip(labels[:number], labels[number:], strict=True))
    text = ",".join(f'{label}="{_escaped(_encodable(value))}"' for label, value in pairs)
    return f"{name}{{{text}}}" if text else name


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return _on_one_line(text).replace('"', '\\"')
