"""Edits of JSON values, bytes, headers of weights and training states, drawn by hypothesis."""

import copy
import io
import json
import warnings

import torch
from hypothesis import strategies as st

WRONG = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e300, -1e300, 1e-300, 10**15, 10**30, 10**400),
    *("", "x", "1", "0.5", "gaussian", "../..", "\x00", "\n", "\x1b[31m", "\ud800", "é" * 300),
    *([], {}, [1], [None], ["x"], [[1, 2], [3]], {"a": 1}, {"": []}),
)
# Written into the text, since they are no values of JSON.
TEXTS = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 5000, '{"a": 1, "a": 2}', "1e", "")
MARK = "the place of a text"


def paths(value, path=()):
    """Paths of all values in nested objects, lists and tuples."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, each in value.items():
            found += paths(each, (*path, name))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            found += paths(each, (*path, index))
    return found


def inner(value, path):
    for part in path:
        value = value[part]
    return value


@st.composite
def json_texts(draw, value):
    """The text of a JSON value with one or two edits."""
    value, text = copy.deepcopy(value), None
    for _ in range(draw(st.integers(1, 2))):
        known = paths(value)
        if not known:
            break
        path = draw(st.sampled_from(known))
        holder, name = inner(value, path[:-1]), path[-1]
        operation = draw(st.sampled_from(("delete", "rename", "copy", "replace", "nest", "text")))
        if operation == "delete":
            del holder[name]
        elif operation == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from((f"{name}x", name[:-1], name.upper())))] = holder.pop(name)
        elif operation == "copy":
            other = copy.deepcopy(inner(value, draw(st.sampled_from(known))))
            holder[name] = other
        elif operation == "nest":
            holder[name] = draw(st.sampled_from(([holder[name]], {"a": holder[name]})))
        elif operation == "text":
            holder[name], text = MARK, draw(st.sampled_from(TEXTS))
        else:
            # A copy, since the next edit may be inside it.
            holder[name] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    written = json.dumps(value, indent=draw(st.sampled_from((None, 1))))
    return written if text is None else written.replace(f'"{MARK}"', text)


@st.composite
def raw_bytes(draw, content):
    """Bytes with one edit."""
    place = draw(st.integers(0, max(0, len(content) - 1)))
    operation = draw(st.sampled_from(("flip", "cut", "insert", "swap", "remove")))
    before, after = content[:place], content[place:]
    if operation == "flip":
        bit = 1 << draw(st.integers(0, 7))
        return before + bytes([after[0] ^ bit]) + after[1:]
    if operation == "cut":
        return before
    if operation == "insert":
        return before + draw(st.binary(min_size=1, max_size=8)) + after
    length = draw(st.integers(1, 64))
    if operation == "remove":
        return before + after[length:]
    return before + after[length : 2 * length] + after[:length] + after[2 * length :]


@st.composite
def headers(draw, content):
    """A safetensors file with an edited header."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    text = draw(json_texts(header)).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data


def _sparse(tensor):
    return tensor.detach().to_sparse()


TENSORS = {
    "half": lambda t: t.half(),
    "double": lambda t: t.double(),
    "long": lambda t: t.long(),
    "bool": lambda t: t.bool(),
    "complex": lambda t: torch.complex(t.float(), t.float()),
    "flat": lambda t: t.reshape(-1),
    "longer": lambda t: t.unsqueeze(0),
    "empty": lambda t: t.reshape(-1)[:0],
    "expanded": lambda t: torch.zeros((), dtype=t.dtype).expand(t.shape),
    "huge": lambda t: torch.zeros((), dtype=t.dtype).expand(1 << 40),
    "transposed": lambda t: t.t().contiguous().t() if t.dim() == 2 else t.clone(),
    "strided": lambda t: torch.stack((t, t), -1)[..., 0],
    "sparse": _sparse,
    "meta": lambda t: t.to("meta"),
    "parameter": lambda t: torch.nn.Parameter(t.float()),
    "with gradient": lambda t: t.float().requires_grad_(),
    "nan": lambda t: torch.full_like(t.float(), torch.nan),
    "infinite": lambda t: torch.full_like(t.float(), torch.inf),
    "negative": lambda t: -t.float() - 1,
    "altered": lambda t: t + 1,
    "zero": lambda t: t * 0,
}


@st.composite
def states(draw, saved):
    """A training state with one or two edits, as bytes, and whether it has a digest.

    No bytes if it cannot be written.
    """
    saved = copy.deepcopy(saved)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(paths(saved)))
        holder, name = inner(saved, path[:-1]), path[-1]
        if isinstance(holder, tuple):
            holder = inner(saved, path[:-2])
            name = path[-2]
        operation = draw(st.sampled_from(("delete", "replace", "copy", "tensor", "tensor")))
        if operation == "delete":
            del holder[name]
        elif operation == "copy":
            other = inner(saved, draw(st.sampled_from(paths(saved))))
            # Tensors share memory; containers must not contain themselves.
            holder[name] = other if isinstance(other, torch.Tensor) else copy.deepcopy(other)
        elif operation == "tensor" and isinstance(holder[name], torch.Tensor):
            edit = TENSORS[draw(st.sampled_from(sorted(TENSORS)))]
            try:
                with warnings.catch_warnings(action="ignore"):
                    holder[name] = edit(holder[name])
            except RuntimeError:  # Some edits are not possible for some tensors.
                holder[name] = None
        else:
            holder[name] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    stream = io.BytesIO()
    try:
        torch.save(saved, stream)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, UnicodeError):
        return None, False
    return stream.getvalue(), "digest" in saved
