"""What names of columns and words in cells say: identifiers, codes, ratings, times, orders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["appearance", "names_code", "names_identifier", "names_rating", "names_time", "ordered"]

_IDENTIFIERS = frozenset(
    (
        *("id", "ids", "uuid", "guid", "key", "pk", "index", "idx", "row", "rows", "rownum"),
        *("rowid", "rowname", "rownames", "nr", "no", "number", "serial", "record", "unnamed"),
        "identifier",
    )
)
# What people write before "id" without a separator.
_OWNERS = (
    *("customer", "user", "client", "passenger", "patient", "order", "product", "item"),
    *("session", "transaction", "account", "person", "employee", "student", "object", "device"),
    *("sample", "subject", "case", "loan", "member", "visit", "invoice"),
)
_CODES = frozenset(
    (
        *("code", "codes", "class", "type", "category", "cat", "kind", "group", "cluster"),
        *("segment", "region", "state", "label", "species", "color", "colour", "zone"),
        *("district", "department", "dept", "branch", "sector", "target"),
    )
)
_RATINGS = frozenset(
    (
        *("rating", "ratings", "score", "stars", "grade", "level", "satisfaction", "quality"),
        *("rank", "likert", "stage", "degree"),
    )
)
_TIMES = frozenset(
    (
        *("t", "time", "timestamp", "date", "datetime", "year", "step", "period", "tick"),
        *("epoch", "index"),
    )
)

# Orders of words, from low to high; alternatives of a level are joined by |.
_ORDERS = tuple(
    [level.strip().split("|") for level in line.split("<")]
    for line in """
    none|no < very low|lowest < low < medium|moderate|mid|middle|average|normal < high
        < very high|highest < extreme
    none < mild < moderate < severe < critical
    very small|tiny < small < medium|mid|middle < large|big < very large|huge
    xxs|2xs < xs < s < m < l < xl < xxl|2xl < xxxl|3xl < 4xl < 5xl
    never < rarely|seldom < sometimes|occasionally < often|frequently < usually < always
    strongly disagree < disagree < neutral|neither agree nor disagree|undecided < agree
        < strongly agree
    very bad|terrible|awful < bad < ok|okay|average|neutral|fair < good < very good|great
        < excellent
    very poor < poor < fair|average < good < very good < excellent
    very dissatisfied < dissatisfied < neutral < satisfied < very satisfied
    very unlikely < unlikely < neutral < likely < very likely
    beginner|novice < intermediate < advanced < expert
    junior < mid|middle|intermediate < senior < lead|principal
    bronze < silver < gold < platinum < diamond
    primary < secondary < tertiary
    first < second < third < fourth < fifth
    minor < major < critical
    slow < medium|normal < fast
    cold < mild|warm < hot
    """.replace("\n        <", " <")
    .strip()
    .splitlines()
)
_RANGE = re.compile(
    r"(?:<=?|≤|under |below |up to )?\s*(\d+(?:\.\d+)?)\s*"
    r"(?:(?:-|–|to)\s*\d+(?:\.\d+)?|\+| and over)?"
    r"|(?:>=?|≥|over |above )\s*(\d+(?:\.\d+)?)"
)


def _tokens(name: str) -> list[str]:
    """Words of a name such as customerId, customer_id or "Customer ID", in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def names_identifier(name: str) -> bool:
    """Whether a name is one of identifiers, such as customer_id, or of numbers of rows."""
    lower = name.strip().lower()
    if lower in ("", "#") or any(lower == f"{owner}id" for owner in _OWNERS):
        return True
    return not _IDENTIFIERS.isdisjoint(_tokens(name))


def names_code(name: str) -> bool:
    """Whether a name is one of codes, whose order means nothing."""
    return not _CODES.isdisjoint(_tokens(name))


def names_rating(name: str) -> bool:
    """Whether a name is one of ratings."""
    return not _RATINGS.isdisjoint(_tokens(name))


def names_time(name: str) -> bool:
    """Whether a name is one of times."""
    return not _TIMES.isdisjoint(_tokens(name))


def ordered(levels: Iterable[str], fewest: int = 3) -> list[str] | None:
    """Levels in their order from low to high, if all are of one well-known order.

    Ranges such as 18-24 and 65+ are in the order of their numbers.

    Args:
        levels: Different texts.
        fewest: Fewer levels than this count as without order; the order of two does not matter.

    Example:
        >>> ordered(["Medium", "High", "Low"])
        ['Low', 'Medium', 'High']
        >>> ordered(["S", "M", "D"]) is None
        True
    """
    levels = list(levels)
    if len(levels) < fewest:
        return None
    for scale in _ORDERS:
        ranks = {word: rank for rank, words in enumerate(scale) for word in words}
        found = [ranks.get(re.sub(r"[\s_-]+", " ", level.strip().lower())) for level in levels]
        if None not in found and len(set(found)) == len(levels):
            return [level for _, level in sorted(zip(found, levels, strict=True))]
    return _in_order_of_ranges(levels)


def _in_order_of_ranges(levels: Sequence[str]) -> list[str] | None:
    found = [_RANGE.fullmatch(level.strip().lower()) for level in levels]
    if any(each is None for each in found) or not any("-" in x or "–" in x for x in levels):
        return None
    starts = [_start(level, each) for level, each in zip(levels, found, strict=True) if each]
    if len(set(starts)) < len(levels):
        return None
    return [level for _, level in sorted(zip(starts, levels, strict=True))]


def _start(level: str, found: re.Match[str]) -> tuple[float, int]:
    """Where a range begins; one without a beginning comes before one that begins at its end."""
    if found[2] is not None:
        return float(found[2]), 1
    is_open = level.strip().lower().startswith(("<", "≤", "under", "below", "up to"))
    return float(found[1]), -1 if is_open else 0


_APPEARANCES = {
    "paths of images": r".+\.(png|jpe?g|gif|bmp|webp|tiff?)",
    "web addresses": r"(https?://|www\.).+",
    "paths of files": r"(/|[A-Za-z]:\\|\.{1,2}/).+|\S+/\S+\.\w{2,5}",
    "JSON": r"\s*[\[{].*[\]}]\s*",
    "e-mail addresses": r"[^@\s]+@[^@\s]+\.[^@\s]+",
}


def appearance(examples: Sequence[str]) -> str | None:
    """What nearly all cells look like, such as "paths of images", if it is no plain text."""
    for what, pattern in _APPEARANCES.items():
        expression = re.compile(pattern, re.DOTALL | re.IGNORECASE)
        hits = sum(expression.fullmatch(example) is not None for example in examples)
        if examples and hits >= 0.95 * len(examples):
            return what
    if examples and sum(len(example.split()) >= 4 for example in examples) > len(examples) / 2:
        return "sentences"
    return None
