"""Load data sets by name: `mm.datasets.digits()`, `mm.datasets.load("mnist")`."""

from mimachine.data.bundled import digits, mixture_2d, mixture_20d
from mimachine.data.catalogue import NAMES, load
from mimachine.data.dataset import Dataset
from mimachine.data.fashion_pca import pca_fashion_mnist, pca_fashion_mnist_published
from mimachine.data.image_sets import fashion_mnist, mnist, omniglot, omniglot_small

__all__ = [
    "Dataset",
    "NAMES",
    "digits",
    "fashion_mnist",
    "load",
    "mixture_20d",
    "mixture_2d",
    "mnist",
    "omniglot",
    "omniglot_small",
    "pca_fashion_mnist",
    "pca_fashion_mnist_published",
]
