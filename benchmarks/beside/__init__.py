"""Parts of `peers.py`: the same work by this library, plain PyTorch and other libraries."""
