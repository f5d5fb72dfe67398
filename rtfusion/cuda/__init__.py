"""The fuser of an NVIDIA device: three small kernels around a network, everything for a frame on one stream."""
