"""Names available in doctests."""

import pytest


@pytest.fixture(autouse=True)
def _example_names(doctest_namespace):
    import torch

    import mimachine as mm

    doctest_namespace.update(torch=torch, mm=mm, MLP=mm.MLP, Joint=mm.Joint)
