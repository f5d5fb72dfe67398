"""The fused frames for other processes: wire format, ZeroMQ, keys, shared memory, subscriber."""
