"""The datapath on a CUDA device, as Triton kernels."""
